"""Pages whose machine is off, and that open its console when it starts. No I/O.

Such a page asks again after a pause, and between two questions there is no connection, no greenlet
and no call to vCenter, only its place among the limits of its user and its machine: a page that
waits counts as one that is open. The place is given back when the page does not come in time: its
tab was hidden, or is gone.

The pause is short as long as few wait, so that a console is there before the boot menu is gone, and
grows with their number: together they ask no more often than :data:`QUESTIONS` times a second.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from mksfilter.proxy.console.limits import Reservation

__all__ = ["LONGEST", "QUESTIONS", "SHORTEST", "Waiting", "WaitingPages"]

#: Questions per second of all pages of a worker process together.
QUESTIONS: Final = 100.0
#: Seconds between two questions of a page.
SHORTEST: Final = 1.0
LONGEST: Final = 10.0
#: Pauses after which a page that has not come is forgotten.
_MISSED: Final = 3.0
#: Of its pause: who asks sooner than that is no page of ours.
_EARLY: Final = 0.5


class Waiting(NamedTuple):
    """One page.

    :ivar place: which it holds.
    :ivar asks_at: monotonic seconds before which it has no reason to ask.
    :ivar until: monotonic seconds after which it is not expected any more.
    """

    place: Reservation
    asks_at: float
    until: float


class WaitingPages:
    """Those of one worker process.

    :param clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By session; who is expected first stands first, as far as pauses are equal.
        self._pages: OrderedDict[str, Waiting] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pages)

    def __contains__(self, session: str) -> bool:
        return session in self._pages

    def keep(self, session: str, place: Reservation) -> float:
        """The page of *session* waits, and holds *place* meanwhile.

        :returns: seconds after which it may ask again.
        """
        self.forget_late()
        former = self._pages.pop(session, None)
        if former is not None:  # a second tab with the same session
            former.place.release()
        now = self._clock()
        pause = min(LONGEST, max(SHORTEST, (len(self._pages) + 1) / QUESTIONS))
        self._pages[session] = Waiting(place, now + pause * _EARLY, now + pause * _MISSED)
        return pause

    def leave(self, session: str) -> tuple[Reservation, bool] | None:
        """The page of *session* is here again: its place, which is the caller's from now on, and
        whether it came no sooner than it was told to; None: it has none."""
        self.forget_late()
        page = self._pages.pop(session, None)
        return None if page is None else (page.place, self._clock() >= page.asks_at)

    def forget_late(self) -> None:
        """Release the places of pages that did not come in time."""
        now = self._clock()
        while self._pages:
            session, page = next(iter(self._pages.items()))
            if page.until > now:
                return
            del self._pages[session]
            page.place.release()
