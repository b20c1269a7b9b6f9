"""Where log lines leave the process: never by the event loop, which a full pipe would stop.

A pipe whose reader has stopped, a journal or a disk that stalls, a syslog socket that is full: each
makes ``write`` wait, and with it every console of the process. So the handlers of all loggers are
replaced by outlets: a bounded queue, and a thread of the operating system that writes. When the
queue is full, or a line cannot be written, the line is dropped and counted, and the next line that
passes says how many were lost. ``logging.handlers.QueueListener`` would do, but for two things: its
thread is a greenlet under gevent's patches, and its queue is not bounded by dropping.

The master has outlets too, since a blocked master hears no signal. Threads do not survive a fork:
each process starts its own at its first line.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import io
import logging
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from gevent import monkey

from mksfilter import log, log_format
from mksfilter.proxy.server import gunicorn_adapter

__all__ = [
    "QUEUE_LIMIT",
    "Outlet",
    "OutletStream",
    "flush",
    "install",
    "outlet_for",
    "reopen_files",
]

#: Lines that wait in one outlet; a line is a few hundred bytes.
QUEUE_LIMIT: Final = 4096
#: Seconds that a process that ends gives its last lines.
_LAST_SECONDS: Final = 1.0

# Those of the operating system, whether or not gevent has put its own in their place.
_start_new_thread: Callable[..., int] = monkey.get_original("_thread", "start_new_thread")
_SimpleQueue: Any = monkey.get_original("queue", "SimpleQueue")
_sleep: Callable[[float], None] = monkey.get_original("time", "sleep")

_outlets: weakref.WeakSet[_Queue] = weakref.WeakSet()


class _Sink(Protocol):
    """What an outlet writes to; only :meth:`prepare` is called outside the thread."""

    def prepare(self, record: logging.LogRecord, formatter: logging.Formatter | None) -> Any:
        """What to queue of *record*."""

    def write(self, item: Any) -> None:
        """Write what was queued; may wait.

        :raises Exception: it cannot be written.
        """

    def reopen(self) -> None:
        """The file was renamed: open it anew."""


class _Descriptor:
    """A stream or a file, by its descriptor: nothing else of the process holds a lock on it.

    :param path: of a file; empty: a stream.
    """

    def __init__(self, fd: int, path: str = "") -> None:
        self._fd = fd
        self._path = path
        self._cut = False

    def prepare(self, record: logging.LogRecord, formatter: logging.Formatter | None) -> bytes:
        """See :class:`_Sink`."""
        return encoded((formatter or _PLAIN).format(record) + "\n")

    def write(self, item: bytes) -> None:
        """See :class:`_Sink`."""
        if self._cut:
            item = b"\n" + item
        written = 0
        try:
            while written < len(item):
                try:
                    written += os.write(self._fd, item[written:])
                except BlockingIOError:  # a neighbour has made it non-blocking
                    _sleep(0.05)
        finally:
            self._cut = 0 < written < len(item) or (self._cut and not written)

    def reopen(self) -> None:
        """See :class:`_Sink`. Where that fails the old file goes on."""
        if not self._path:
            return
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd, self._fd = self._fd, os.open(self._path, flags, 0o666)
            os.close(fd)


class _Handler:
    """Any other handler, for example that of syslog: only the thread ever calls it."""

    def __init__(self, handler: logging.Handler) -> None:
        handler.lock = _NoLock()  # type: ignore[assignment]
        handler.handleError = _raise  # type: ignore[method-assign,assignment]
        self._handler = handler

    def prepare(
        self, record: logging.LogRecord, _formatter: logging.Formatter | None
    ) -> logging.LogRecord:
        """See :class:`_Sink`. What it refers to may change, so it becomes text now."""
        record = copy.copy(record)
        if record.args:
            record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = record.exc_text or _PLAIN.formatException(record.exc_info)
            record.exc_info = None
        return record

    def write(self, item: logging.LogRecord) -> None:
        """See :class:`_Sink`."""
        if self._handler.filter(item):
            self._handler.emit(item)

    def reopen(self) -> None:
        """See :class:`_Sink`."""
        if isinstance(self._handler, logging.FileHandler):
            self._handler.close()


class _Queue:
    """The queue before a sink, and its thread."""

    def __init__(self, sink: _Sink, limit: int = QUEUE_LIMIT) -> None:
        self.sink = sink
        self._limit = limit
        self.reset()
        _outlets.add(self)

    def reset(self) -> None:
        """Begin anew, as a process does after a fork."""
        self._waiting = _SimpleQueue()
        self._started = False
        self._reopen = False
        # Each is counted by one side only: an addition is no atomic step.
        self._refused = self._failed = self._said = 0
        self._taken = self._done = 0

    @property
    def dropped(self) -> int:
        """Lines that were lost since the process began."""
        return self._refused + self._failed

    @property
    def idle(self) -> bool:
        """All is written, or lost."""
        return self._taken == self._done

    def offer(self, item: Any) -> bool:
        """Queue *item*; False: there is no room, and it is counted."""
        if self._taken - self._done >= self._limit:
            self._refused += 1
            return False
        self._taken += 1
        self._waiting.put(item)
        if not self._started:
            self._started = True
            _start_new_thread(self._run, ())
        return True

    def unsaid(self) -> int:
        """Lines that were lost since it was last asked, once there is room to say so."""
        dropped = self.dropped
        if dropped == self._said or self._taken - self._done >= self._limit - 1:
            return 0
        more, self._said = dropped - self._said, dropped
        return more

    def reopen(self) -> None:
        """Have the sink opened anew before the next line."""
        self._reopen = True

    def _run(self) -> None:
        while True:
            item = self._waiting.get()
            try:
                if self._reopen:
                    self._reopen = False
                    self.sink.reopen()
                self.sink.write(item)
            except Exception:  # no room on the disk, no syslog: nobody is left to be told
                self._failed += 1
            self._done += 1


class Outlet(logging.Handler):
    """Takes the place of a handler, with its level, filters, format and name."""

    def __init__(self, handler: logging.Handler, sink: _Sink, limit: int = QUEUE_LIMIT) -> None:
        super().__init__(handler.level)
        self.filters = list(handler.filters)
        self.setFormatter(handler.formatter)
        self.queue = _Queue(sink, limit)
        if name := handler.get_name():
            handler.set_name(None)  # type: ignore[arg-type]
            self.set_name(name)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue *record*; never waits."""
        try:
            sink = self.queue.sink
            if dropped := self.queue.unsaid():
                self.queue.offer(sink.prepare(_lines_dropped(dropped), self.formatter))
            self.queue.offer(sink.prepare(record, self.formatter))
        except Exception:
            self.handleError(record)


class OutletStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` for whatever prints there: warnings, gevent's tracebacks."""

    def __init__(self, stream: Any, fd: int) -> None:
        super().__init__()
        self._stream = stream
        self._queue = _Queue(_Descriptor(fd))

    def write(self, text: str) -> int:
        """Queue *text*; never waits."""
        self._queue.offer(encoded(text))
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Of the stream."""
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return bool(self._stream.isatty())


def install() -> None:
    """Put outlets in the place of every handler of this process; harmless when repeated."""
    for logger in _loggers():
        for number, handler in enumerate(logger.handlers):
            outlet = outlet_for(handler)
            if outlet is not None:
                logger.handlers[number] = outlet
    gunicorn_adapter.format_logs(log_format.chosen())
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:
            with contextlib.suppress(OSError):
                stream.flush()
                setattr(sys, name, OutletStream(stream, stream.fileno()))


def reopen_files() -> None:
    """Log files were rotated (SIGUSR1): the next line goes into a new one."""
    for queue in list(_outlets):
        queue.reopen()


def flush(seconds: float = _LAST_SECONDS) -> None:
    """Give the lines that wait *seconds*, and no more."""
    deadline = time.monotonic() + seconds
    while any(not queue.idle for queue in list(_outlets)) and time.monotonic() < deadline:
        _sleep(0.005)


def encoded(text: str) -> bytes:
    """*text* as a log has it."""
    return text.encode("utf-8", errors="backslashreplace")


def outlet_for(handler: logging.Handler, limit: int = QUEUE_LIMIT) -> Outlet | None:
    """What takes the place of *handler*; None: it may stay."""
    if isinstance(handler, (Outlet, logging.NullHandler)):
        return None
    if type(handler) is logging.FileHandler:
        if handler.stream is None:
            handler.stream = open(handler.baseFilename, "a")  # noqa: SIM115
        outlet = Outlet(
            handler, _Descriptor(os.dup(handler.stream.fileno()), handler.baseFilename), limit
        )
        handler.close()
    elif type(handler) is logging.StreamHandler:
        try:
            fd = handler.stream.fileno()
        except (AttributeError, OSError):
            return None  # in memory
        outlet = Outlet(handler, _Descriptor(fd), limit)
    else:
        outlet = Outlet(handler, _Handler(handler), limit)
    gunicorn_adapter.keep_mark(handler, outlet)
    return outlet


def _loggers() -> Iterator[logging.Logger]:
    yield logging.getLogger()
    for logger in list(logging.getLogger().manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


def _lines_dropped(lines: int) -> logging.LogRecord:
    return logging.getLogger("mksfilter").makeRecord(
        __name__,
        logging.WARNING,
        __file__,
        0,
        log.event(
            "log-lines-dropped",
            lines=lines,
            detail="the log was not read fast enough, or could not be written",
        ),
        (),
        None,
    )


class _NoLock:
    """For a handler that one thread calls: a process that ends must not wait for that thread."""

    def acquire(self, *_: object) -> bool:
        return True

    def release(self) -> None:
        """Nothing."""

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing."""


def _raise(_record: logging.LogRecord) -> None:
    raise


def _after_fork() -> None:
    for queue in list(_outlets):
        queue.reset()


_PLAIN = logging.Formatter()

log.count_dropped_by(lambda: sum(queue.dropped for queue in list(_outlets)))
os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush)
