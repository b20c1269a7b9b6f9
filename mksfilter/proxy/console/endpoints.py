"""Where the console of a token's instance is: asked of vCenter, or opened from the token's seal."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mksfilter import runtime_directory
from mksfilter.audit.trail import NO_TRAIL, Trail
from mksfilter.config import ProxySettings, VCenterSettings
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import (
    BackendError,
    ConfigurationError,
    ConnectionLimitReached,
    TicketMissing,
)
from mksfilter.log import event

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims, TokenCodec
    from mksfilter.backends.resolver import Consoles, VCenterState

__all__ = ["EndpointSource"]

LOG = logging.getLogger(__name__)


class EndpointSource:
    """Turns claims into endpoints.

    A proxy in a DMZ (``ticket_at = issue`` and no ``vcenters``) never imports pyvmomi.

    :raises ConfigurationError: there is nobody to take a ticket from.
    """

    def __init__(
        self,
        settings: ProxySettings,
        vcenters: Iterable[VCenterSettings],
        codec: TokenCodec,
        *,
        audit: Trail = NO_TRAIL,
    ) -> None:
        self._audit = audit
        self._codec = codec
        self._sealed = settings.ticket_at == "issue"
        self._consoles: Consoles | None = None
        vcenters = tuple(vcenters)
        if vcenters:
            from mksfilter.backends.resolver import Consoles

            self._consoles = Consoles(
                vcenters,
                allowed_networks=settings.allowed_networks,
                take_over=settings.take_over,
                took_over=self._record,
                runtime_directory=runtime_directory.find(settings.runtime_directory),
            )
        elif not self._sealed:
            raise ConfigurationError(
                "vcenters is empty: name at least one, or set ticket_at = issue where the filter "
                "takes the tickets"
            )

    def _record(self, vcenter: str, instance_id: str) -> None:
        self._audit.record(
            "dropped",
            instance=instance_id,
            vcenter=vcenter,
            reason="take-over",
            detail="the oldest console of the machine, for a new one",
        )

    def endpoint(self, claims: Claims, *, takes: bool = False) -> Endpoint:
        """Find the VM and take a ticket.

        :param takes: a reconnect, too, may end somebody's console where ``take_over`` says so.
        :raises BackendError: one of its subclasses.
        :raises TokenError: the seal does not open.
        """
        if self._sealed:
            info = self._codec.connect_info(claims)
            if info is not None:
                return Endpoint.from_mapping(info)
        if self._consoles is None:
            raise TicketMissing(
                f"token {claims.jti} holds no ticket, and this proxy has no vcenters to ask; "
                "set ticket_at = issue for the filter"
            )
        return _connect(self._consoles, claims, takes)

    def require_running(self, claims: Claims) -> None:
        """See :meth:`mksfilter.backends.resolver.Consoles.require_running`."""
        if self._consoles is not None:
            self._consoles.require_running(claims.iid)

    def after_refusal(
        self, claims: Claims, refusal: BackendError, *, takes: bool = False
    ) -> Endpoint:
        """A second endpoint, where the first one's host refused because of the VM's limit.

        :param takes: see :meth:`endpoint`.
        :raises ConnectionLimitReached: it did, and nobody's console is to be ended.
        :raises BackendError: *refusal*, which has another cause, or one that cannot be told.
        """
        if self._consoles is None:
            raise refusal
        try:
            if self._consoles.make_room(
                claims.iid,
                vcenter=claims.vc,
                user_id=claims.uid,
                may_take_over=_may_take_over(claims, takes),
            ):
                return _connect(self._consoles, claims, takes)
        except ConnectionLimitReached:
            raise
        except BackendError as exc:
            LOG.debug(event("refusal-unexplained", instance=claims.iid, detail=exc))
        raise refusal

    def questions(self, vcenter: str, vms: Mapping[str, str]) -> Mapping[str, str]:
        """See :meth:`mksfilter.backends.resolver.Consoles.questions`."""
        return {} if self._consoles is None else self._consoles.questions(vcenter, vms)

    def watch(self) -> None:
        """Look after the vCenters from now on, whether consoles are asked for or not."""
        if self._consoles is not None:
            self._consoles.watch()

    def close(self, timeout: float) -> None:
        """Log out of the vCenters, within *timeout* seconds; nothing is asked of them any more."""
        if self._consoles is not None:
            self._consoles.close(timeout=timeout)

    def vcenters(self) -> Sequence[VCenterState]:
        """The vCenters as the metrics show them; none for a proxy that asks none."""
        return () if self._consoles is None else self._consoles.state()


def _connect(consoles: Consoles, claims: Claims, takes: bool) -> Endpoint:
    return consoles.connect(
        claims.iid,
        vcenter=claims.vc,
        user_id=claims.uid,
        may_take_over=_may_take_over(claims, takes),
    )


def _may_take_over(claims: Claims, takes: bool) -> bool:
    """A page that comes back by itself ends nobody's console, or two would end each other's."""
    return takes or claims.use == "connect"
