"""Logging and masking: one format for every line, and no secret in any (CVE-2015-9543).

A line is ``event=NAME`` and ``key=value`` pairs, made by :func:`event`; ``detail`` is for people,
all else is for programs too. No token, ticket or password may stand in a log: gunicorn's access log
is given a copy of the request without them, and behind that, as defence in depth, a filter goes
over every record of the process, whoever made it. There each record also gets the session and the
request that are being served (:func:`serving`), as ``session_id`` and ``request_id``.
"""

from __future__ import annotations

import contextvars
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mksfilter import log_format
from mksfilter.log_format import Event

__all__ = [
    "SecretsFilter",
    "configure_logging",
    "count_dropped_by",
    "event",
    "lines_dropped",
    "mask_secrets",
    "name_session",
    "scrub",
    "scrub_environ",
    "scrub_headers",
    "serving",
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
_NAME = "mksfilter"  # of the handler that is ours
_HEADERS_KEPT_OUT = frozenset(
    {"authorization", "cookie", "proxy-authorization", "sec-websocket-protocol", "x-auth-token"}
)
_ENVIRON_KEPT_OUT = frozenset(
    "HTTP_" + name.upper().replace("-", "_") for name in _HEADERS_KEPT_OUT
)


#: Characters of one value in a line, and of a whole line that others make. A request has up to
#: 30 kB that a stranger writes, and to look for secrets in it takes longer than to serve it.
MAX_VALUE = 1024
_MAX_LINE = 16_384


def shorten(text: str, most: int = MAX_VALUE) -> str:
    """*text*, with what is beyond *most* characters counted and left out."""
    if len(text) <= most:
        return text
    return f"{text[:most]}...({len(text) - most} more)"


def scrub(text: str) -> str:
    """*text* with everything masked that looks like a secret of ours."""
    return _SECRETS.sub(_MASK, text)


def _without_query(url: str) -> str:
    path, mark, _ = shorten(url).partition("?")
    return scrub(path) + (mark and "?" + _MASK)


def scrub_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a WSGI environ for the access log."""
    clean = {
        name: shorten(value) if isinstance(value, str) else value
        for name, value in environ.items()
        if name not in _ENVIRON_KEPT_OUT
    }
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
        (name, _without_query(value) if name.lower() == "referer" else scrub(shorten(value)))
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
        clean = scrub(shorten(message, _MAX_LINE))
        if clean != message:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            clean = scrub(text)
            if clean != text:
                # Formatters print exc_text when it is there and format exc_info otherwise.
                record.exc_text = clean
        return True


def configure_logging(level: str, form: str = "text") -> None:
    """Send ``mksfilter``'s records to standard error, unless logging is set up already, with
    secrets masked; harmless when repeated.

    :param form: ``text`` or ``json``; see :mod:`mksfilter.log_format`.
    """
    mask_secrets()
    log_format.choose(form)
    logger = logging.getLogger("mksfilter")
    logger.setLevel(level)
    if not logging.getLogger().handlers and not logger.handlers:
        ours = logging.StreamHandler(sys.stderr)
        ours.set_name(_NAME)
        logger.addHandler(ours)
    for handler in logger.handlers:
        if handler.get_name() == _NAME:
            handler.setFormatter(log_format.chosen())


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
        served = _served.get()
        record.session_id = served.get("session")
        record.request_id = served.get("request")
        return record


_NOBODY: Mapping[str, str] = {}
#: What every line of now is about: ``session`` and ``request``.
_served: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar(
    "served", default=_NOBODY
)


class serving:
    """Lines in this context, and in no other greenlet, have what :func:`name_session` tells."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _served.set(_NOBODY)

    def __exit__(self, *_: object) -> None:
        _served.reset(self._before)


def name_session(session: str, request: str) -> None:
    """From here on every line names this session and this request, until :func:`serving` ends.

    :param session: its id.
    :param request: id of the API request that asked for the console.
    """
    _served.set({"session": session, "request": request})


#: Each says how many lines it has lost in this process.
_losers: list[Callable[[], int]] = []


def count_dropped_by(loser: Callable[[], int]) -> None:
    """Have :func:`lines_dropped` count what *loser* says, too."""
    _losers.append(loser)


def lines_dropped() -> int:
    """Lines of the log that this process has lost since it began."""
    return sum(loser() for loser in _losers)


_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")


def event(name: str, /, **fields: object) -> Event:
    """The text of a log line.

    Values that are not one plain word are quoted, so that none can pass for another field or
    another line; None is written as an empty one. The session and the request that are being served
    are added where *fields* do not have them.

    :param name: what happened, in words joined by hyphens; stable, since programs look for it.
    :param fields: what is known of it. ``detail``: an error's line, or what it means.
    :returns: ``event=NAME key=value key="two words" ...``
    """
    served = _served.get()
    if served:
        fields = {**fields, **{key: served[key] for key in served.keys() - fields.keys()}}
    words = [f"event={name}"]
    values: dict[str, object] = {"event": name}
    for key, value in fields.items():
        text = "" if value is None else str(value)
        if len(text) > MAX_VALUE:
            text = shorten(text)
        values[key] = value if isinstance(value, (bool, int, float)) else text
        if not _PLAIN.fullmatch(text):
            text = '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
        words.append(f"{key}={text}")
    return Event(" ".join(words), values)
