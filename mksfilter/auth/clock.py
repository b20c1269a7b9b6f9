"""The time of day of a machine whose clock is set while it serves.

A clock that jumps is either wrong now or was wrong before, and nobody on the machine can tell
which. A node that believes it at once refuses the tokens of all other nodes, answers fast because
it only refuses, and draws every new user whom a balancer sends to the node with the fewest
connections.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["BELIEVED_FOR", "SetClock", "require_by_either"]

#: Seconds after a jump for which the time before it counts as well.
BELIEVED_FOR: Final = 600.0


class SetClock:
    """The time of day, which somebody may set.

    :param skew: seconds by which it may move without having jumped (option ``clock_skew``).
    :param wall: seconds since the epoch.
    :param steady: seconds that nobody sets.
    """

    def __init__(
        self,
        skew: float,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._skew = skew
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self._earlier = self._offset
        self._believed_until = steady()
        self._jumps: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self._wall()

    def as_before(self) -> float | None:
        """What the time would be had the clock not been set; None: it was not, or long ago."""
        with self._lock:
            self._look()
            now = self._steady()
            return now + self._earlier if now < self._believed_until else None

    def take_jumps(self) -> list[float]:
        """Seconds of each jump since this was asked last."""
        with self._lock:
            self._look()
            jumps, self._jumps = self._jumps, []
            return jumps

    def _look(self) -> None:
        now = self._steady()
        offset = self._wall() - now
        if abs(offset - self._offset) > self._skew:
            self._jumps.append(offset - self._offset)
            self._earlier, self._believed_until = self._offset, now + BELIEVED_FOR
            self._offset = offset


def require_by_either(
    check: Callable[[float], None],
    clock: Callable[[], float],
    as_before: Callable[[], float | None],
    *refusals: type[Exception],
) -> None:
    """Have *check* hold at the time of *clock*, or at that of *as_before* where there is one.

    :param check: takes seconds since the epoch.
    :param refusals: what it raises where a time is not the right one.
    :raises Exception: one of *refusals*; others as they come.
    """
    try:
        check(clock())
    except refusals:
        before = as_before()
        if before is None:
            raise
        check(before)
