"""From an instance and a caller, already authorized, to a console URL."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from mksfilter.audit.trail import NO_TRAIL, Trail
from mksfilter.auth.token import TokenCodec
from mksfilter.bounded import BoundedCalls, DeadlinePassed, NoPlace
from mksfilter.config import VCENTER_PLACE, FilterSettings, ProxyRoute, with_vcenter
from mksfilter.exceptions import ConfigurationError, VCenterBusy, VCenterUnreachable
from mksfilter.log import event
from mksfilter.request import ConsoleRequest

__all__ = ["ConsoleSource", "Issuer", "ProxyUrls", "SealableEndpoint", "token_url"]

LOG = logging.getLogger(__name__)


class SealableEndpoint(Protocol):
    """Where a console is; :class:`mksfilter.endpoint.Endpoint` is one."""

    def to_mapping(self) -> Mapping[str, Any]:
        """JSON-able; the proxy makes the endpoint of it again."""


class ConsoleSource(Protocol):
    """Who takes console tickets; :class:`mksfilter.backends.resolver.Consoles` is one."""

    def connect(
        self, instance_id: str, *, vcenter: str | None = None, user_id: str = ""
    ) -> SealableEndpoint:
        """:raises BackendError: vSphere gives no console."""


class Issuer:
    """Mints tokens and writes them into console URLs."""

    def __init__(
        self,
        codec: TokenCodec,
        settings: FilterSettings,
        *,
        consoles: ConsoleSource | None = None,
        audit: Trail = NO_TRAIL,
    ) -> None:
        """
        :param consoles: takes the tickets where ``ticket_at = issue``.
        :param audit: is told of every link; who answers requests tells it of refusals.
        :raises ConfigurationError: the base URL cannot be one.
        """
        if settings.ticket_at == "issue" and consoles is None:
            raise ConfigurationError("ticket_at = issue needs vcenters to take tickets from")
        self.audit = audit
        self._codec = codec
        self._settings = settings
        self._urls = ProxyUrls(settings.webmks_proxy_base_url, settings.routes)
        self._consoles = consoles if settings.ticket_at == "issue" else None
        self._tickets = BoundedCalls(
            "console-ticket", limit=settings.tickets_at_once, timeout=settings.ticket_timeout
        )

    def console_url(self, request: ConsoleRequest) -> str:
        """A URL that opens the console of *request* until the token in it expires.

        :raises KeyRepositoryError: there is no key to sign with.
        :raises ConfigurationError: no URL for the vCenter that has the instance.
        :raises BackendError: ``ticket_at = issue`` and vSphere gives no ticket in time.
        :raises AuditUnavailable: ``audit_fail_closed``, and that this link is given out cannot be
            recorded.
        """
        settings = self._settings
        base_url = self._urls.of(request.vcenter)
        self._codec.require_key()
        info = None
        if self._consoles is not None:
            info = self._ticket(self._consoles, request).to_mapping()
        lifetime = settings.session_lifetime
        issued = self._codec.issue(
            request,
            ttl=settings.token_ttl,
            session_end=self._codec.now() + lifetime if lifetime else None,
            connect_info=info,
        )
        claims = issued.claims
        LOG.info(
            event(
                "console-link-issued",
                jti=claims.jti,
                instance=claims.iid,
                project=claims.pid,
                user=claims.uid,
                request=claims.rid,
                mode=claims.mode,
                exp=claims.exp,
            )
        )
        self.audit.confirm(
            "asked",
            user=claims.uid,
            project=claims.pid,
            instance=claims.iid,
            vcenter=claims.vc or "",
            client=request.client,
            request=claims.rid,
            session=claims.session_id,
            jti=claims.jti,
            mode=claims.mode,
        )
        return token_url(base_url, issued.token)

    def _ticket(self, consoles: ConsoleSource, request: ConsoleRequest) -> SealableEndpoint:
        def connect() -> SealableEndpoint:
            return consoles.connect(
                request.instance_id, vcenter=request.vcenter, user_id=request.user_id
            )

        settings = self._settings
        try:
            return self._tickets.run(connect)
        except NoPlace:
            raise VCenterBusy(
                f"{settings.tickets_at_once} tickets are in the making already (tickets_at_once)"
            ) from None
        except DeadlinePassed:
            raise VCenterUnreachable(
                f"no ticket within {settings.ticket_timeout:g} s (ticket_timeout)"
            ) from None


class ProxyUrls:
    """The base URL of the proxy near each vCenter."""

    def __init__(self, common: str, routes: Sequence[ProxyRoute] = ()) -> None:
        """
        :param common: for every vCenter without one of its own; ``{vcenter}`` in it stands for
            the vCenter's name, or for its UUID where no route has that.
        :raises ConfigurationError: one of them cannot be a base URL, or has no vCenter.
        """
        self._common = common
        self._routes = {route.instance_uuid: route for route in routes if route.instance_uuid}
        self._names = {route.name: route for route in routes}
        token_url(with_vcenter(common, "name"), "")
        for route in routes:
            if route.base_url and not route.instance_uuid:
                raise ConfigurationError(
                    f"[vcenter.{route.name}] webmks_proxy_base_url needs instance_uuid, by which "
                    f"the vCenter is known"
                )
            token_url(route.url(common), "")

    def of(self, vcenter: str | None) -> str:
        """The base URL for an instance in *vcenter*.

        :param vcenter: its instance UUID or its name; None: not known.
        :raises ConfigurationError: it is not known, and the common URL needs it.
        """
        route = self._routes.get(vcenter or "") or self._names.get(vcenter or "")
        if route is not None:
            return route.url(self._common)
        if VCENTER_PLACE not in self._common:
            return self._common
        if vcenter is None:
            raise ConfigurationError(
                f"webmks_proxy_base_url has {VCENTER_PLACE}, and the instance's node does not name "
                f"its vCenter; write a URL without it"
            )
        return with_vcenter(self._common, vcenter)


def token_url(base_url: str, token: str) -> str:
    """*base_url* with ``token=`` appended; it always holds a ``?``.

    Horizon appends ``&title=...`` to whatever it is given, so the query must have begun and
    nothing may follow it. A path that names a directory gets its last slash: the page's files
    are beside it.

    :raises ConfigurationError: not an absolute http(s) URL, or one with a fragment or a password.
    """
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in base_url):
        raise ConfigurationError(
            f"webmks_proxy_base_url {base_url!r} is not a URL of the form https://HOST[:PORT]/"
        )
    if parts.fragment or "#" in base_url:
        raise ConfigurationError(
            f"webmks_proxy_base_url {base_url!r} has a fragment (#); remove it"
        )
    if "@" in parts.netloc:
        raise ConfigurationError("webmks_proxy_base_url holds a user name; remove it")
    query = f"{parts.query}&token={token}" if parts.query else f"token={token}"
    path = parts.path
    if "." not in path.rpartition("/")[2]:
        path = path.rstrip("/") + "/"
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))
