"""When those may come again for whom there was no room. No I/O.

To refuse costs a fifth of what it costs to open a console, and who is refused comes again. A worker
that is asked for thousands at once therefore tells each of them a time of its own, one behind the
other as fast as it opens consoles, so that there is room when it comes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from mksfilter.proxy.pace import Pace

__all__ = ["LONGEST", "SHORTEST", "Appointments"]

#: Seconds until the next attempt. What lies further ahead is not known, and nobody is sent there.
SHORTEST: Final = 2.0
LONGEST: Final = 20.0

#: Seconds that an opening takes as long as nothing is known of it.
_TYPICAL: Final = 2.0
#: Appointments for each console that can be opened: some of those who have one do not come.
_AHEAD: Final = 1.25
#: Steps of this size spread evenly, however many there are (the golden ratio).
_STEP: Final = 0.618


class Appointments:
    """Those of one worker process.

    :param places: how many consoles it opens at the same time.
    :param clock: monotonic seconds.
    """

    def __init__(self, places: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pace = Pace(places / _TYPICAL, clock=clock)
        self._last = -math.inf
        self._spread = 0.0

    def opened(self) -> None:
        """An opening has ended, and its place is free."""
        self._pace.done()

    def give(self, waiting: int) -> float:
        """The next one.

        :param waiting: how many stand in line now; half of them are served before the first comes.
        :returns: seconds from now, between :data:`SHORTEST` and :data:`LONGEST`.
        """
        now = self._clock()
        rate = self._pace.rate
        step = 1 / (rate * _AHEAD)
        first = now + min(max(SHORTEST, waiting / 2 / rate), LONGEST)
        after = max(self._last + step, first) - now
        if after <= LONGEST:
            self._last = now + after
            return after
        # All that can be promised is promised. Who is sent away now is told more when he comes.
        self._spread = (self._spread + _STEP) % 1.0
        return LONGEST * (1 + self._spread) / 2
