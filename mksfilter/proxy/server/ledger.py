"""The open sessions of one worker, in memory that outlives it.

A worker that is killed can tell nobody what it had open. So it writes each session down in memory
that it shares with gunicorn's master, who tells in its place.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping

__all__ = ["Ledger", "leave_behind", "take_over"]

_SLOTS = 16384
_SIZE = 512  # bytes of a slot; memory that is never written costs nothing
_LENGTH = struct.Struct("=H")
#: Facts that are written without their names, in this order.
_NAMED = (
    "user",
    "project",
    "instance",
    "request",
    "session",
    "jti",
    "mode",
    "vm",
    "vcenter",
    "host",
    "client",
    "connection",
    "since",
    "returns",
)
#: Where not all of the facts fit.
_NEEDED = ("session", "connection", "jti", "instance", "request")


class Ledger:
    """
    :param slots: sessions that have room; a further one is not written down.
    """

    def __init__(self, slots: int = _SLOTS) -> None:
        self._memory = mmap.mmap(-1, slots * _SIZE)
        self._slots = slots
        self._used = 0
        self._free: list[int] = []

    def enter(self, facts: Mapping[str, object]) -> int | None:
        """Write a session down.

        :returns: for :meth:`leave`; None: there was no room.
        """
        entry = _entry(facts)
        if entry is None:
            return None
        if self._free:
            slot = self._free.pop()
        elif self._used < self._slots:
            slot, self._used = self._used, self._used + 1
        else:
            return None
        start = slot * _SIZE
        # The length comes last: until then there is nothing.
        self._memory[start + _LENGTH.size : start + _LENGTH.size + len(entry)] = entry
        _LENGTH.pack_into(self._memory, start, len(entry))
        return slot

    def leave(self, slot: int | None) -> None:
        """The session has ended, and its end is told."""
        if slot is not None:
            _LENGTH.pack_into(self._memory, slot * _SIZE, 0)
            self._free.append(slot)

    def left_open(self) -> Iterator[dict[str, object]]:
        """The sessions that have not ended; called when the worker has."""
        for slot in range(self._slots):
            start = slot * _SIZE
            (length,) = _LENGTH.unpack_from(self._memory, start)
            if length:
                start += _LENGTH.size
                yield _facts(self._memory[start : start + length])
            elif not any(self._memory[start : start + 8]):
                return  # never used, as all that follow


#: What workers had open that were killed, until the next worker is forked and records it.
_left_behind: list[dict[str, object]] = []


def leave_behind(facts: dict[str, object]) -> None:
    """Called in the master: nobody has recorded the end of this session."""
    _left_behind.append(facts)


def take_over() -> list[dict[str, object]]:
    """All that were left behind, for a worker that is about to be forked."""
    taken, _left_behind[:] = list(_left_behind), []
    return taken


def _entry(facts: Mapping[str, object]) -> bytes | None:
    for chosen in (facts, {name: facts[name] for name in _NEEDED if name in facts}):
        rest = dict(chosen)
        values: list[object] = [rest.pop(name, None) for name in _NAMED]
        entry = json.dumps([*values, rest], separators=(",", ":")).encode("utf-8")
        if len(entry) <= _SIZE - _LENGTH.size:
            return entry
    return None


def _facts(entry: bytes) -> dict[str, object]:
    *values, rest = json.loads(entry)
    named = {name: value for name, value in zip(_NAMED, values, strict=True) if value is not None}
    return {**named, **rest}
