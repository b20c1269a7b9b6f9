"""WebMKS: a WebSocket on the ESXi host, opened with a ticket (vSphere 6.0 and later)."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

from mksfilter.backends.base import Backend, console_host, console_port, named_host, safe_text
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import TicketRefused

if TYPE_CHECKING:
    from mksfilter.backends.vsphere.client import VM, Ticket
    from mksfilter.backends.vsphere.session import Session
    from mksfilter.config import VCenterSettings

__all__ = ["WebMKS", "webmks_endpoint"]


class WebMKS(Backend):
    """``AcquireTicket("webmks")``: ``wss://{host}:{port}/ticket/{ticket}``."""

    def ticket(self, session: Session, vm: VM) -> Ticket:
        return session.ticket(vm, "webmks")

    def endpoint(self, session: Session, vm: VM, ticket: Ticket) -> Endpoint:
        return webmks_endpoint(self.settings, ticket)


def webmks_endpoint(settings: VCenterSettings, ticket: Ticket) -> Endpoint:
    """Read a ticket in any of the forms that vSphere has given it over the years.

    ``url`` (since 7.0) says everything and wins; ``host`` and ``port`` may both be missing. With
    no digest at all the host is verified by CA, unless the operator wrote ``insecure``.

    :raises TicketRefused: the ticket cannot be used.
    """
    named, port, resource = ticket.host, ticket.port, ""
    if ticket.url:
        try:
            url = urllib.parse.urlsplit(safe_text(ticket.url, "ticket URL"))
            named, port = url.hostname or named, url.port or port
        except ValueError:
            raise TicketRefused(f"vcenter {settings.name}: the ticket's URL is malformed") from None
        if url.scheme != "wss":
            raise TicketRefused(
                f"vcenter {settings.name}: the ticket's URL is not wss://; a console is never "
                f"opened without encryption"
            )
        resource = url.path + (f"?{url.query}" if url.query else "")
        if not url.path.startswith("/") and resource:
            raise TicketRefused(f"vcenter {settings.name}: the ticket's URL is malformed")
    if resource in ("", "/"):
        resource = "/ticket/" + urllib.parse.quote(safe_text(ticket.ticket, "ticket"), safe="")
    named = named_host(settings, named)
    host = console_host(settings, named)
    return Endpoint(
        kind="websocket",
        host=host,
        port=console_port(settings, port, 443),
        resource=resource,
        server_name=named or host,
        digests=ticket.digests,
        ca_file=settings.ca_file,
        insecure=settings.insecure,
        rfb_handshake="full",
        vcenter=settings.name,
    )
