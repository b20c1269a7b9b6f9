"""From a request with a token to a running session.

Origin, token, once-only, limits, ticket, dial: only then ``101`` to the browser. Nothing reaches
vCenter before the token is verified and a place is free, and nothing from the browser reaches the
console before all of that (CVE-2022-36436).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mksfilter.exceptions import (
    AccessDenied,
    BackendError,
    ClientGone,
    ConsoleError,
    DrainingError,
    EarlyData,
    HandshakeError,
    MksFilterError,
    SessionEnded,
    TicketRefused,
    UpstreamRefused,
)
from mksfilter.log import event
from mksfilter.proxy.console import control_channel, handshake
from mksfilter.proxy.console.limits import AddressRate, Reservation, SessionLimits
from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies
from mksfilter.proxy.console.sessions import Session, SessionRegistry

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims
    from mksfilter.endpoint import Endpoint
    from mksfilter.proxy.web.metrics import Metrics

__all__ = ["Broker"]

LOG = logging.getLogger(__name__)


class Broker:
    """Opens consoles.

    :param verify: token -> claims, and where the console is if the token alone tells.
    :param claim: once-only; None where tokens may be used again.
    :param endpoint: claims -> where the console is; asks vCenter, or opens the token's seal.
    :param dial: endpoint -> upstream.
    :param after_refusal: claims and the console host's refusal -> where to try once more; it
        raises what the user is told when that is of no use.
    :param draining: whether this node is being taken out of service.
    :param relay: makes a relay, not yet started, of a client, an upstream and a session.
    """

    def __init__(
        self,
        *,
        origins: OriginPolicy,
        proxies: TrustedProxies,
        verify: Callable[[str], tuple[Claims, Endpoint | None]],
        claim: Callable[[str, int], None] | None,
        rate: AddressRate,
        limits: SessionLimits,
        endpoint: Callable[[Claims], Endpoint],
        dial: Callable[[Endpoint], Any],
        relay: Callable[..., Any],
        registry: SessionRegistry,
        metrics: Metrics,
        draining: Callable[[], bool] = lambda: False,
        session_lifetime: int = 0,
        after_refusal: Callable[[Claims, BackendError], Endpoint] | None = None,
    ) -> None:
        self._origins = origins
        self._proxies = proxies
        self._verify = verify
        self._claim = claim
        self._rate = rate
        self._limits = limits
        self._endpoint = endpoint
        self._dial = dial
        self._relay = relay
        self._registry = registry
        self._metrics = metrics
        self._draining = draining
        self._session_lifetime = session_lifetime
        self._after_refusal = after_refusal or _give_up

    def open(self, environ: Mapping[str, Any]) -> None:
        """Serve one upgrade request.

        :raises ConsoleError: to be answered with its plain status. A client that understands the
            control channel and has a good token was already told otherwise.
        """
        attempt = _Attempt(self._proxies.client_address(environ))
        try:
            self._open(environ, attempt)
        except ConsoleError as exc:
            refusal = exc
        except MksFilterError as exc:
            LOG.error(event("console-failed", client=attempt.client, detail=exc))
            refusal = ConsoleError(str(exc))
        except Exception as exc:
            LOG.exception(event("unexpected-error", client=attempt.client))
            refusal = ConsoleError(f"unexpected {type(exc).__name__}")
        else:
            return
        self._refuse(attempt, refusal)

    def _refuse(self, attempt: _Attempt, refusal: ConsoleError) -> None:
        self._metrics.refused.labels(refusal.reason).inc()
        LOG.info(
            event(
                "console-refused",
                reason=refusal.reason,
                client=attempt.client,
                **attempt.facts(),
                detail=str(refusal),
            )
        )
        if isinstance(refusal, ClientGone):
            return
        # Outside, all reasons why a token is not good enough look alike.
        outsider = attempt.claims is None or isinstance(refusal, (AccessDenied, HandshakeError))
        if outsider or not attempt.handshake.control:
            raise refusal
        with contextlib.suppress(OSError):
            attempt.upgrade.refuse(
                handshake.response(attempt.handshake), control_channel.farewell(refusal)
            )

    def _open(self, environ: Mapping[str, Any], attempt: _Attempt) -> None:
        attempt.handshake = shake = handshake.read(environ)
        upgrade = environ.get("mksfilter.connection")
        if upgrade is None:
            raise ConsoleError(
                "this worker cannot hand over connections; "
                "run gunicorn with -k mksfilter.proxy.worker.ConsoleWorker"
            )
        attempt.upgrade = upgrade
        _refuse_early_data(upgrade)
        self._origins.check(environ)
        claims, endpoint = self._verify(shake.token)
        attempt.claims = claims
        if self._draining():
            raise DrainingError("this node is being taken out of service")
        if self._claim is not None:
            self._claim(claims.jti, claims.exp)
        self._rate.take(attempt.client, time.monotonic())
        reservation = self._limits.reserve(claims.iid, claims.uid)
        try:
            self._connect(attempt, claims, endpoint, reservation)
        except BaseException:
            self._limits.release(reservation)
            raise

    def _connect(
        self,
        attempt: _Attempt,
        claims: Claims,
        endpoint: Endpoint | None,
        reservation: Reservation,
    ) -> None:
        started = time.monotonic()
        endpoint = endpoint or self._endpoint(claims)
        try:
            upstream = self._dial(endpoint)
        except (TicketRefused, UpstreamRefused) as refusal:
            endpoint = self._after_refusal(claims, refusal)
            upstream = self._dial(endpoint)
        try:
            _refuse_early_data(attempt.upgrade)
            try:
                client = attempt.upgrade.accept(handshake.response(attempt.handshake))
            except OSError as exc:
                raise ClientGone("the client left while its console was being opened") from exc
        except BaseException:
            upstream.close()
            raise
        self._metrics.open_seconds.observe(time.monotonic() - started)
        session = Session(
            claims=claims,
            client=attempt.client,
            vcenter=endpoint.vcenter,
            host=endpoint.address,
            has_control=attempt.handshake.control,
            ends=self._end_of(claims),
            on_end=lambda reason: self._ended(reason, reservation),
        )
        session.relay = self._relay(client, upstream, endpoint, session, self._registry.ended)
        self._metrics.active.inc()
        self._metrics.opened.labels(claims.mode).inc()
        # Greeted before it starts, so that a page knows its token before the first pixel.
        self._registry.open(session)
        session.relay.start()

    def _end_of(self, claims: Claims) -> int | None:
        if not self._session_lifetime:
            return claims.max
        end = int(time.time()) + self._session_lifetime
        return end if claims.max is None else min(end, claims.max)

    def _ended(self, reason: SessionEnded, reservation: Reservation) -> None:
        self._limits.release(reservation)
        self._metrics.active.dec()
        self._metrics.ended.labels(reason.reason).inc()


@dataclasses.dataclass(slots=True)
class _Attempt:
    """What is known of a request so far, for the log and for the answer."""

    client: str
    claims: Claims | None = None
    handshake: Any = None
    upgrade: Any = None

    def facts(self) -> dict[str, str]:
        if self.claims is None:
            return {}
        return {"jti": self.claims.jti, "instance": self.claims.iid, "request": self.claims.rid}


def _refuse_early_data(upgrade: Any) -> None:
    try:
        early = upgrade.early_data()
    except OSError as exc:
        raise ClientGone("the client left") from exc
    if early:
        raise EarlyData(f"{len(early)} bytes followed the request before it was answered")


def _give_up(_claims: Claims, refusal: BackendError) -> Endpoint:
    raise refusal
