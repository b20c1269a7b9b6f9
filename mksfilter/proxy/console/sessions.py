"""The live sessions of one worker process.

A session costs no greenlet. One housekeeper per process does what time brings: fresh resume
tokens, the notice before a session's end, and the drain of the whole node. The end itself and
idleness are the relay's own business.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from mksfilter.exceptions import ServerDraining, SessionEnded, TokenError
from mksfilter.log import event
from mksfilter.proxy.console import control_channel

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims, TokenCodec

__all__ = ["RESUME_TTL", "Session", "SessionRegistry"]

LOG = logging.getLogger(__name__)

#: Seconds for which a page may be away (asleep, moved to another network) and still reconnect.
RESUME_TTL = 600
_RENEW_EVERY = RESUME_TTL // 3
#: Seconds before the end of a session at which its user is told.
LIFETIME_NOTICE = 60
_COUNT_BYTES_EVERY = 10.0


@dataclasses.dataclass(eq=False, slots=True)
class Session:
    """One live console.

    :ivar client: address of the browser.
    :ivar host: ``host:port`` of the console.
    :ivar ends: seconds since the epoch at which it ends whatever happens; None: open.
    :ivar started: monotonic seconds.
    """

    claims: Claims
    client: str
    vcenter: str
    host: str
    has_control: bool
    ends: int | None
    on_end: Callable[[SessionEnded], None]
    started: float = dataclasses.field(default_factory=time.monotonic)
    id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(6))
    relay: Any = None
    counted_in: int = 0
    counted_out: int = 0


class SessionRegistry:
    """Opens, watches over and ends sessions.

    :param codec: mints resume tokens.
    :param count_bytes: told how many bytes went each way since it was last told.
    :param refresh: called as often as bytes are counted.
    :param clock: seconds since the epoch, as the codec's.
    """

    def __init__(
        self,
        codec: TokenCodec,
        *,
        count_bytes: Callable[[int, int], None],
        refresh: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._codec = codec
        self._count_bytes = count_bytes
        self._refresh = refresh
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        # (monotonic seconds, tie breaker, session id, what to do); ended sessions are skipped.
        self._due: list[tuple[float, int, str, Callable[[Session], None]]] = []
        self._order = itertools.count()
        self._wake = Event()
        self._housekeeper: Any = None

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def open(self, session: Session) -> None:
        """The session's relay has started: log it, greet the page, and watch the time."""
        self._sessions[session.id] = session
        claims = session.claims
        LOG.info(
            event(
                "session-opened",
                session=session.id,
                jti=claims.jti,
                use=claims.use,
                instance=claims.iid,
                project=claims.pid,
                user=claims.uid,
                request=claims.rid,
                vcenter=session.vcenter,
                host=session.host,
                client=session.client,
                mode=claims.mode,
            )
        )
        if session.has_control:
            session.relay.send_control(
                control_channel.hello(
                    mode=claims.mode, resume=self._resume_token(session), expires=session.ends
                )
            )
            self._at(_RENEW_EVERY, session, self._renew)
        if session.ends is not None and session.has_control:
            left = session.ends - self._clock()
            self._at(left - LIFETIME_NOTICE, session, self._notice_lifetime)
        if self._housekeeper is None:
            self._housekeeper = gevent.spawn(self._keep_house)

    def ended(self, session: Session, reason: SessionEnded) -> None:
        """Its relay has ended: log it, and let everybody forget it."""
        if self._sessions.pop(session.id, None) is None:
            return
        self._add_bytes(session)
        session.on_end(reason)
        LOG.info(
            event(
                "session-ended",
                session=session.id,
                jti=session.claims.jti,
                instance=session.claims.iid,
                reason=reason.reason,
                detail=str(reason),
                seconds=f"{time.monotonic() - session.started:.1f}",
                bytes_in=session.relay.bytes_in,
                bytes_out=session.relay.bytes_out,
            )
        )

    def drain(self, seconds: float) -> None:
        """Tell every page, then end the sessions one after the other within *seconds*.

        They end spread over the second half of that time, so that the nodes that stay are not
        asked for all of them at once.
        """
        sessions = list(self)
        for number, session in enumerate(sessions, start=1):
            if session.has_control:
                session.relay.send_control(control_channel.notice("draining", math.ceil(seconds)))
            at = seconds * (0.5 + 0.5 * number / len(sessions))
            self._at(at, session, self._end_drained)

    def close(self) -> None:
        """End every session now."""
        for session in self:
            self._end_drained(session)

    # -- what time brings ------------------------------------------------------------------

    def _at(self, seconds: float, session: Session, action: Callable[[Session], None]) -> None:
        if len(self._due) > 64 + 4 * len(self._sessions):
            # An eight-hour session that ended early is not remembered for eight hours.
            self._due = [entry for entry in self._due if entry[2] in self._sessions]
            heapq.heapify(self._due)
        due = (time.monotonic() + max(0.0, seconds), next(self._order), session.id, action)
        heapq.heappush(self._due, due)
        if self._due[0] is due:
            self._wake.set()

    def _keep_house(self) -> None:
        next_count = time.monotonic() + _COUNT_BYTES_EVERY
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, name, action = heapq.heappop(self._due)
                due = self._sessions.get(name)
                if due is not None:
                    try:
                        action(due)
                    except Exception:
                        LOG.exception(event("unexpected-error", session=name))
            if now >= next_count:
                next_count = now + _COUNT_BYTES_EVERY
                for session in self:
                    self._add_bytes(session)
                self._refresh()
            until = min(next_count, self._due[0][0] if self._due else next_count)
            self._wake.clear()
            self._wake.wait(max(0.0, until - time.monotonic()))

    def _renew(self, session: Session) -> None:
        try:
            token = self._resume_token(session)
        except TokenError:
            return
        session.relay.send_control(control_channel.resume(token))
        self._at(_RENEW_EVERY, session, self._renew)

    def _notice_lifetime(self, session: Session) -> None:
        assert session.ends is not None
        left = max(0, round(session.ends - self._clock()))
        session.relay.send_control(control_channel.notice("lifetime", left))

    def _end_drained(self, session: Session) -> None:
        session.relay.close(ServerDraining("this node is being taken out of service"))

    def _resume_token(self, session: Session) -> str:
        claims = dataclasses.replace(session.claims, max=session.ends)
        return self._codec.renew(claims, ttl=RESUME_TTL)

    def _add_bytes(self, session: Session) -> None:
        arrived, sent = session.relay.bytes_in, session.relay.bytes_out
        self._count_bytes(arrived - session.counted_in, sent - session.counted_out)
        session.counted_in, session.counted_out = arrived, sent
