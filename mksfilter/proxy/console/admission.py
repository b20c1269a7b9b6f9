"""Whether this node takes one more session, and when it is its turn. Nothing here asks anybody
else, so all of it comes before vCenter, Nova and the replay cache are asked."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from gevent.event import Event

from mksfilter.exceptions import DrainingError, OpeningLimitReached, RateLimitReached
from mksfilter.proxy.console.limits import AddressRate, Reservation, SessionLimits, network
from mksfilter.proxy.console.openings import Opening, Openings
from mksfilter.proxy.console.waiting import WaitingPages

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims

__all__ = ["QUESTION_SHARE", "Admission"]

#: Of ``connection_rate``: tokens that only Nova can read, each of which costs a question to it.
QUESTION_SHARE: Final = 0.25
#: Such questions of one address that may be unanswered at a time; a quarter of all.
_QUESTIONS_AT_ONCE: Final = 4
#: Seconds for which a console waits for its turn, as it does for a call to vCenter.
_PATIENCE: Final = 30.0


class Admission:
    """
    :param questions: rate of the questions to Nova that one address may cause; None: no limit.
        It is not the rate of *rate*, so that tokens that nobody has verified do not use up what
        others behind the same address need for good ones.
    :param openings: consoles that are being opened at a time; None: no limit.
    :param draining: whether this node is being taken out of service.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        rate: AddressRate,
        limits: SessionLimits,
        *,
        questions: AddressRate | None = None,
        openings: Openings | None = None,
        draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        patience: float = _PATIENCE,
    ) -> None:
        self._rate = rate
        self._limits = limits
        self._questions = questions or AddressRate(0)
        self._asking: Counter[str] = Counter()
        self._openings = openings
        self._draining = draining
        self._clock = clock
        self._patience = patience
        self._waiting = WaitingPages(clock=clock)

    def require_service(self) -> None:
        """
        :raises DrainingError: this node takes no new sessions.
        """
        if self._draining():
            raise DrainingError("this node is being taken out of service")

    def count(self, address: str) -> None:
        """Count what the client at *address* asks, as a new session would be.

        :raises RateLimitReached: it asks too much.
        """
        self._rate.take(address, self._clock())

    @contextlib.contextmanager
    def question(self, address: str) -> Iterator[None]:
        """Around a question to Nova about a token that the client at *address* brought.

        :raises RateLimitReached: it has caused too many, or too many are unanswered.
        """
        self._questions.take(address, self._clock())
        client = network(address)
        if self._asking[client] >= _QUESTIONS_AT_ONCE:
            raise RateLimitReached(
                f"address {address}: {_QUESTIONS_AT_ONCE} questions to nova are unanswered already"
            )
        self._asking[client] += 1
        try:
            yield
        finally:
            self._asking[client] -= 1
            if not self._asking[client]:
                del self._asking[client]

    def admit(self, claims: Claims, address: str) -> Reservation:
        """Take a place for one session of the client at *address*; a page that waits has one, and
        is no new session as long as it asks when it was told to.

        :returns: to be released when the session ends, or does not come about.
        :raises LimitReached: one of its subclasses, for the limit that is reached.
        """
        kept = self._waiting.leave(claims.session_id) if self._waiting else None
        if kept is None:
            self._rate.take(address, self._clock())
            return self._limits.reserve(claims.iid, claims.uid)
        place, in_time = kept
        if not in_time:
            try:
                self._rate.take(address, self._clock())
            except RateLimitReached:
                place.release()
                raise
        return place

    def waits(self, claims: Claims) -> bool:
        """Whether the session of *claims* has a page here that waits for its machine."""
        return bool(self._waiting) and claims.session_id in self._waiting

    def keep(self, claims: Claims, place: Reservation) -> float:
        """The page of *claims* waits for its machine to start, and keeps *place*.

        :returns: seconds after which it may ask again.
        """
        return self._waiting.keep(claims.session_id, place)

    def turn(self, claims: Claims, address: str) -> Turn:
        """Around the opening of one console; waits, in this greenlet, until it may begin.

        :raises OpeningLimitReached: too many wait already, or it waits too long.
        """
        return Turn(self._openings, claims.uid, address, self._patience)


class Turn:
    """See :meth:`Admission.turn`."""

    __slots__ = ("_address", "_decided", "_opening", "_openings", "_patience", "_user")

    def __init__(self, openings: Openings | None, user: str, address: str, patience: float) -> None:
        self._openings = openings
        self._user = user
        self._address = address
        self._patience = patience
        self._opening: Opening | None = None
        self._decided: Event | None = None

    def __enter__(self) -> None:
        if self._openings is None:
            return
        opening = self._openings.ask(self._user, self._address, self._wake)
        self._opening = opening
        if not opening.admitted:
            try:
                self._wait(opening)
            except BaseException:
                self._openings.leave(opening)
                raise

    def _wait(self, opening: Opening) -> None:
        self._decided = Event()
        if not self._decided.wait(self._patience):
            raise OpeningLimitReached(f"no console's turn came within {self._patience:g} s")
        if opening.refused is not None:
            raise opening.refused

    def _wake(self) -> None:
        if self._decided is not None:
            self._decided.set()

    def __exit__(self, *_: object) -> None:
        if self._openings is not None and self._opening is not None:
            self._openings.leave(self._opening)
