"""The console proxy of vCenter 5.5 and 6.0: a WebSocket on the vCenter itself.

Its clone ticket is redeemed for a session with all rights of our account, so it is sent only to the
configured vCenter, and over TLS.
"""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

from mksfilter.backends.base import Backend
from mksfilter.backends.vsphere.client import Ticket
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import TicketRefused
from mksfilter.tcp import host_and_port
from mksfilter.tls import pins

if TYPE_CHECKING:
    from mksfilter.backends.vsphere.client import VM
    from mksfilter.backends.vsphere.session import Session

__all__ = ["VCenterConsole"]

_PORT_55 = 7343
_PLAIN_PORT_55 = 7331
_RESOURCE_55 = "/console/authd"
_PORT_60 = 9443
_RESOURCE_60 = "/vsphere-client/webconsole/authd"


class VCenterConsole(Backend):
    """``AcquireCloneTicket()``, and the query string that the old web client's page sent."""

    # A clone ticket is not about a VM: nothing is refused before the connection is made.
    needs_state = True

    def ticket(self, session: Session, vm: VM) -> Ticket:
        return Ticket(ticket=session.clone_ticket())

    def endpoint(self, session: Session, vm: VM, ticket: Ticket) -> Endpoint:
        settings = self.settings
        about = session.connect()
        if about.api_version >= (6, 5):
            raise TicketRefused(
                f"vcenter {settings.name}: vCenter 6.5 and later have no console proxy of this "
                f"kind; set backend = webmks or auto"
            )
        query = {
            "vmId": vm.moid,
            "vmName": vm.name,
            "host": host_and_port(session.fqdn() or settings.host, 443),
            "sessionTicket": ticket.ticket,
            "thumbprint": _sha1(session.certificate),
        }
        if about.api_version >= (6, 0):
            query["serverGuid"] = about.instance_uuid
            port, path = _PORT_60, _RESOURCE_60
        else:
            port, path = _PORT_55, _RESOURCE_55
        port = settings.console_port or port
        if port == _PLAIN_PORT_55 and not settings.insecure:
            raise TicketRefused(
                f"vcenter {settings.name}: console_port {port} is not encrypted, and the ticket "
                f"carries all rights of {settings.username}; use {_PORT_55}, or insecure = true"
            )
        return Endpoint(
            kind="websocket",
            host=settings.console_host or settings.host,
            port=port,
            tls=port != _PLAIN_PORT_55,
            resource=f"{path}?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}",
            server_name=settings.host,
            digests=pins(settings),
            ca_file=settings.ca_file,
            insecure=settings.insecure,
            vcenter=settings.name,
        )


def _sha1(certificate: bytes | None) -> str:
    """SHA-1 is what this proxy compares; here it identifies the vCenter to itself."""
    if certificate is None:
        return ""
    return CertificateDigest.of(certificate, "sha1").value.hex(":").upper()
