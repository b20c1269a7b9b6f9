"""Logging and masking: one format for every line, and no secret in any (CVE-2015-9543).

A line is ``event=NAME`` and ``key=value`` pairs, made by :func:`event`; ``detail`` is for people,
all else is for programs too. No token, ticket or password may stand in a log: gunicorn's access log
is given a copy of the request without them, and behind that, as defence in depth, a filter goes
over every record of the process, whoever made it.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = [
    "SecretsFilter",
    "configure_logging",
    "event",
    "mask_secrets",
    "scrub",
    "scrub_environ",
    "scrub_headers",
]

_SECRETS = re.compile(
    r"mks1\.[\w.\-]+"
    r"|(?<=mks\.token\.)[\w.\-]+"
    r"|(?<=/ticket/)[^\s\"'<>]+"
    r"|(?<=\btoken=)[^\s\"'&<>]+"
    r"|(?<=token%3[Dd])[^\s\"'&<>]+"
    r"|(?<=\bsessionTicket=)[^\s\"'&<>]+"
)
_MASK = "***"
_HEADERS_KEPT_OUT = frozenset(
    {"authorization", "cookie", "proxy-authorization", "sec-websocket-protocol", "x-auth-token"}
)
_ENVIRON_KEPT_OUT = frozenset(
    "HTTP_" + name.upper().replace("-", "_") for name in _HEADERS_KEPT_OUT
)


def scrub(text: str) -> str:
    """*text* with everything masked that looks like a secret of ours."""
    return _SECRETS.sub(_MASK, text)


def _without_query(url: str) -> str:
    path, mark, _ = url.partition("?")
    return scrub(path) + (mark and "?" + _MASK)


def scrub_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a WSGI environ for the access log."""
    clean = {name: value for name, value in environ.items() if name not in _ENVIRON_KEPT_OUT}
    for name in ("RAW_URI", "HTTP_REFERER"):
        if name in clean:
            clean[name] = _without_query(clean[name])
    if clean.get("QUERY_STRING"):
        clean["QUERY_STRING"] = _MASK
    clean["PATH_INFO"] = scrub(clean.get("PATH_INFO", ""))
    return clean


def scrub_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """A copy of request headers for the access log."""
    return [
        (name, _without_query(value) if name.lower() == "referer" else scrub(value))
        for name, value in headers
        if name.lower() not in _HEADERS_KEPT_OUT
    ]


class SecretsFilter(logging.Filter):
    """Masks secrets in a record's message and in its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True; the record is changed in place only when there is something to mask."""
        try:
            message = record.getMessage()
        except Exception:
            return True
        clean = scrub(message)
        if clean != message:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            clean = scrub(text)
            if clean != text:
                # Formatters print exc_text when it is there and format exc_info otherwise.
                record.exc_text = clean
        return True


def configure_logging(level: str) -> None:
    """Send ``mksfilter``'s records to standard error, unless logging is set up already, with
    secrets masked; harmless when repeated."""
    mask_secrets()
    logger = logging.getLogger("mksfilter")
    logger.setLevel(level)
    if not logging.getLogger().handlers and not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(
            logging.Formatter(
                "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s",
                "[%Y-%m-%d %H:%M:%S %z]",
            )
        )
        logger.addHandler(handler)


def mask_secrets() -> None:
    """Put :class:`SecretsFilter` before every record of this process; harmless when repeated."""
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _FilteredRecords):
        logging.setLogRecordFactory(_FilteredRecords(factory))


class _FilteredRecords:
    """A record factory: the one place that every logger's records pass, third parties' too."""

    def __init__(self, factory: Callable[..., logging.LogRecord]) -> None:
        self._factory = factory
        self._filter = SecretsFilter()

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._factory(*args, **kwargs)
        self._filter.filter(record)
        return record


_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")


def event(name: str, /, **fields: object) -> str:
    """The text of a log line.

    Values that are not one plain word are quoted, so that none can pass for another field or
    another line; None is written as an empty one.

    :param name: what happened, in words joined by hyphens; stable, since programs look for it.
    :param fields: what is known of it. ``detail``: an error's line, or what it means.
    :returns: ``event=NAME key=value key="two words" ...``
    """
    words = [f"event={name}"]
    for key, value in fields.items():
        text = "" if value is None else str(value)
        if not _PLAIN.fullmatch(text):
            text = '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
        words.append(f"{key}={text}")
    return " ".join(words)
