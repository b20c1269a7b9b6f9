"""Machines that stand still while their users act: does one wait for an answer in vCenter?

A VM that asks something (its datastore is full, a disc is locked) draws nothing and takes no key
until somebody answers in vCenter, and to its user it looks like one that has crashed. vSphere tells
nobody who has only a console. So vCenter is asked, for all such machines of a process in one call,
and only for these: where the host has said nothing to what the browser said, or where a question is
known and may have been answered.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import gevent

from mksfilter.exceptions import BackendError
from mksfilter.log import event
from mksfilter.proxy.console.session import Session
from mksfilter.proxy.relay.timers import TimerWheel, shared_wheel

__all__ = ["AGAIN", "AGAIN_ASKING", "LOOK_EVERY", "MOST", "StandstillWatch"]

LOG = logging.getLogger(__name__)

#: Seconds between two looks at the sessions, which cost nobody a call.
LOOK_EVERY: Final = 5.0
#: Seconds after which vCenter is asked again about a machine.
AGAIN: Final = 30.0
#: The same for one that is known to ask something.
AGAIN_ASKING: Final = 5.0
#: Machines asked about in one call.
MOST: Final = 100
#: Sessions that are looked at before those that have keys to carry get their turn.
_AT_ONCE: Final = 200


class Sessions(Protocol):
    """What is looked at; :class:`.sessions.SessionRegistry` is one."""

    def __iter__(self) -> Iterator[Session]: ...
    def tell_question(self, session: Session, text: str) -> None: ...


class StandstillWatch:
    """Stands in the timer wheel from :meth:`start` on.

    :param questions: vCenter, and instance UUID -> id of its VM, to what each asks; raises
        BackendError.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        sessions: Sessions,
        questions: Callable[[str, Mapping[str, str]], Mapping[str, str]],
        *,
        wheel: TimerWheel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slot = 0
        self._sessions = sessions
        self._questions = questions
        self._wheel = wheel or shared_wheel()
        self._clock = clock
        self._looking = False

    def start(self) -> None:
        """Look now and again."""
        self._wheel.schedule(self, self._clock() + LOOK_EVERY)

    def on_timer(self, now: float) -> float:
        """Called by the wheel, in the hub: vCenter is asked in a greenlet."""
        if not self._looking:
            self._looking = True
            gevent.spawn(self._look_once)
        return now + LOOK_EVERY

    def _look_once(self) -> None:
        try:
            self.look()
        finally:
            self._looking = False

    def look(self) -> None:
        """Ask about those that stand still, and tell what is new."""
        now = self._clock()
        standing: defaultdict[str, list[Session]] = defaultdict(list)
        for number, session in enumerate(self._sessions, start=1):
            if not number % _AT_ONCE:
                gevent.sleep(0)
            if self._is_due(session, now) and len(standing[session.vcenter]) < MOST:
                session.looked_at = now
                standing[session.vcenter].append(session)
        for vcenter, sessions in standing.items():
            self._ask(vcenter, sessions)

    def _is_due(self, session: Session, now: float) -> bool:
        if not (session.has_control and session.vm):
            return False
        if session.question:
            return now - session.looked_at >= AGAIN_ASKING
        if now - session.looked_at < AGAIN:
            return False
        return session.relay.unanswered_at > session.looked_at

    def _ask(self, vcenter: str, sessions: list[Session]) -> None:
        vms = {session.claims.iid: session.vm for session in sessions}
        try:
            found = self._questions(vcenter, vms)
        except BackendError as exc:
            LOG.debug(event("questions-not-seen", vcenter=vcenter, detail=exc))
            return
        for session in sessions:
            question = found.get(session.claims.iid)
            if question is not None:
                self._sessions.tell_question(session, question)
