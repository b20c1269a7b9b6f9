"""Audit events in a file, a line each; several processes may append to it.

A line is written with one call to a file that is opened for appending, so that lines of other
processes do not mix with it (POSIX write(2), O_APPEND). When the file was renamed, as logrotate
does, or removed, a new one is made. What a full disk left of a line is ended before the next one,
so that it spoils no other.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final

from mksfilter.audit.events import AuditEvent

__all__ = ["FileSink"]

_MODE: Final = 0o640


class FileSink:
    """
    :param path: made with mode 0640 where it is not there yet.
    :param blocking: runs what may block in a way that no event loop notices, and returns its
        result; by default it runs it as it is. What it runs raises nothing: gevent's thread pool
        writes a traceback to standard error, of each exception, before its caller catches it.
    """

    name = "file"

    def __init__(
        self,
        path: str,
        *,
        blocking: Callable[[Callable[[], OSError | None]], OSError | None] = lambda call: call(),
    ) -> None:
        self._path = path
        self._blocking = blocking
        self._file: int | None = None
        self._broken = False

    def write(self, item: AuditEvent) -> None:
        """:raises OSError: it cannot be written."""
        line = item.to_line().encode() + b"\n"
        failure = self._blocking(lambda: self._try(line))
        if failure is not None:
            raise failure

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def _try(self, line: bytes) -> OSError | None:
        try:
            self._append(line)
        except OSError as exc:
            return exc
        return None

    def _append(self, line: bytes) -> None:
        try:
            file = self._current()
            data = b"\n" + line if self._broken else line
            written = os.write(file, data)
        except OSError as exc:
            raise OSError(exc.errno, f"{self._path}: {exc.strerror}") from None
        if written < len(data):
            self._broken = True
            raise OSError(errno.ENOSPC, f"{self._path}: {os.strerror(errno.ENOSPC)}")
        self._broken = False

    def _current(self) -> int:
        if self._file is not None:
            with contextlib.suppress(OSError):
                mine, there = os.fstat(self._file), os.stat(self._path)
                if (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino):
                    return self._file
            self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, _MODE)
        return self._file
