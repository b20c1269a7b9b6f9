"""The processes of one node, in memory that all of them share: who serves, who drains, until when.

gunicorn's master makes it before it forks. The master takes a cell for each worker and gives the
orders; each worker writes into its own cell and obeys. The memory is anonymous: no disk can be full
below it, and nothing is left behind.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import mmap
import signal
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from mksfilter.proxy.server import board

__all__ = ["DRAIN_SIGNAL", "Cell", "Roster", "State", "Worker", "boot_id", "report", "shared"]

#: Orders the master to take no new sessions; no terminal and no service manager sends it.
DRAIN_SIGNAL: Final = signal.SIGRTMIN + 1

_CELLS = 1024
_ORDERS = struct.Struct("=BB6xdd")  # draining, served, drain_time, ends_at
_CELL = struct.Struct("=iiII")  # process id, state, pages, others
_FIRST = 64


class State(enum.IntEnum):
    """Of a worker."""

    STARTING = 0
    SERVING = 1
    DRAINING = 2
    #: It cannot start, and answers 503 where nobody else does.
    UNFIT = 3


@dataclasses.dataclass(frozen=True)
class Worker:
    """What a cell says.

    :param pages: sessions that can move to another node by themselves.
    :param others: sessions that cannot.
    """

    pid: int
    state: State
    pages: int
    others: int


class Roster:
    """See above."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _FIRST + _CELLS * _CELL.size)
        self._taken: set[int] = set()

    def take(self) -> Cell:
        """A cell for a worker that is about to be forked."""
        number = next((one for one in range(_CELLS) if one not in self._taken), None)
        if number is None:
            return Cell(mmap.mmap(-1, _CELL.size), 0, lambda: None)
        self._taken.add(number)
        return Cell(
            self._memory,
            _FIRST + number * _CELL.size,
            functools.partial(self._taken.discard, number),
        )

    def workers(self) -> Iterator[Worker]:
        """Those that are running."""
        for number in range(_CELLS):
            pid, state, pages, others = _CELL.unpack_from(
                self._memory, _FIRST + number * _CELL.size
            )
            if pid:
                yield Worker(pid, State(state), pages, others)

    @property
    def draining(self) -> bool:
        """The node takes no new sessions, by order."""
        return bool(self._orders()[0])

    def drain(self, ends_at: float = 0.0) -> None:
        """Order it.

        :param ends_at: monotonic seconds at which the last session is ended; 0: no end is set.
        """
        _, served, drain_time, _ = self._orders()
        _ORDERS.pack_into(self._memory, 0, 1, served, drain_time, ends_at)

    def undo_drain(self) -> None:
        """The node takes sessions again."""
        _, served, drain_time, _ = self._orders()
        _ORDERS.pack_into(self._memory, 0, 0, served, drain_time, 0.0)

    @property
    def ends_at(self) -> float:
        """See :meth:`drain`."""
        return float(self._orders()[3])

    @property
    def served(self) -> bool:
        """A worker of this node has served: what fails now was good once."""
        return bool(self._orders()[1])

    @property
    def drain_time(self) -> float:
        """Seconds for which a node that stops keeps sessions that cannot move."""
        return float(self._orders()[2])

    def serve(self, drain_time: float) -> None:
        """A worker begins to serve, with this *drain_time*."""
        draining, _, _, ends_at = self._orders()
        _ORDERS.pack_into(self._memory, 0, draining, 1, drain_time, ends_at)

    def _orders(self) -> tuple[int, int, float, float]:
        return _ORDERS.unpack_from(self._memory, 0)


class Cell:
    """Where a worker says what it does."""

    def __init__(self, memory: mmap.mmap, offset: int, free: Callable[[], None]) -> None:
        self._memory = memory
        self._offset = offset
        self._free = free
        self.clear()

    def clear(self) -> None:
        """Nobody is in it."""
        _CELL.pack_into(self._memory, self._offset, 0, 0, 0, 0)

    def free(self) -> None:
        """The worker has ended; called in the master."""
        self.clear()
        self._free()

    def write(self, worker: Worker) -> None:
        """Say this."""
        _CELL.pack_into(
            self._memory, self._offset, worker.pid, worker.state, worker.pages, worker.others
        )

    @property
    def state(self) -> State:
        """Of the worker."""
        return State(_CELL.unpack_from(self._memory, self._offset)[1])


@functools.lru_cache(maxsize=1)
def shared() -> Roster:
    """The roster of this node: made in the master, inherited by its workers."""
    return Roster()


def report(roster: Roster, master: int) -> dict[str, Any]:
    """What ``mksfilter drain --status`` shows.

    :param master: process id of gunicorn's master; its start and the machine's boot tell whether
        that number means the same process to who reads it.
    """
    workers = list(roster.workers())
    ends_in = max(0.0, roster.ends_at - time.monotonic()) if roster.ends_at else None
    return {
        "state": "draining" if roster.draining else "serving",
        "ends_in": ends_in,
        "sessions": {
            "moving": sum(each.pages for each in workers),
            "kept": sum(each.others for each in workers),
        },
        "workers": [
            {
                "pid": each.pid,
                "state": each.state.name.lower(),
                "moving": each.pages,
                "kept": each.others,
            }
            for each in workers
        ],
        "master": {"pid": master, "started": board.started(master), "boot": boot_id()},
    }


def boot_id() -> str:
    """Of this machine, since it was switched on."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
