"""From claims to an open connection with the console's host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mksfilter.exceptions import BackendError, TicketRefused, UpstreamRefused

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims
    from mksfilter.endpoint import Endpoint
    from mksfilter.proxy.relay.transport import Upstream
    from mksfilter.proxy.web.metrics import Step

__all__ = ["ConnectedConsole", "Connector", "Endpoints"]


class Endpoints(Protocol):
    """Tells where consoles are; :class:`.endpoints.EndpointSource` is one."""

    def endpoint(self, claims: Claims, *, takes: bool = False) -> Endpoint:
        """Where the console is, with a ticket for it.

        :param takes: its user asks for it, whoever has it.
        :raises BackendError: there is none.
        """

    def require_running(self, claims: Claims) -> None:
        """Whether the machine may run, as far as this node knows; nobody is asked.

        :raises BackendError: it could not a moment ago; one whose ``retry`` is ``wait``.
        """

    def after_refusal(
        self, claims: Claims, refusal: BackendError, *, takes: bool = False
    ) -> Endpoint:
        """Where to try once more after the console's host refused.

        :raises BackendError: what the user is told when that is of no use.
        """


class ConnectedConsole(NamedTuple):
    """A console whose host is ready to talk, and where that is."""

    endpoint: Endpoint
    upstream: Upstream


class Took(Protocol):
    """Hears how long a step took; :meth:`mksfilter.proxy.web.metrics.Metrics.took` does."""

    def __call__(self, step: Step, seconds: float, vcenter: str = "") -> None:
        """:param vcenter: where the console is."""


class Connector:
    """
    :param dial: endpoint -> upstream.
    :param took: is told of each ticket, and of each connection with a host.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        dial: Callable[[Endpoint], Upstream],
        took: Took = lambda *_args: None,
    ) -> None:
        self._endpoints = endpoints
        self._dial_host = dial
        self._took = took

    def require_running(self, claims: Claims) -> None:
        """See :class:`Endpoints`."""
        self._endpoints.require_running(claims)

    def connect(
        self, claims: Claims, endpoint: Endpoint | None = None, *, takes: bool = False
    ) -> ConnectedConsole:
        """Find the console of *claims* and connect to its host.

        :param endpoint: where the console is, if the token alone told.
        :param takes: its user asks for it, whoever has it.
        :raises BackendError: there is no such console, or its host cannot be reached or refuses.
        """
        if endpoint is None:
            started = time.monotonic()
            endpoint = self._endpoints.endpoint(claims, takes=takes)
            self._took("ticket", time.monotonic() - started, endpoint.vcenter)
        try:
            return ConnectedConsole(endpoint, self._dial(endpoint))
        except (TicketRefused, UpstreamRefused) as refusal:
            endpoint = self._endpoints.after_refusal(claims, refusal, takes=takes)
            return ConnectedConsole(endpoint, self._dial(endpoint))

    def _dial(self, endpoint: Endpoint) -> Upstream:
        started = time.monotonic()
        upstream = self._dial_host(endpoint)
        self._took("dial", time.monotonic() - started, endpoint.vcenter)
        return upstream
