"""The WSGI application: routes, and the paste factory ``egg:mksfilter#mksproxy``.

What it composes is made once per worker process, after the fork: with gunicorn's ``preload_app``
no socket, lock or thread made in the parent is used in a child.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mksfilter import config, extras, log
from mksfilter.auth.keys import KeyRepository
from mksfilter.exceptions import (
    ConfigurationError,
    ConsoleError,
    KeysUnavailable,
    LimitReached,
    MksFilterError,
    OriginDenied,
    TokenError,
    UpgradeOverHTTP10,
    UpgradeRequired,
)
from mksfilter.tcp import split_address
from mksfilter.tls_groups import check_groups

with extras.needed("the console proxy"):
    from mksfilter.proxy import sdk
    from mksfilter.proxy.console import handshake
    from mksfilter.proxy.console.origin import (
        OriginPolicy,
        TrustedProxies,
        contains,
        parse_networks,
    )
    from mksfilter.proxy.server import roster, state
    from mksfilter.proxy.web.page import Answer, Pages, framed, plain
    from mksfilter.proxy.web.paths import PAGES, UPGRADES, PathPrefix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from mksfilter.proxy.services import Process

__all__ = ["ConsoleProxy", "app_factory"]

LOG = logging.getLogger(__name__)

#: For vCenters to take leave of a worker that ends.
_LOG_OUT_SECONDS = 1.0
_NO_AUDIT = config.AuditSettings()


def app_factory(global_conf: Mapping[str, str], **local_conf: str) -> ConsoleProxy:
    """``paste.app_factory`` of the proxy.

    :param local_conf: ``config_file`` (several: separated by commas) and any option of
        ``[mksfilter]``, which then wins over the file's. ``config_file`` may stand in
        *global_conf* too (``gunicorn --paste-global config_file=...``).
    :raises ConfigurationError: what the operator wrote is wrong.
    """
    options = dict(local_conf)
    files = options.pop("config_file", None) or global_conf.get("config_file", "")
    conf = config.load([name.strip() for name in files.split(",") if name.strip()])
    return ConsoleProxy(
        config.proxy_settings(conf, options, paste_file=global_conf.get("__file__", "")),
        config.vcenter_settings(conf, options),
        nova=lambda: config.nova_settings(conf),
        audit=config.audit_settings(conf, options),
    )


class ConsoleProxy:
    """The application.

    :param nova: called in each worker: how to ask Nova about its own tokens, or None. It imports
        what must not be imported before gevent's patches.
    :param audit: where audit events go.
    :raises ConfigurationError: settings that contradict themselves, no keys, an unsafe key.
    """

    def __init__(
        self,
        settings: config.ProxySettings,
        vcenters: Iterable[config.VCenterSettings] = (),
        *,
        nova: Callable[[], config.NovaSettings | None] = lambda: None,
        audit: config.AuditSettings = _NO_AUDIT,
    ) -> None:
        log.configure_logging(settings.log_level.upper(), settings.log_format)
        self._settings = settings
        self._vcenters = tuple(vcenters)
        self._nova = nova
        self._audit = audit
        self._proxies = TrustedProxies(settings.trusted_proxies)
        if settings.proxy_protocol and not settings.trusted_proxies:
            raise ConfigurationError(
                "proxy_protocol is on and trusted_proxies is empty: name the load balancers that "
                "may say who the client is"
            )
        self._origins = OriginPolicy(
            settings.allowed_origins, self._proxies, base_url=settings.webmks_proxy_base_url
        )
        if settings.management_bind:
            split_address(settings.management_bind, "management_bind")
        self._scrapers = parse_networks(settings.metrics_networks, "metrics_networks")
        parse_networks(settings.allowed_networks, "allowed_networks")
        check_groups(settings.tls_groups)
        self._pages = Pages(
            settings.frame_ancestors,
            hsts=settings.hsts_max_age,
            may_open=self._origins.allows,
            sdk=sdk.configured(settings.console_client, settings.wmks_dir),
        )
        self._prefix = PathPrefix(settings.webmks_proxy_base_url)
        # Say now, not at the first token, that there are no keys or that they are open to others.
        KeyRepository(settings.key_repository).load()
        self._process: Process | None = None
        self._state = state.ServerState()
        state.register(self)

    # -- for the worker ------------------------------------------------------------------------

    @property
    def handshake_timeout(self) -> float:
        """Seconds for a client to send a whole request."""
        return self._settings.handshake_timeout

    @property
    def sessions(self) -> int:
        """Live sessions of this process."""
        return 0 if self._process is None else len(self._process.sessions)

    @property
    def management_bind(self) -> str:
        """``HOST:PORT`` of the listener for :meth:`manage`; empty: none."""
        return self._settings.management_bind

    @property
    def superseded(self) -> bool:
        """This process drains, and another one of the node takes new sessions."""
        return self._running().report.superseded

    def expects_proxy_header(self, peer: str) -> bool:
        """Does a connection from this address start with a PROXY protocol header?"""
        return self._settings.proxy_protocol and self._proxies.trusts(peer)

    def start(self, server_state: state.ServerState) -> None:
        """Make what this process has of its own.

        :param server_state: says whether the process is being taken out of service.
        :raises ConfigurationError: a setting that only its user can check is wrong.
        """
        # Not at the top: what it imports must be imported after gevent's patches.
        from mksfilter.proxy.services import Process

        self._state = server_state
        self._process = Process(
            self._settings,
            self._vcenters,
            self._nova(),
            self._origins,
            self._proxies,
            lambda: server_state.refusing,
            server_state.ledger,
            self._audit,
            out_of_service=self._out_of_service,
            page_built=self._pages.built,
            page=server_state.page,
            certificates=lambda: server_state.certificates,
            held=lambda: sum(map(len, server_state.held)),
        )

    @property
    def drain_time(self) -> float:
        """Seconds for which sessions that cannot move are kept when the worker has to go."""
        return self._settings.drain_time

    @property
    def kinds(self) -> tuple[int, int]:
        """Live sessions that can move to another node by themselves, and those that cannot."""
        return (0, 0) if self._process is None else self._process.sessions.kinds

    def drain(self, seconds: float | None, *, move_within: float) -> None:
        """Have the pages move, and end the other sessions after *seconds*."""
        self._running().sessions.drain(seconds, move_within=move_within)

    def tell_lost(self, sessions: Iterable[Mapping[str, Any]]) -> None:
        """Count and record the end of sessions of a worker that was killed."""
        self._running().sessions.tell_lost(sessions)

    def close(self) -> None:
        """End all sessions now."""
        self._running().sessions.close()

    def flush(self) -> None:
        """Write the audit events that wait, as far as that takes no longer than two seconds, and
        log out of the vCenters, within another; what was counted is published a last time."""
        if self._process is not None and self._process.pid == os.getpid():
            self._process.report.publish()
            self._process.audit.close()
            self._process.leave(_LOG_OUT_SECONDS)

    def refused(self, reason: str) -> None:
        """Count a request that never reached us."""
        self._running().metrics.refuse(reason)

    def manage(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request for the management listener (PEP 3333)."""
        # Not at the top, as in start().
        from mksfilter.proxy.web.management import Management

        return Management(
            self._running().report,
            self._may_scrape,
            lambda: roster.report(roster.shared(), os.getppid()),
        )(environ, start_response)

    # -- WSGI ----------------------------------------------------------------------------------

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        upgrade = handshake.asks_for_upgrade(environ)
        try:
            answer = self._upgrade(environ) if upgrade else self._get(environ)
        except ConsoleError as exc:
            answer = _refusal(exc)
        except MksFilterError as exc:
            LOG.error(log.event("console-failed", detail=exc))
            answer = _refusal(ConsoleError())
        if answer is None:
            return []
        start_response(answer.status_line, framed(answer))
        return [answer.body] if environ["REQUEST_METHOD"] == "GET" and answer.body else []

    def _upgrade(self, environ: WSGIEnvironment) -> Answer | None:
        if self._prefix.without(environ.get("PATH_INFO", "")) not in UPGRADES:
            return _NOT_FOUND
        self._running().broker.open(environ)
        return None

    def _get(self, environ: WSGIEnvironment) -> Answer | None:
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            # HAProxy's `option httpchk` without a URI asks `OPTIONS /`, and takes 2xx for health.
            return Answer(503 if self._out_of_service() else 200, [("Allow", _METHODS)])
        if method not in ("GET", "HEAD"):
            return _METHOD_NOT_ALLOWED
        path = self._prefix.without(environ.get("PATH_INFO", ""))
        if path in PAGES:
            return self._page(environ)
        if path == "/healthz":
            return self._health()
        if path == "/websockify":
            return self._judge(environ)
        return self._pages.static(path, environ) or _NOT_FOUND

    def _page(self, environ: WSGIEnvironment) -> Answer:
        own = self._proxies.own_origin(environ)
        tls = own is not None and own.scheme == "https"
        token = handshake.link_token(environ.get("QUERY_STRING", ""))
        directory = self._prefix.directory(
            environ.get("PATH_INFO", ""), environ.get("SCRIPT_NAME", "")
        )
        page = functools.partial(
            self._pages.console,
            tls=tls,
            directory=directory,
            encodings=environ.get("HTTP_ACCEPT_ENCODING", ""),
        )
        refusal = functools.partial(
            self._pages.refusal,
            tls=tls,
            wanted=handshake.link_language(environ.get("QUERY_STRING", "")),
            accept=environ.get("HTTP_ACCEPT_LANGUAGE", ""),
        )
        if not token:
            # After a reload the page has its token in its own memory, or says that it has none.
            return page()
        try:
            self._running().authorization.check(token)
        except KeysUnavailable as exc:
            self._running().metrics.refuse(exc.reason)
            LOG.error(log.event("page-refused", reason=exc.reason, detail=exc))
            return refusal(exc)
        except TokenError as exc:
            process, client = self._running(), self._proxies.client_address(environ)
            process.metrics.refuse(exc.reason)
            if process.refusals.has_room(exc.reason, client):
                LOG.info(
                    log.event("page-refused", reason=exc.reason, client=client, detail=str(exc))
                )
            process.audit.record_stranger(
                "refused", reason=exc.reason, status=exc.status, client=client, detail=str(exc)
            )
            return refusal(exc)
        return page()

    def _judge(self, environ: WSGIEnvironment) -> Answer:
        """For a page whose WebSocket did not open. Browsers hide why, and a link that is refused is
        to be told from a network that lets no WebSocket through."""
        token = environ.get("HTTP_MKS_TOKEN", "")
        if not token:
            raise UpgradeRequired("no Upgrade header")
        self._running().broker.judge(environ, token, environ.get("HTTP_MKS_ORIGIN", ""))
        return Answer(204, [("Cache-Control", "no-store")])

    def _health(self) -> Answer:
        return plain(503, "draining\n") if self._out_of_service() else plain(200, "ok\n")

    def _out_of_service(self) -> bool:
        disable = self._settings.healthz_disable_file
        return self._state.draining or bool(disable and os.path.exists(disable))

    def _may_scrape(self, environ: WSGIEnvironment) -> bool:
        """A peer of ``metrics_networks``, and nobody whose request it passes on."""
        forwarded = "HTTP_X_FORWARDED_FOR" in environ or "HTTP_FORWARDED" in environ
        return not forwarded and contains(self._scrapers, environ.get("REMOTE_ADDR", ""))

    def _running(self) -> Process:
        if self._process is None or self._process.pid != os.getpid():
            # A server that is not our worker: it knows no draining.
            self.start(state.ServerState())
        assert self._process is not None
        return self._process


#: Seconds after which a client that is told to wait may ask again at the latest.
_LONGEST_PAUSE = 3600
_METHODS = "GET, HEAD, OPTIONS"
_NOT_FOUND = plain(404, "Not found\n")
_METHOD_NOT_ALLOWED = Answer(405, [("Allow", _METHODS)])


def _refusal(exc: ConsoleError) -> Answer:
    """The one place where an error becomes a status. No body: Tempest asks for that, and nobody
    sees the body of a refused upgrade but who looks for a fault on the way here."""
    headers = [("Connection", "close"), ("Cache-Control", "no-store")]
    if isinstance(exc, UpgradeRequired):
        headers += [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    if isinstance(exc, LimitReached):
        pause = math.ceil(float(exc.facts.get("seconds", 5)))
        headers.append(("Retry-After", str(min(max(1, pause), _LONGEST_PAUSE))))
    if isinstance(exc, OriginDenied):
        # Whoever set this server up finds the remedy sooner; to anybody else it tells nothing.
        headers.append(("Mks-Reason", exc.reason))
    if isinstance(exc, UpgradeOverHTTP10):
        headers.append(("Content-Type", "text/plain; charset=utf-8"))
        return Answer(exc.status, headers, f"{exc.hint}\n".encode())
    return Answer(exc.status, headers)
