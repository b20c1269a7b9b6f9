"""Looks, by a timer, at what can end the access of those who are in: keys and revocations.

Both are files that are copied to a node at any moment. A node that waited for the next token to
look at them would carry a revoked session for as long as nobody else comes.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

import gevent

from mksfilter.exceptions import KeyRepositoryError, RevocationListError
from mksfilter.log import event
from mksfilter.proxy.relay.timers import TimerWheel, shared_wheel

if TYPE_CHECKING:
    from mksfilter.auth.revocation import RevocationFile
    from mksfilter.proxy.console.sessions import SessionRegistry

__all__ = ["LOOK_EVERY", "AccessWatch"]

LOG = logging.getLogger(__name__)

#: Seconds between two looks; a look at what has not changed is a few system calls.
LOOK_EVERY: Final = 2.0


class Keys(Protocol):
    """What tells which keys are good; :class:`mksfilter.auth.keys.KeyRepository` is one."""

    def look(self) -> tuple[frozenset[str], str]:
        """Names of the keys that are good, and of the primary one.

        :raises KeyRepositoryError: there are none that could be read.
        """


class AccessWatch:
    """Stands in the timer wheel from :meth:`start` on.

    :param end_without_key: option ``end_sessions_of_removed_keys``.
    """

    def __init__(
        self,
        keys: Keys,
        revocations: RevocationFile,
        sessions: SessionRegistry,
        *,
        end_without_key: bool = False,
        wheel: TimerWheel | None = None,
    ) -> None:
        self.slot = 0
        self._keys = keys
        self._revocations = revocations
        self._sessions = sessions
        self._end_without_key = end_without_key
        self._wheel = wheel or shared_wheel()
        self._enforced: object = None
        self._read = revocations.current
        self._told = ""

    def start(self) -> None:
        """Look now and again."""
        self.look()
        self._wheel.schedule(self, time.monotonic() + LOOK_EVERY)

    def on_timer(self, now: float) -> float:
        """Called by the wheel, in the hub: files are read in a greenlet."""
        gevent.spawn(self.look)
        return now + LOOK_EVERY

    def look(self) -> None:
        """Enforce what has changed since the last look."""
        try:
            revocations = self._revocations.load()
        except RevocationListError as exc:
            revocations = self._revocations.current
            self._tell(exc)
        except KeyRepositoryError:
            # Without keys no list can be verified; the repository says what is wrong with them.
            revocations = self._revocations.current
        else:
            self._told = ""
            if revocations is not self._read:
                self._read = revocations
                LOG.info(event("revocations-read", entries=len(revocations)))
        try:
            keys, primary = self._keys.look()
        except KeyRepositoryError:
            return  # said by the repository; sessions that are open stay open
        state = (revocations, keys, primary)
        if state == self._enforced:
            return
        self._sessions.enforce(revocations, keys, primary, end_without_key=self._end_without_key)
        self._enforced = state

    def _tell(self, problem: RevocationListError) -> None:
        if str(problem) != self._told:
            self._told = str(problem)
            LOG.error(
                event("revocations-unreadable", detail=problem, note="the last good list stays")
            )
