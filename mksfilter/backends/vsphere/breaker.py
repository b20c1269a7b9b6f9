"""A circuit breaker: a server that fails is not asked for a while, and for longer each time.

=========  ==========================  ===========================================================
state      attempts let through        what ends it
=========  ==========================  ===========================================================
closed     all                         *threshold* failures in a row: open
open       none                        the end of the pause: half-open
half-open  one, which reports its end  success: closed; failure: open, for twice the pause;
                                       abandoned: half-open, and the next caller may try
=========  ==========================  ===========================================================

Without it each user who waits for a vCenter that is down spends a whole time-out, and takes one of
its few call slots from the others; and a password that was refused, tried again by each of them,
locks the account. A success closes it in any state: a call that began before it opened may still
be answered. A failure of such a call does not lengthen the pause; only that of the one attempt
does. No I/O, and the clock is passed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

__all__ = ["Breaker", "BreakerState"]

BreakerState = Literal["closed", "open", "half-open"]


class Breaker:
    """Opens after *threshold* failures in a row; then one attempt is let through after each pause.

    Each session has two: for answers, and for log-ins (vCenter locks an account after five
    failures in three minutes by default).

    :param threshold: failures in a row that open it.
    :param pause: seconds of the first pause; it doubles with each failed attempt.
    :param longest: seconds of the longest pause.
    """

    def __init__(
        self,
        *,
        threshold: int = 3,
        pause: float = 10.0,
        longest: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._first_pause = pause
        self._longest = longest
        self._clock = clock
        self._failures = 0
        self._pause = pause
        self._until = 0.0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """``half-open`` while the one attempt after a pause may be made, or is under way."""
        if self._failures < self._threshold:
            return "closed"
        return "open" if self.retry_in > 0 else "half-open"

    @property
    def retry_in(self) -> float:
        """Seconds until the next attempt is let through; 0 when one may be made now."""
        if self._failures < self._threshold:
            return 0.0
        return max(0.0, self._until - self._clock())

    def allow(self) -> bool:
        """Whether an attempt may be made now. True in ``half-open`` holds for one caller only,
        who must report :meth:`succeeded`, :meth:`failed` or :meth:`abandoned`."""
        if self.state == "closed":
            return True
        if self.state == "open" or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """It answered: closed, and the next pause is the first again."""
        self._failures = 0
        self._pause = self._first_pause
        self._probing = False

    def failed(self) -> None:
        """It did not answer."""
        self._failures += 1
        if self._failures > self._threshold and self._probing:
            self._pause = min(self._longest, self._pause * 2)
        if self._failures == self._threshold or self._probing:
            self._until = self._clock() + self._pause
        self._probing = False

    def abandoned(self) -> None:
        """The attempt was never made; the next caller may make it."""
        self._probing = False
