"""From an instance and a caller, already authorised, to a console URL."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from mksfilter.auth.token import TokenCodec
from mksfilter.config import FilterSettings
from mksfilter.exceptions import ConfigurationError
from mksfilter.log import event
from mksfilter.request import ConsoleRequest

__all__ = ["ConsoleSource", "Issuer", "SealableEndpoint", "token_url"]

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
        self, codec: TokenCodec, settings: FilterSettings, *, consoles: ConsoleSource | None = None
    ) -> None:
        """
        :param consoles: takes the tickets where ``ticket_at = issue``.
        :raises ConfigurationError: the base URL cannot be one.
        """
        if settings.ticket_at == "issue" and consoles is None:
            raise ConfigurationError("ticket_at = issue needs vcenters to take tickets from")
        token_url(settings.webmks_proxy_base_url, "")
        self._codec = codec
        self._settings = settings
        self._consoles = consoles if settings.ticket_at == "issue" else None

    def console_url(self, request: ConsoleRequest) -> str:
        """A URL that opens the console of *request* until the token in it expires.

        :raises KeyRepositoryError: there is no key to sign with.
        :raises BackendError: ``ticket_at = issue`` and vSphere gives no ticket.
        """
        settings = self._settings
        info = None
        if self._consoles is not None:
            endpoint = self._consoles.connect(
                request.instance_id, vcenter=request.vcenter, user_id=request.user_id
            )
            info = endpoint.to_mapping()
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
        return token_url(settings.webmks_proxy_base_url, issued.token)


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
