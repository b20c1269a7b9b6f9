"""From claims to an open connection with the console's host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mksfilter.exceptions import BackendError, TicketRefused, UpstreamRefused

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims
    from mksfilter.endpoint import Endpoint
    from mksfilter.proxy.relay.transport import Upstream

__all__ = ["ConnectedConsole", "Connector", "Endpoints"]


class Endpoints(Protocol):
    """Tells where consoles are; :class:`.endpoints.EndpointSource` is one."""

    def endpoint(self, claims: Claims) -> Endpoint:
        """Where the console is, with a ticket for it.

        :raises BackendError: there is none.
        """

    def after_refusal(self, claims: Claims, refusal: BackendError) -> Endpoint:
        """Where to try once more after the console's host refused.

        :raises BackendError: what the user is told when that is of no use.
        """


class ConnectedConsole(NamedTuple):
    """A console whose host is ready to talk, and where that is."""

    endpoint: Endpoint
    upstream: Upstream


class Connector:
    """
    :param dial: endpoint -> upstream.
    """

    def __init__(self, endpoints: Endpoints, dial: Callable[[Endpoint], Upstream]) -> None:
        self._endpoints = endpoints
        self._dial = dial

    def connect(self, claims: Claims, endpoint: Endpoint | None = None) -> ConnectedConsole:
        """Find the console of *claims* and connect to its host.

        :param endpoint: where the console is, if the token alone told.
        :raises BackendError: there is no such console, or its host cannot be reached or refuses.
        """
        endpoint = endpoint or self._endpoints.endpoint(claims)
        try:
            return ConnectedConsole(endpoint, self._dial(endpoint))
        except (TicketRefused, UpstreamRefused) as refusal:
            endpoint = self._endpoints.after_refusal(claims, refusal)
            return ConnectedConsole(endpoint, self._dial(endpoint))
