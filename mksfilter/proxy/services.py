"""What one worker process has of its own: keys, vCenter sessions, limits, sessions, metrics.

Made once per process, after the fork and after gevent's patches; nothing before that imports it.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.nova_tokens import NovaTokens, is_nova_token
from mksfilter.auth.replay import replay_guard
from mksfilter.auth.token import Claims, TokenCodec
from mksfilter.config import NovaSettings, ProxySettings, VCenterSettings
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import SessionEnded
from mksfilter.log import event
from mksfilter.proxy.console import control_channel
from mksfilter.proxy.console.broker import Broker
from mksfilter.proxy.console.endpoints import EndpointSource
from mksfilter.proxy.console.limits import AddressRate, SessionLimits
from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies
from mksfilter.proxy.console.sessions import Session, SessionRegistry
from mksfilter.proxy.relay.driver import Relay, RelayOptions
from mksfilter.proxy.relay.transport import Transport, Upstream
from mksfilter.proxy.server import fd_budget
from mksfilter.proxy.upstream.dial import dial
from mksfilter.proxy.web.metrics import Metrics

__all__ = ["Process"]

LOG = logging.getLogger(__name__)

_USES = ("connect", "resume")


class Process:
    """Composes the parts by the settings.

    :param draining: whether this node is being taken out of service.
    :ivar pid: whose it is; after a fork it is somebody else's.
    :raises ConfigurationError: a setting that only its user can check is wrong.
    """

    def __init__(
        self,
        settings: ProxySettings,
        vcenters: tuple[VCenterSettings, ...],
        nova: NovaSettings | None,
        origins: OriginPolicy,
        proxies: TrustedProxies,
        draining: Callable[[], bool],
    ) -> None:
        self.pid = os.getpid()
        self._settings = settings
        self._codec = TokenCodec(
            KeyRepository(settings.key_repository),
            settings.audience,
            clock_skew=settings.clock_skew,
        )
        self._nova = None if nova is None else NovaTokens(nova, settings.audience)
        source = EndpointSource(settings, vcenters, self._codec)
        guard = replay_guard(settings.replay_cache, fail_open=settings.replay_cache_fail_open)
        self.metrics = Metrics(source.vcenters)
        self.registry = SessionRegistry(
            self._codec, count_bytes=self.metrics.count_bytes, refresh=self.metrics.refresh
        )
        self.broker = Broker(
            origins=origins,
            proxies=proxies,
            verify=self._verify,
            claim=None if guard is None else guard.claim,
            rate=AddressRate(settings.connection_rate),
            limits=SessionLimits(
                _sessions_with_descriptors(settings.max_sessions),
                settings.max_sessions_per_instance,
                settings.max_sessions_per_user,
            ),
            endpoint=source.endpoint,
            dial=self._dial,
            relay=self._relay,
            registry=self.registry,
            metrics=self.metrics,
            draining=draining,
            session_lifetime=settings.session_lifetime,
            after_refusal=source.after_refusal,
        )

    def check(self, token: str) -> None:
        """Would this token open a console? One of Nova's own is not asked about twice.

        :raises TokenError: it would not.
        """
        if self._nova is None or not is_nova_token(token):
            self._codec.verify(token, uses=_USES)

    def _verify(self, token: str) -> tuple[Claims, Endpoint | None]:
        if self._nova is not None and is_nova_token(token):
            return self._nova.verify(token)
        return self._codec.verify(token, uses=_USES), None

    def _dial(self, endpoint: Endpoint) -> Upstream:
        return dial(
            endpoint,
            timeout=self._settings.connect_timeout,
            allowed_networks=self._settings.allowed_networks,
        )

    def _relay(
        self,
        client: Transport,
        upstream: Upstream,
        endpoint: Endpoint,
        session: Session,
        on_end: Callable[[Session, SessionEnded], None],
    ) -> Relay:
        return Relay(
            client,
            upstream,
            options=self._options(
                session.claims.mode == "view", session.has_control, endpoint.rfb_handshake
            ),
            on_end=lambda _, reason: on_end(session, reason),
            lifetime=None if session.ends is None else max(0.0, session.ends - time.time()),
        )

    @functools.cache  # noqa: B019 - lives as long as the process
    def _options(self, view_only: bool, control: bool, rfb_handshake: str) -> RelayOptions:
        settings = self._settings
        return RelayOptions(
            view_only=view_only,
            end_message=control_channel.end if control else None,
            rfb_handshake=rfb_handshake,
            stall_timeout=settings.stall_timeout,
            idle_timeout=settings.idle_timeout,
            ping_interval=settings.ping_interval,
            upstream_ping_interval=settings.upstream_ping_interval,
        )


def _sessions_with_descriptors(wanted: int) -> int:
    """*wanted*, or as many sessions as this process has file descriptors for."""
    limit = fd_budget.limit()
    room = fd_budget.sessions(limit)
    if room < wanted:
        LOG.warning(
            event(
                "few-descriptors",
                max_sessions=wanted,
                room=room,
                descriptors=limit,
                remedy=f"raise the limit (LimitNOFILE=, ulimit -n) to {fd_budget.needed(wanted)}",
            )
        )
    return min(wanted, room)
