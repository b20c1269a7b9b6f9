"""How fast something is done while all of it is busy. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Pace"]

#: Seconds over which is counted, and after which, if nobody has asked, what was counted is old.
_WINDOW: Final = 1.0
_FORGOTTEN: Final = 10.0
#: Never slower than that, per second: whoever divides by it gets a time.
_SLOWEST: Final = 0.5


class Pace:
    """
    :param expected: per second, as long as nothing is known.
    :param clock: monotonic seconds.
    """

    def __init__(self, expected: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected = self._rate = expected
        self._done = 0
        self._counted_from = self._asked_at = -_FORGOTTEN

    def done(self) -> None:
        """One more."""
        self._done += 1

    @property
    def rate(self) -> float:
        """Per second. Asked only while all are busy; else it tells what comes, not what could."""
        now = self._clock()
        if now - self._asked_at >= _FORGOTTEN:
            self._rate = self._expected
            self._counted_from, self._done = now, 0
        self._asked_at = now
        elapsed = now - self._counted_from
        if elapsed >= _WINDOW:
            self._rate = max(_SLOWEST, (self._rate + self._done / elapsed) / 2)
            self._counted_from, self._done = now, 0
        return self._rate
