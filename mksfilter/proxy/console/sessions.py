"""The live sessions of one worker process.

A session costs no greenlet of its own. Its relay ends it when a peer leaves, idles or has had its
time. What else time brings stands in the process's timer wheel: a fresh resume token, the notice
before the session's end, and the drain of the node. The wheel asks in the hub, which must not wait;
minting and logging may, so a short-lived greenlet does what is due.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import math
import socket
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import gevent

from mksfilter.audit.trail import NO_TRAIL, Trail
from mksfilter.auth.proof import thumbprint
from mksfilter.auth.token import key_name
from mksfilter.exceptions import (
    RelayFailed,
    ServerDraining,
    SessionEnded,
    SessionRevoked,
    TokenError,
    TokenExpired,
    WorkerLost,
)
from mksfilter.log import event
from mksfilter.proxy.console import control_channel, recording
from mksfilter.proxy.console.session import (
    NoLedger,
    RelayFactory,
    ResumeTokens,
    Session,
    SessionLedger,
    SessionMetrics,
)
from mksfilter.proxy.relay.timers import TimerWheel, shared_wheel

if TYPE_CHECKING:
    from mksfilter.auth.revocation import RevocationList
    from mksfilter.auth.token import Claims
    from mksfilter.endpoint import Endpoint
    from mksfilter.exceptions import ConsoleError
    from mksfilter.proxy.console.handshake import Handshake
    from mksfilter.proxy.console.limits import Reservation
    from mksfilter.proxy.relay.transport import Transport, Upstream

__all__ = ["LIFETIME_NOTICE", "RESUME_TTL", "SessionRegistry"]

LOG = logging.getLogger(__name__)

#: Seconds for which a page may be away (asleep, moved to another network) and still reconnect,
#: where the session has no end of its own; it may do so until that end where there is one.
RESUME_TTL: Final = 43_200
#: Seconds between two tokens. Each is signed by the primary key of its time, so that a page that
#: was away is let in for as long as that key is in the repository.
_RENEW_EVERY: Final = 200.0
#: Tokens that are renewed in a second when another key has become the primary one: each takes some
#: 30 µs, and is a message to a browser.
_RENEWALS_PER_SECOND: Final = 1000
#: What an operator calls this machine.
NODE: Final = socket.gethostname()
#: Seconds before the end of a session at which its user is told.
LIFETIME_NOTICE: Final = 60
_COUNT_EVERY = 10.0
_COUNTED_AT_ONCE = 200


class SessionRegistry:
    """Opens, watches over and ends sessions.

    :param tokens: mints resume tokens.
    :param relays: makes relays.
    :param audit: is told of what begins and ends.
    :param lifetime: seconds after which a session ends whatever happens; 0: no limit but its
        token's ``max``.
    :param give_back: makes the token of claims good again that is good for once: its browser has
        not heard of the session that it opened.
    :param heard: is called in a greenlet when the bearer of a resume token has said something on
        its new connection.
    :param ledger: where open sessions are written down.
    :param wheel: schedules what time brings; by default the process's.
    :param clock: seconds since the epoch, as that of *tokens*.
    """

    def __init__(
        self,
        tokens: ResumeTokens,
        relays: RelayFactory,
        metrics: SessionMetrics,
        *,
        audit: Trail = NO_TRAIL,
        lifetime: int = 0,
        give_back: Callable[[Claims], object] = lambda _claims: None,
        heard: Callable[[Claims], object] = lambda _claims: None,
        ledger: SessionLedger | None = None,
        wheel: TimerWheel | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.slot = 0
        self._tokens = tokens
        self._relays = relays
        self._metrics = metrics
        self._audit = audit
        self._lifetime = lifetime
        self._give_back = give_back
        self._heard = heard
        self._wheel = wheel or shared_wheel()
        self._clock = clock
        self._ledger = ledger or NoLedger()
        self._sessions: dict[str, Session] = {}
        self._pages = 0  # of them, those that can move
        # Set while the node drains: when who cannot move is ended, and how fast others move.
        self._drained_at: float | None = None
        self._move_within = 0.0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def prepare(
        self,
        claims: Claims,
        place: Reservation,
        endpoint: Endpoint,
        request: Handshake,
        *,
        address: str,
    ) -> Session:
        """All of a session that can fail, made before its client is told that it has a console.

        :param place: released when the session ends.
        :param request: the client's.
        :param address: of the client.
        :raises TokenError: the session's end has come already, or its page's key is malformed.
        """
        cnf = claims.cnf or (thumbprint(request.page_key) if request.page_key else "")
        # Thousands of sessions have these few words in common.
        session = Session(
            claims=claims,
            kid=sys.intern(key_name(request.token)),
            cnf=cnf,
            client=address,
            vcenter=endpoint.vcenter,
            vm=endpoint.vm,
            host=sys.intern(endpoint.address),
            rfb_handshake=sys.intern(endpoint.rfb_handshake),
            has_control=request.control,
            ends=self._end_of(claims),
            place=place,
            owner=self,
        )
        if session.ends is not None and session.ends <= self._clock():
            raise TokenExpired(f"token {claims.jti}: the session's time is over")
        if session.has_control:
            session.greeting = self._greeting(session, endpoint.name)
            session.question = endpoint.question
        return session

    def token_to_wait_with(self, claims: Claims, request: Handshake) -> str | None:
        """The token with which a page asks again whose machine is off.

        A link expires while a machine is off overnight, and a resume token's key may be rotated
        out of the repository.

        :returns: None: it has no key, or a token that is young enough.
        :raises TokenError: the session's end has come, or the page's key is malformed.
        """
        if claims.use == "connect":
            cnf = thumbprint(request.page_key) if request.page_key else ""
        else:
            cnf = (claims.cnf or "") if self._clock() - claims.iat > _RENEW_EVERY else ""
        if not cnf:
            return None
        return self._mint(claims, self._end_of(claims), cnf, key_name(request.token))

    def record_opening(self, session: Session) -> None:
        """Tell the audit trail, before the client is told that it has a console.

        :raises AuditUnavailable: ``audit_fail_closed``, and it cannot be recorded.
        """
        recording.record_opening(self._audit, session)

    def record_end(self, session: Session, reason: ConsoleError) -> None:
        """Tell the audit trail that a session is over whose relay never began."""
        recording.record_end(self._audit, session, reason)

    def start(self, session: Session, client: Transport, upstream: Upstream) -> None:
        """Begin *session*: count and log it, greet the page, watch the time, start its relay.

        Whatever fails closes both connections.

        :param client: the browser's connection, its ``101`` sent.
        """
        try:
            self._start(session, client, upstream)
        except BaseException as exc:
            self._forget(session)
            self.record_end(session, RelayFailed(f"{type(exc).__name__} at its start"))
            self._ledger.leave(session.entry)
            self._wheel.cancel(session)
            upstream.close()
            client.close()
            raise

    def _start(self, session: Session, client: Transport, upstream: Upstream) -> None:
        claims = session.claims
        session.relay = self._relays(
            client,
            upstream,
            view_only=claims.mode == "view",
            control=session.has_control,
            rfb_handshake=session.rfb_handshake,
            lifetime=None if session.ends is None else max(0.0, session.ends - self._clock()),
            on_end=session.on_relay_end,
            on_first_byte=functools.partial(self._first_byte, session),
            on_heard=functools.partial(gevent.spawn, self._heard, claims)
            if claims.use == "resume"
            else None,
        )
        self._sessions[session.connection_id] = session
        self._pages += session.can_move
        session.entry = self._ledger.enter(
            {
                **recording.session_facts(session),
                "since": time.time(),
                "returns": bool(session.cnf),
            }
        )
        if LOG.isEnabledFor(logging.INFO):
            _log_opening(session)
        if session.greeting is not None:
            # Before the relay starts, so that a page knows its token before the first pixel.
            session.relay.send_control(session.greeting)
            if session.question:
                session.relay.send_control(control_channel.question(session.question))
        session.greeting = None
        self._schedule(session)
        if not self.slot:
            self._wheel.schedule(self, time.monotonic() + _COUNT_EVERY)
        session.relay.start()
        self._metrics.session_opened(claims.mode)
        if self._drained_at is not None:  # it was being opened when the drain began
            now = time.monotonic()
            if session.can_move:
                self._have_move(session, now, self._drained_at, 1.0)
            else:
                session.drain_at = self._drained_at
                self._schedule_drain(session, now)

    def enforce(
        self,
        revocations: RevocationList,
        keys: Container[str],
        primary: str,
        *,
        end_without_key: bool,
    ) -> None:
        """End what is revoked; called when the list or the keys have changed.

        A session whose key is still here is vouched for by the primary one from now on, and its
        page is given a token of that key: keys that rotate out take no session with them, however
        soon. One whose key has vanished gets no new token.

        :param keys: names of the keys that are good.
        :param primary: name of the key that signs.
        :param end_without_key: option ``end_sessions_of_removed_keys``.
        """
        renewals = itertools.count()
        for session in self:
            entry = revocations.match(session.claims)
            if entry is not None:
                session.relay.close(SessionRevoked(f"revoked, by {entry.kind} {entry.value}"))
            elif session.kid and session.kid in keys:
                if session.kid != primary and session.renew_at < math.inf:
                    soon = time.monotonic() + next(renewals) / _RENEWALS_PER_SECOND
                    session.renew_at = min(session.renew_at, soon)
                    self._schedule(session)
                session.kid = primary
            elif session.kid and end_without_key:
                session.relay.close(SessionRevoked(f"key {session.kid} was removed"))

    @property
    def kinds(self) -> tuple[int, int]:
        """Sessions that can move to another node by themselves, and those that cannot."""
        return self._pages, len(self._sessions) - self._pages

    def drain(self, seconds: float | None, *, move_within: float) -> None:
        """Have who can move do so, one after the other; end the others after *seconds*.

        May come again: who was told to move is not told twice.

        :param seconds: None: they are kept.
        :param move_within: seconds; a page that is told so leaves by itself in the first half, and
            is ended in the second, so that the nodes that stay are not asked for all at once.
        """
        now = time.monotonic()
        end = self._drained_at = math.inf if seconds is None else now + max(0.0, seconds)
        self._move_within = move_within
        moving = [each for each in self if each.can_move and each.drain_at == math.inf]
        for number, session in enumerate(moving, start=1):
            self._have_move(session, now, end, 0.5 + 0.5 * number / len(moving))
        told = set(map(id, moving))
        for session in self:
            if id(session) not in told:
                session.drain_at = min(session.drain_at, end) if session.can_move else end
                self._schedule_drain(session, now)

    def _have_move(self, session: Session, now: float, end: float, share: float) -> None:
        within = max(0.0, min(self._move_within, end - now))
        session.relay.send_control(control_channel.notice("draining", math.ceil(within)))
        # The wheel asks late by as much as its resolution, never early.
        session.drain_at = now + max(0.0, within - self._wheel.resolution) * share
        self._schedule_drain(session, now)

    def _schedule_drain(self, session: Session, now: float) -> None:
        if session.drain_at > now:
            self._schedule(session)
        else:
            self._close(session)

    def tell_lost(self, sessions: Iterable[Mapping[str, Any]]) -> None:
        """Count and record the end of sessions whose process could not do so.

        :param sessions: as they were entered into that process's ledger.
        """
        for facts in sessions:
            reason = WorkerLost("the process that carried it was killed, or died")
            recording.record_lost(self._audit, facts, reason)
            self._metrics.session_lost(reason.reason)

    def tell_question(self, session: Session, text: str) -> None:
        """The machine of *session* waits to be told *text* in vCenter; empty: it does no more."""
        if session.question != text:
            session.question = text
            session.relay.send_control(control_channel.question(text))

    def close(self) -> None:
        """End every session now."""
        for session in self:
            self._close(session)

    def on_timer(self, now: float) -> float:
        """Bytes are due to be counted; called by the wheel, in the hub."""
        gevent.spawn(self._count)
        return now + _COUNT_EVERY

    def _first_byte(self, session: Session) -> None:
        self._metrics.took("first-byte", time.monotonic() - session.started, session.vcenter)

    # -- the end ---------------------------------------------------------------------------

    def ended(self, session: Session, reason: SessionEnded) -> None:
        """The session's relay is over: free its place, count it, log it, forget it."""
        if not self._forget(session):
            return
        if session.slot:
            self._wheel.cancel(session)
        self._metrics.count_bytes(*_uncounted(session))
        session.place.release()
        self._metrics.session_ended(reason.reason)
        if not session.relay.bytes_in:
            # Nobody can tell whether its greeting has arrived, and with it the next token.
            self._give_back(session.claims)
        if isinstance(reason, RelayFailed):
            LOG.error(
                event("relay-failed", session=session.id, request=session.claims.rid),
                exc_info=reason.__cause__,
            )
        recording.record_end(self._audit, session, reason)
        if LOG.isEnabledFor(logging.INFO):
            _log_end(session, reason)
        self._ledger.leave(session.entry)

    def _close(self, session: Session) -> None:
        session.relay.close(ServerDraining("this node is being taken out of service", node=NODE))

    def _end_of(self, claims: Claims) -> int | None:
        if not self._lifetime:
            return claims.max
        end = int(self._clock()) + self._lifetime
        return end if claims.max is None else min(end, claims.max)

    # -- what time brings ------------------------------------------------------------------

    def _greeting(self, session: Session, name: str) -> str:
        now = time.monotonic()
        if session.cnf:
            session.renew_at = now + _RENEW_EVERY
        if session.ends is not None:
            session.notice_at = now + max(0.0, session.ends - self._clock() - LIFETIME_NOTICE)
        return control_channel.hello(
            mode=session.claims.mode,
            session=session.id,
            resume=self._resume_token(session) if session.cnf else None,
            expires=session.ends,
            now=self._clock(),
            name=name,
            request=session.claims.rid,
            node=NODE,
        )

    def _schedule(self, session: Session) -> None:
        due = min(session.renew_at, session.notice_at, session.drain_at)
        if due < math.inf:
            self._wheel.schedule(session, due)

    def wake(self, session: Session) -> None:
        """Do what is due; runs in a greenlet."""
        if session.connection_id not in self._sessions:
            return
        now = time.monotonic()
        try:
            if session.drain_at <= now:
                session.drain_at = math.inf
                self._close(session)
            if session.notice_at <= now:
                session.notice_at = math.inf
                self._notice_lifetime(session)
            if session.renew_at <= now:
                session.renew_at = now + _RENEW_EVERY
                self._renew(session)
        except Exception:
            LOG.exception(event("unexpected-error", session=session.id, request=session.claims.rid))
        if session.connection_id in self._sessions:
            self._schedule(session)

    def _renew(self, session: Session) -> None:
        try:
            token = self._resume_token(session)
        except TokenError:
            session.renew_at = math.inf  # its end has come, or its key is gone
        else:
            session.relay.send_control(control_channel.resume(token))

    def _notice_lifetime(self, session: Session) -> None:
        assert session.ends is not None
        left = max(0, round(session.ends - self._clock()))
        session.relay.send_control(control_channel.notice("lifetime", left))

    def _resume_token(self, session: Session) -> str:
        return self._mint(session.claims, session.ends, session.cnf, session.kid)

    def _mint(self, claims: Claims, ends: int | None, cnf: str, kid: str) -> str:
        ttl = RESUME_TTL if ends is None else max(0, ends - int(self._clock()))
        return self._tokens.renew(dataclasses.replace(claims, max=ends), ttl=ttl, cnf=cnf, kid=kid)

    def _forget(self, session: Session) -> bool:
        """Whether it was there."""
        if self._sessions.pop(session.connection_id, None) is None:
            return False
        self._pages -= session.can_move
        return True

    def _count(self) -> None:
        arrived = sent = 0
        for number, session in enumerate(self, start=1):
            if not number % _COUNTED_AT_ONCE:
                gevent.sleep(0)  # keys of others wait as long
                if session.connection_id not in self._sessions:
                    continue  # counted at its end
            more_arrived, more_sent = _uncounted(session)
            arrived, sent = arrived + more_arrived, sent + more_sent
        self._metrics.count_bytes(arrived, sent)


def _uncounted(session: Session) -> tuple[int, int]:
    """Bytes that went each way since it was last asked."""
    arrived, sent = session.relay.bytes_in, session.relay.bytes_out
    more = arrived - session.counted_in, sent - session.counted_out
    session.counted_in, session.counted_out = arrived, sent
    return more


def _log_opening(session: Session) -> None:
    claims = session.claims
    LOG.info(
        event(
            "session-opened",
            session=session.id,
            connection=session.connection_id,
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


def _log_end(session: Session, reason: SessionEnded) -> None:
    LOG.info(
        event(
            "session-ended",
            session=session.id,
            connection=session.connection_id,
            jti=session.claims.jti,
            instance=session.claims.iid,
            request=session.claims.rid,
            reason=reason.reason,
            detail=reason,
            seconds=f"{time.monotonic() - session.started:.1f}",
            bytes_in=session.relay.bytes_in,
            bytes_out=session.relay.bytes_out,
        )
    )
