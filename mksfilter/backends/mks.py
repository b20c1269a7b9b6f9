"""MKS: authd on port 902 of the ESXi host (any vSphere; deprecated since 8.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mksfilter.backends.base import Backend, console_host, console_port, named_host, safe_text
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import TicketRefused

if TYPE_CHECKING:
    from mksfilter.backends.vsphere.client import VM, Ticket
    from mksfilter.backends.vsphere.session import Session
    from mksfilter.config import VCenterSettings

__all__ = ["MKS", "mks_endpoint"]


class MKS(Backend):
    """``AcquireTicket("mks")``, what Nova's own driver takes for ``get_mks_console``."""

    def ticket(self, session: Session, vm: VM) -> Ticket:
        return session.ticket(vm, "mks")

    def endpoint(self, session: Session, vm: VM, ticket: Ticket) -> Endpoint:
        return mks_endpoint(self.settings, ticket)


def mks_endpoint(settings: VCenterSettings, ticket: Ticket) -> Endpoint:
    """Where authd waits for this ticket.

    :raises TicketRefused: the ticket or its ``cfgFile`` cannot be written into authd's dialogue,
        whose commands end at a line break.
    """
    config_file = ticket.config_file
    if not config_file or not config_file.isprintable():
        raise TicketRefused(f"vcenter {settings.name}: the mks ticket names no configuration file")
    named = named_host(settings, ticket.host)
    host = console_host(settings, named)
    return Endpoint(
        kind="authd",
        host=host,
        port=console_port(settings, ticket.port, 902),
        server_name=named or host,
        digests=ticket.digests,
        ca_file=settings.ca_file,
        insecure=settings.insecure,
        ticket=safe_text(ticket.ticket, "ticket"),
        config_file=config_file,
        vcenter=settings.name,
    )
