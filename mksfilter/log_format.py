"""One format for every line of the log: text for people, or JSON for programs.

Text is ``[time] [pid] [LEVEL] logger: message``. A line of JSON has the fields of oslo.log's
``JSONFormatter``, so that what reads the logs of Nova reads ours. What an event is made of
(:func:`mksfilter.log.event`) stands in ``extra`` once more, each value by its name.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Mapping
from typing import Any

__all__ = ["Event", "JSONFormatter", "TextFormatter", "choose", "chosen"]


class Event(str):
    """The text of an event, and what it is made of.

    :ivar fields: by name; ``event`` is the event's own.
    """

    __slots__ = ("fields",)

    fields: Mapping[str, object]

    def __new__(cls, text: str, fields: Mapping[str, object]) -> Event:
        """An event with this *text*."""
        self = super().__new__(cls, text)
        self.fields = fields
        return self


class TextFormatter(logging.Formatter):
    """A line for people. One that is no event ends with the session that it is about."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s",
            "[%Y-%m-%d %H:%M:%S %z]",
        )

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        line = super().formatMessage(record)
        if not isinstance(record.msg, Event):
            for name, value in _context(record).items():
                line += f" {name.removesuffix('_id')}={value}"
        return line


class JSONFormatter(logging.Formatter):
    """A line of JSON with oslo.log's names."""

    def __init__(self) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S %z")
        self._hostname = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        message = record.getMessage()
        event = record.msg if isinstance(record.msg, Event) else None
        line: dict[str, Any] = {
            "message": message,
            "asctime": self.formatTime(record, self.datefmt),
            "name": record.name,
            "levelname": record.levelname,
            "levelno": record.levelno,
            "pathname": record.pathname,
            "filename": record.filename,
            "module": record.module,
            "lineno": record.lineno,
            "funcname": record.funcName,
            "created": record.created,
            "msecs": record.msecs,
            "relative_created": record.relativeCreated,
            "thread": record.thread,
            "thread_name": record.threadName,
            "process_name": record.processName,
            "process": record.process,
            "traceback": None,
            "hostname": self._hostname,
            "error_summary": "",
            "extra": {} if event is None else dict(event.fields),
            "context": _context(record),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["traceback"] = record.exc_text.splitlines()
            line["error_summary"] = line["traceback"][-1]
        return json.dumps(line, default=str)


def _context(record: logging.LogRecord) -> dict[str, str]:
    """The session and the request of a record, where it has any."""
    if isinstance(record.msg, Event):
        named: dict[str, Any] = {
            f"{name}_id": record.msg.fields.get(name) for name in ("session", "request")
        }
    else:
        named = {name: getattr(record, name, None) for name in ("session_id", "request_id")}
    return {name: str(value) for name, value in named.items() if value}


_FORMS = {"text": TextFormatter, "json": JSONFormatter}
_chosen: logging.Formatter = TextFormatter()


def choose(form: str) -> None:
    """Every line of this process is ``text`` or ``json`` from here on."""
    global _chosen
    _chosen = _FORMS[form]()


def chosen() -> logging.Formatter:
    """What makes the lines of this process."""
    return _chosen
