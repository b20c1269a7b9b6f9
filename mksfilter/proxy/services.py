"""What one worker process has of its own: keys, vCenter sessions, limits, sessions, metrics.

Made once per process, after the fork and after gevent's patches; nothing before that imports it.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping

import gevent.threadpool

from mksfilter.audit.places import make_trail
from mksfilter.auth.clock import SetClock
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.nova_api import NovaAPI
from mksfilter.auth.nova_instances import NovaInstances
from mksfilter.auth.nova_tokens import NovaTokens
from mksfilter.auth.replay import replay_guard
from mksfilter.auth.revocation import RevocationFile
from mksfilter.auth.token import TokenCodec
from mksfilter.config import AuditSettings, NovaSettings, ProxySettings, VCenterSettings
from mksfilter.exceptions import ConfigurationError
from mksfilter.log import event
from mksfilter.proxy import fd_budget
from mksfilter.proxy.console.access_watch import AccessWatch
from mksfilter.proxy.console.admission import QUESTION_SHARE, Admission
from mksfilter.proxy.console.authorization import Authorization
from mksfilter.proxy.console.broker import Broker
from mksfilter.proxy.console.connector import Connector
from mksfilter.proxy.console.endpoints import EndpointSource
from mksfilter.proxy.console.limits import AddressRate, SessionLimits
from mksfilter.proxy.console.openings import Openings
from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies
from mksfilter.proxy.console.refusal_log import RefusalLog
from mksfilter.proxy.console.relays import Relays
from mksfilter.proxy.console.sessions import SessionRegistry
from mksfilter.proxy.console.standstill import StandstillWatch
from mksfilter.proxy.server.board import Page
from mksfilter.proxy.server.ledger import Ledger
from mksfilter.proxy.upstream.dial import dial
from mksfilter.proxy.upstream.groups import Groups
from mksfilter.proxy.web import checks, gauges
from mksfilter.proxy.web.metrics import Metrics
from mksfilter.proxy.web.report import NodeReport

__all__ = ["Process"]

LOG = logging.getLogger(__name__)

#: Consoles that a process opens at the same time; with those that wait for a place fewer than
#: gunicorn's worker_connections (1000).
_OPENINGS = 256


class Process:
    """Composes the parts by the settings.

    :param draining: whether this node is being taken out of service.
    :param ledger: where open sessions are written down.
    :param audit: where audit events go.
    :param out_of_service: whether load balancers are to send nobody here.
    :param certificates: when those that are served end (seconds since the epoch), by name.
    :param page_built: whether there is a console page.
    :param held: how many requests for consoles nobody has looked at yet.
    :param page: where this process tells the other workers of the node what it does.
    :ivar audit: takes them.
    :ivar authorization: says whether a token would open a console.
    :ivar broker: opens consoles.
    :ivar pid: whose it is; after a fork it is somebody else's.
    :ivar refusals: the log of requests that are refused.
    :ivar report: what the node says of itself.
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
        ledger: Ledger,
        audit: AuditSettings,
        *,
        out_of_service: Callable[[], bool],
        page_built: bool,
        page: Page,
        certificates: Callable[[], Mapping[str, float]],
        held: Callable[[], int],
    ) -> None:
        self.pid = os.getpid()
        keys = KeyRepository(settings.key_repository)
        clock = SetClock(settings.clock_skew)
        codec = TokenCodec(
            keys,
            settings.audience,
            clock=clock,
            as_before=clock.as_before,
            clock_skew=settings.clock_skew,
        )
        revocations = RevocationFile(keys)
        revocations.load()
        self.metrics = Metrics()
        self.audit = make_trail(
            audit,
            "proxy",
            lost=self.metrics.audit_lost,
            # A disk may hang, and no event loop notices: in a thread of the system's.
            blocking=gevent.threadpool.ThreadPool(1).apply,
        )
        endpoints = EndpointSource(settings, vcenters, codec, audit=self.audit)
        self._endpoints = endpoints
        self.authorization = Authorization(
            codec,
            nova=None if nova is None else NovaTokens(nova, settings.audience),
            instances=_instances(nova) if settings.resume_asks_nova else None,
            once_only=replay_guard(
                settings.replay_cache, fail_open=settings.replay_cache_fail_open
            ),
            revocations=revocations,
            clock=clock,
            as_before=clock.as_before,
        )
        self.sessions = SessionRegistry(
            codec,
            Relays(settings),
            self.metrics,
            audit=self.audit,
            lifetime=settings.session_lifetime,
            give_back=self.authorization.give_back,
            heard=self.authorization.heard,
            ledger=ledger,
        )
        self.access_watch = AccessWatch(
            keys,
            revocations,
            self.sessions,
            end_without_key=settings.end_sessions_of_removed_keys,
        )
        self.access_watch.start()
        self.standstill_watch = StandstillWatch(self.sessions, endpoints.questions)
        self.standstill_watch.start()
        limits = SessionLimits(
            _sessions_with_descriptors(settings.max_sessions),
            settings.max_sessions_per_instance,
            settings.max_sessions_per_user,
        )
        self.report = NodeReport(
            page,
            self.metrics,
            checks={
                "keys": lambda: checks.keys_readable(keys),
                "page": lambda: "" if page_built else "the console page is not built",
                "room": lambda: limits.full,
                "vcenters": lambda: checks.vcenter_reachable(endpoints.vcenters()),
            },
            draining=out_of_service,
            sessions=lambda: len(self.sessions),
        )
        gauges.watch_vcenters(
            self.metrics, endpoints.vcenters, {one.name: one.pool_size for one in vcenters}
        )
        gauges.watch_keys(self.metrics, keys)
        openings = Openings(
            _OPENINGS,
            per_user=settings.max_openings_per_user,
            per_address=settings.max_openings_per_address,
        )
        gauges.watch_limits(
            self.metrics, lambda: {**limits.use, **openings.use, "openings_held": (0, held())}
        )
        gauges.watch_certificates(
            self.metrics,
            lambda: {
                **certificates(),
                **{
                    f"vcenter {one.name}": one.certificate_ends
                    for one in endpoints.vcenters()
                    if one.certificate_ends
                },
            },
        )
        gauges.watch_clock(self.metrics, clock)
        gauges.watch_log(self.metrics)
        gauges.watch_build(self.metrics)
        self.report.start()
        self.refusals = RefusalLog()
        self.broker = Broker(
            origins=origins,
            proxies=proxies,
            authorization=self.authorization,
            admission=Admission(
                AddressRate(settings.connection_rate),
                limits,
                questions=AddressRate(settings.connection_rate * QUESTION_SHARE),
                openings=openings,
                draining=draining,
            ),
            connector=Connector(
                endpoints,
                functools.partial(
                    dial,
                    timeout=settings.connect_timeout,
                    allowed_networks=settings.allowed_networks,
                    tcp_user_timeout=settings.tcp_user_timeout,
                    groups=Groups(settings.tls_groups),
                ),
                took=self.metrics.took,
            ),
            sessions=self.sessions,
            metrics=self.metrics,
            audit=self.audit,
            refusals=self.refusals,
        )
        endpoints.watch()

    def leave(self, timeout: float) -> None:
        """Give back what is held elsewhere: the sessions of vCenters, which bound their number."""
        self._endpoints.close(timeout)


def _instances(nova: NovaSettings | None) -> NovaInstances:
    if nova is None:
        raise ConfigurationError(
            "resume_asks_nova is set, and [nova] names no way to log in: set auth_type, auth_url, "
            "username and password there"
        )
    # Places of its own: questions about tokens, which strangers can cause, do not take them.
    return NovaInstances(NovaAPI(nova))


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
