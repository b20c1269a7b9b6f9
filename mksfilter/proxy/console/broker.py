"""From a request with a token to a running session.

Origin, token, rate and limits, its turn, once-only, ticket, dial: only then ``101`` to the browser.
What costs no question to anybody comes first; a token that only Nova can read has a rate before
that. Nothing reaches vCenter before the token is verified and a place is free, and nothing from the
browser reaches the console before all of that (CVE-2022-36436).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mksfilter.audit.trail import NO_TRAIL, Trail
from mksfilter.exceptions import (
    AccessDenied,
    ClientGone,
    ConsoleError,
    EarlyData,
    HandshakeError,
    KeysUnavailable,
    MksFilterError,
    ReplayCacheUnavailable,
    TokenServiceUnavailable,
    UpgradeRequired,
)
from mksfilter.log import event, name_session, serving
from mksfilter.proxy.console import control_channel, handshake
from mksfilter.proxy.console.recording import claim_facts
from mksfilter.proxy.console.refusal_log import RefusalLog
from mksfilter.proxy.console.sessions import NODE

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims
    from mksfilter.endpoint import Endpoint
    from mksfilter.proxy.console.admission import Admission
    from mksfilter.proxy.console.authorization import Authorization
    from mksfilter.proxy.console.connector import Connector
    from mksfilter.proxy.console.limits import Reservation
    from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies
    from mksfilter.proxy.console.sessions import SessionRegistry
    from mksfilter.proxy.relay.transport import Transport
    from mksfilter.proxy.web.metrics import Step

__all__ = ["Broker", "BrokerMetrics", "Upgrade"]

LOG = logging.getLogger(__name__)


class Upgrade(Protocol):
    """The connection of an upgrade request, ``environ["mksfilter.connection"]``;
    :class:`mksfilter.proxy.server.handler.Upgrade` is one.

    All of it raises OSError when the client is gone.
    """

    def early_data(self) -> bytes:
        """What followed the request before it was answered."""

    def accept(self, headers: list[tuple[str, str]]) -> Transport:
        """Answer ``101`` with *headers* and take the connection over."""

    def refuse(self, headers: list[tuple[str, str]], frames: bytes) -> None:
        """Answer ``101``, send *frames*, which say why and close, and close."""


class BrokerMetrics(Protocol):
    """What is counted; :class:`mksfilter.proxy.web.metrics.Metrics` is one."""

    def refuse(self, reason: str) -> None:
        """A request was refused."""

    def took(self, step: Step, seconds: float, vcenter: str = "") -> None:
        """A step of an opening was done."""


class Broker:
    """Opens consoles.

    :param proxies: tell where a request comes from.
    :param sessions: begins, watches over and ends sessions.
    :param audit: is told of every refusal; *sessions* tell it of what they begin and end.
    :param refusals: the log of them.
    """

    def __init__(
        self,
        *,
        origins: OriginPolicy,
        proxies: TrustedProxies,
        authorization: Authorization,
        admission: Admission,
        connector: Connector,
        sessions: SessionRegistry,
        metrics: BrokerMetrics,
        audit: Trail = NO_TRAIL,
        refusals: RefusalLog | None = None,
    ) -> None:
        self._origins = origins
        self._proxies = proxies
        self._authorization = authorization
        self._admission = admission
        self._connector = connector
        self._sessions = sessions
        self._metrics = metrics
        self._audit = audit
        self._refusals = refusals or RefusalLog()

    def judge(self, environ: Mapping[str, Any], token: str, origin: str) -> None:
        """Whether *token* would be taken from a page of *origin*; nothing is opened, and nobody
        but the memory of used tokens is asked.

        :raises AccessDenied: it would not.
        :raises UpgradeRequired: that cannot be told without an upgrade.
        :raises ConsoleError: that cannot be told at the moment.
        """
        self._origins.check({**environ, "HTTP_ORIGIN": origin})
        self._admission.count(self._proxies.client_address(environ))
        if not self._authorization.judge(token):
            raise UpgradeRequired("a token of nova's own")

    def open(self, environ: Mapping[str, Any]) -> None:
        """Serve one upgrade request.

        :raises ConsoleError: to be answered with its plain status. A client that understands the
            control channel was already told otherwise, unless its token is not good.
        """
        with serving():
            self._open_or_refuse(environ, _Attempt(self._proxies.client_address(environ)))

    def _open_or_refuse(self, environ: Mapping[str, Any], attempt: _Attempt) -> None:
        try:
            self._open(environ, attempt)
        except ConsoleError as exc:
            refusal = exc
        except MksFilterError as exc:
            LOG.error(event("console-failed", client=attempt.address, detail=exc))
            refusal = ConsoleError(str(exc))
        except Exception as exc:
            LOG.exception(event("unexpected-error", client=attempt.address))
            refusal = ConsoleError(f"unexpected {type(exc).__name__}")
        else:
            return
        self._refuse(attempt, refusal)

    def _refuse(self, attempt: _Attempt, refusal: ConsoleError) -> None:
        if not (attempt.waited and refusal.retry == "wait"):  # told when it began to wait
            self._tell(attempt, refusal)
        self._answer(attempt, refusal)

    def _tell(self, attempt: _Attempt, refusal: ConsoleError) -> None:
        self._metrics.refuse(refusal.reason)
        if self._refusals.has_room(refusal.reason, attempt.address):
            LOG.info(
                event(
                    "console-refused",
                    reason=refusal.reason,
                    client=attempt.address,
                    **attempt.facts(),
                    detail=refusal,
                )
            )
        self._record(attempt, refusal)

    def _answer(self, attempt: _Attempt, refusal: ConsoleError) -> None:
        if isinstance(refusal, ClientGone) or attempt.accepted:
            return
        # Outside, all reasons why a token is not good enough look alike. That nobody can tell is no
        # reason of the token's, and a page that hears it comes back.
        known = attempt.claims is not None or isinstance(
            refusal, (KeysUnavailable, TokenServiceUnavailable)
        )
        if not known or isinstance(refusal, (AccessDenied, HandshakeError)):
            raise refusal
        if not attempt.request.control:
            raise refusal
        with contextlib.suppress(OSError):
            attempt.upgrade.refuse(
                handshake.response(attempt.request),
                control_channel.refusal_frames(
                    refusal, after=attempt.pause, resume=attempt.token, node=NODE, **attempt.names()
                ),
            )

    def _record(self, attempt: _Attempt, refusal: ConsoleError) -> None:
        """Tell the audit trail; what the session itself has told it is not told twice."""
        if attempt.recorded:
            return
        claims = attempt.claims
        facts = {} if claims is None else claim_facts(claims)
        record = self._audit.record_stranger if claims is None else self._audit.record
        record(
            "refused",
            reason=refusal.reason,
            status=refusal.status,
            client=attempt.address,
            detail=" ".join(str(refusal).split()),
            **facts,
        )

    def _open(self, environ: Mapping[str, Any], attempt: _Attempt) -> None:
        attempt.request = handshake.read(environ)
        upgrade: Upgrade | None = environ.get("mksfilter.connection")
        if upgrade is None:
            raise ConsoleError(
                "this worker cannot hand over connections; "
                "run gunicorn with -k mksfilter.proxy.worker.ConsoleWorker"
            )
        attempt.upgrade = upgrade
        _refuse_early_data(upgrade)
        self._origins.check(environ)
        started = time.monotonic()
        claims, endpoint = self._verify(attempt, environ.get("HTTP_ORIGIN", ""))
        self._metrics.took("token", time.monotonic() - started)
        attempt.claims = claims
        name_session(claims.session_id, claims.rid)
        self._admission.require_service()
        attempt.waited = self._admission.waits(claims)
        place = self._admission.admit(claims, attempt.address)
        try:
            if attempt.request.waits:
                self._connector.require_running(claims)
            with self._admission.turn(claims, attempt.address):
                # Whoever has left meanwhile uses up no token and no ticket.
                _refuse_early_data(upgrade)
                with self._authorization.claim(claims, attempt.request.proof):
                    self._connect(attempt, claims, endpoint, place)
        except BaseException as exc:
            if not self._waits(attempt, claims, place, exc):
                place.release()
            raise

    def _waits(
        self, attempt: _Attempt, claims: Claims, place: Reservation, exc: BaseException
    ) -> bool:
        """Whether the page goes on waiting for its machine to start, and keeps *place*.

        :raises TokenError: it may not.
        """
        if not (isinstance(exc, ConsoleError) and exc.retry == "wait" and attempt.request.control):
            return False
        try:
            token = self._sessions.token_to_wait_with(claims, attempt.request)
            if token is not None and claims.use == "connect":
                # Else the link would open a console beside that of the page it was exchanged for.
                self._authorization.use_up(claims)
        except ReplayCacheUnavailable:
            token = None
        except BaseException:
            place.release()
            raise
        attempt.token = token
        attempt.pause = self._admission.keep(claims, place)
        return True

    def _verify(self, attempt: _Attempt, origin: str) -> tuple[Claims, Endpoint | None]:
        if not self._authorization.asks_nova(attempt.request):
            return self._authorization.verify(attempt.request, origin)
        with self._admission.question(attempt.address):
            return self._authorization.verify(attempt.request, origin)

    def _connect(
        self,
        attempt: _Attempt,
        claims: Claims,
        endpoint: Endpoint | None,
        place: Reservation,
    ) -> None:
        started = time.monotonic()
        self._authorization.confirm(claims)
        endpoint, upstream = self._connector.connect(claims, endpoint, takes=attempt.request.takes)
        try:
            # What can fail of a session is made before the 101: afterwards nobody can be told.
            session = self._sessions.prepare(
                claims, place, endpoint, attempt.request, address=attempt.address
            )
            _refuse_early_data(attempt.upgrade)
            self._sessions.record_opening(session)
            attempt.recorded = True
            try:
                client = attempt.upgrade.accept(handshake.response(attempt.request))
            except OSError as exc:
                gone = ClientGone("the client left while its console was being opened")
                self._sessions.record_end(session, gone)
                raise gone from exc
        except BaseException:
            upstream.close()
            raise
        attempt.accepted = True
        self._metrics.took("open", time.monotonic() - started, endpoint.vcenter)
        self._sessions.start(session, client, upstream)


class _Attempt:
    """What is known of a request so far, for the log and for the answer.

    :ivar accepted: its ``101`` is sent; both connections are the session's.
    :ivar address: of the client.
    :ivar claims: None as long as its token has not been verified.
    :ivar recorded: the audit trail knows of its session.
    :ivar request: its handshake; there when *claims* are.
    :ivar upgrade: its connection; there when *claims* are.
    :ivar waited: its page was waiting for the machine to start already.
    :ivar pause: seconds after which the page may ask again; None where it does not wait.
    :ivar token: to do so with, in place of the one that it has.
    """

    __slots__ = (
        "accepted",
        "address",
        "claims",
        "pause",
        "recorded",
        "request",
        "token",
        "upgrade",
        "waited",
    )

    request: handshake.Handshake
    upgrade: Upgrade

    def __init__(self, address: str) -> None:
        self.accepted = False
        self.address = address
        self.claims: Claims | None = None
        self.recorded = False
        self.waited = False
        self.pause: float | None = None
        self.token: str | None = None

    def names(self) -> dict[str, str]:
        """By which an operator finds it."""
        if self.claims is None:
            return {}
        return {"session": self.claims.session_id, "request": self.claims.rid}

    def facts(self) -> dict[str, str]:
        if self.claims is None:
            return {}
        return {
            "session": self.claims.session_id,
            "jti": self.claims.jti,
            "instance": self.claims.iid,
            "request": self.claims.rid,
        }


def _refuse_early_data(upgrade: Upgrade) -> None:
    try:
        early = upgrade.early_data()
    except OSError as exc:
        raise ClientGone("the client left") from exc
    if early:
        raise EarlyData(f"{len(early)} bytes followed the request before it was answered")
