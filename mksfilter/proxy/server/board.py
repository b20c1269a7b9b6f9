"""What the worker processes of one node tell each other: a page of shared memory for each.

gunicorn's master makes the board before it forks, so all of its workers have the same memory. It is
anonymous: no file system can be full below it (a write to a mapped file whose disk is full kills
the process with SIGBUS), nothing is left behind by whatever ends the node, and it needs no
directory that somebody has to name, empty and clean up.

A page has one writer and two halves. What is published goes into the half that nobody reads, and
then one byte says which half that is. A page whose process has ended keeps what it said until
another process gets it, and takes that over.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

__all__ = ["Board", "Owner", "Page", "Report"]

#: Pages: workers that serve, and those of earlier configurations that still drain.
_PAGES = 128
#: Bytes of a page; memory that is never written costs nothing.
_SIZE = 1 << 18

_HALVES = 8  # offset of the first half; before it, the number of the current one
_HEAD = struct.Struct("=QQII")  # process id, its start, length, CRC-32


class Report(NamedTuple):
    """What one process has published.

    :param alive: the process is running.
    :param pid: its id.
    """

    alive: bool
    pid: int
    content: bytes


class Owner(Protocol):
    """A worker, as gunicorn's master knows it.

    :ivar pid: no number before it is forked.
    """

    pid: object


class Board:
    """All pages.

    :param pages: how many processes there may be at a time.
    :param size: bytes of a page.
    """

    def __init__(self, pages: int = _PAGES, size: int = _SIZE) -> None:
        self._memory = mmap.mmap(-1, pages * size)
        self._size = size
        self._owners: list[Owner | None] = [None] * pages

    def take(self, owner: Owner) -> Page:
        """A page for *owner*. Called in the master, before the fork.

        :returns: when all are taken, a page that nobody else sees.
        """
        for number, taken in enumerate(self._owners):
            if taken is None or (isinstance(taken.pid, int) and started(taken.pid) is None):
                self._owners[number] = owner
                return self._page(number)
        return alone(self._size)

    def page(self) -> Page:
        """The first page, for a process that shares the board with nobody."""
        return self._page(0)

    def read(self) -> Iterator[Report]:
        """What all have published."""
        for number in range(len(self._owners)):
            report = self._page(number).read()
            if report is not None:
                yield report

    def _page(self, number: int) -> Page:
        return Page(self, memoryview(self._memory)[number * self._size :][: self._size])


def alone(size: int = _SIZE) -> Page:
    """The only page of a board."""
    return Board(1, size).page()


class Page:
    """Where one process publishes.

    :ivar board: all that its siblings publish, and itself.
    """

    def __init__(self, board: Board, memory: memoryview) -> None:
        self.board = board
        self._memory = memory
        self._half = (len(memory) - _HALVES) // 2
        #: Bytes that fit.
        self.room = self._half - _HEAD.size

    def publish(self, content: bytes) -> None:
        """Replace what this process has said before.

        :raises ValueError: longer than :attr:`room`.
        """
        if len(content) > self.room:
            raise ValueError(f"{len(content)} bytes, and a page has room for {self.room}")
        other = 1 - self._memory[0]
        start = _HALVES + other * self._half
        pid = os.getpid()
        _HEAD.pack_into(
            self._memory, start, pid, started(pid) or 0, len(content), zlib.crc32(content)
        )
        start += _HEAD.size
        self._memory[start : start + len(content)] = content
        self._memory[0] = other

    def read(self) -> Report | None:
        """What was published last, by this process or the one that had the page before."""
        for _ in range(3):
            start = _HALVES + self._memory[0] * self._half
            pid, since, length, checksum = _HEAD.unpack_from(self._memory, start)
            if not pid:
                return None
            start += _HEAD.size
            content = bytes(self._memory[start : start + length])
            # Read while it was being written, twice over: only after a long pause of ours.
            if zlib.crc32(content) == checksum:
                return Report(started(pid) == since, pid, content)
        return None


def started(pid: int) -> int | None:
    """When process *pid* was started (clock ticks since boot: another process that gets the same
    number later has another start); None when there is none, or it has ended and is not yet
    reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
