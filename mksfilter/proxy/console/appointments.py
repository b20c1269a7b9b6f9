"""When those may come again for whom there was no room. No I/O.

To refuse costs a fifth of what it costs to open a console, and who is refused comes again. A worker
that is asked for thousands at once therefore tells each of them a time of its own, one behind the
other as fast as it opens consoles, so that there is room when it comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["LONGEST", "SHORTEST", "Appointments"]

#: Seconds until the next attempt. What lies further ahead is not known, and nobody is sent there.
SHORTEST: Final = 2.0
LONGEST: Final = 20.0

#: Seconds that an opening takes as long as nothing is known of it.
_TYPICAL: Final = 2.0
#: Seconds over which the openings are counted, and without a refusal after which they are no more.
_WINDOW: Final = 1.0
_FORGOTTEN: Final = 10.0
#: Appointments for each console that can be opened: some of those who have one do not come.
_AHEAD: Final = 1.25
#: Fewest consoles a second that are expected.
_SLOWEST: Final = 0.5
#: Steps of this size spread evenly, however many there are (the golden ratio).
_STEP: Final = 0.618


class Appointments:
    """Those of one worker process.

    :param places: how many consoles it opens at the same time.
    :param clock: monotonic seconds.
    """

    def __init__(self, places: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected = places / _TYPICAL
        self._rate = self._expected  # consoles a second
        self._opened = 0
        self._counted_from = self._given_at = self._last = -_FORGOTTEN
        self._spread = 0.0

    def opened(self) -> None:
        """An opening has ended, and its place is free."""
        self._opened += 1

    def give(self, waiting: int) -> float:
        """The next one.

        :param waiting: how many stand in line now; half of them are served before the first comes.
        :returns: seconds from now, between :data:`SHORTEST` and :data:`LONGEST`.
        """
        now = self._clock()
        self._count(now)
        step = 1 / (self._rate * _AHEAD)
        first = now + min(max(SHORTEST, waiting / 2 / self._rate), LONGEST)
        after = max(self._last + step, first) - now
        if after <= LONGEST:
            self._last = now + after
            return after
        # All that can be promised is promised. Who is sent away now is told more when he comes.
        self._spread = (self._spread + _STEP) % 1.0
        return LONGEST * (1 + self._spread) / 2

    def _count(self, now: float) -> None:
        """How fast consoles are opened while all places are taken."""
        if now - self._given_at >= _FORGOTTEN:
            self._rate = self._expected
            self._counted_from, self._opened = now, 0
        self._given_at = now
        elapsed = now - self._counted_from
        if elapsed >= _WINDOW:
            self._rate = max(_SLOWEST, (self._rate + self._opened / elapsed) / 2)
            self._counted_from, self._opened = now, 0
