"""Whether this node takes one more session. Nothing here asks anybody else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mksfilter.exceptions import DrainingError
from mksfilter.proxy.console.limits import AddressRate, Reservation, SessionLimits

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims

__all__ = ["Admission"]


class Admission:
    """
    :param draining: whether this node is being taken out of service.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        rate: AddressRate,
        limits: SessionLimits,
        *,
        draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._limits = limits
        self._draining = draining
        self._clock = clock

    def require_service(self) -> None:
        """
        :raises DrainingError: this node takes no new sessions.
        """
        if self._draining():
            raise DrainingError("this node is being taken out of service")

    def admit(self, claims: Claims, address: str) -> Reservation:
        """Take a place for one session of the client at *address*.

        :returns: to be released when the session ends, or does not come about.
        :raises LimitReached: one of its subclasses, for the limit that is reached.
        """
        self._rate.take(address, self._clock())
        return self._limits.reserve(claims.iid, claims.uid)
