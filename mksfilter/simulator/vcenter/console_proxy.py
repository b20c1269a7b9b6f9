"""The console proxies that vCenter itself had: 5.5's, and the web client's of 6.0.

``ws://VC:7331/console/authd?...``, ``wss://VC:7343/console/authd?...`` and
``wss://VC:9443/vsphere-client/webconsole/authd?...``, here on ports that the system chooses. The
query has ``vmId``, ``vmName``, ``host`` (this vCenter, ``FQDN:443``), ``sessionTicket`` (a clone
ticket) and ``thumbprint`` (this vCenter's, SHA-1), the web client's ``serverGuid`` too. From 6.5
on they are gone.
"""

from __future__ import annotations

import logging
import ssl

from mksfilter.log import event
from mksfilter.simulator.esxi.consoles import Consoles
from mksfilter.simulator.esxi.endpoint import hold, secure
from mksfilter.simulator.esxi.stream import WebSocketStream, opening_request
from mksfilter.simulator.model.inventory import VM
from mksfilter.simulator.model.tickets import CLONE_PREFIX, Tickets
from mksfilter.simulator.net.sockets import PeerAddress, Socket
from mksfilter.simulator.vcenter.service import VCenterService
from mksfilter.simulator.vcenter.soap import version_tuple

__all__ = ["OLD_PATH", "WEB_CLIENT_PATH", "ConsoleProxy"]

LOG = logging.getLogger(__name__)

OLD_PATH = "/console/authd"
WEB_CLIENT_PATH = "/vsphere-client/webconsole/authd"


class ConsoleProxy:
    """One of the console proxies of a vCenter.

    :param path: the path it answers on.
    :param context: for TLS; without it the socket is a plain one.
    """

    def __init__(
        self,
        service: VCenterService,
        path: str,
        context: ssl.SSLContext | None,
        *,
        tickets: Tickets,
        consoles: Consoles,
    ) -> None:
        self._service = service
        self._vcenter = service.vcenter
        self._path = path
        self._context = context
        self._tickets = tickets
        self._consoles = consoles

    def handle(self, sock: Socket, address: PeerAddress) -> None:
        if self._vcenter.state.silent:
            hold(sock, self._service.released)
            return
        connected = sock if self._context is None else secure(sock, self._context)
        if connected is None:
            return
        opened = opening_request(connected)
        if opened is None:
            connected.close()
            return
        protocol, request = opened
        stream = WebSocketStream(connected, protocol)
        path, query = stream.query(request)
        if path != self._path or version_tuple(self._vcenter.state.api_version) >= (6, 5):
            stream.reject(404)
            return
        ticket = self._tickets.redeem(
            query.get("sessionTicket", "").removeprefix(CLONE_PREFIX), "clone"
        )
        vm = self._service.methods.vm(query.get("vmId", ""))
        if ticket is None or ticket.vcenter is not self._vcenter or not self._is_for_us(query):
            self._refuse(stream, 403, "ticket, host, thumbprint or serverGuid")
        elif vm is None or vm.name != query.get("vmName"):
            self._refuse(stream, 404, "vmId or vmName")
        elif not self._permitted(vm):
            self._refuse(stream, 403, "permission")
        elif vm.state.power != "on" or self._consoles.full(vm):
            self._refuse(stream, 409, "power state or connection limit")
        elif stream.accept(request, "binary" if "binary" in stream.offered(request) else None):
            self._consoles.run(
                vm,
                stream,
                client=str(address[0]),
                user=ticket.user,
                handshake=self._vcenter.state.handshake == "full",
            )

    def _refuse(self, stream: WebSocketStream, status: int, why: str) -> None:
        LOG.info(event("console-refused", vcenter=self._vcenter.name, detail=why))
        stream.reject(status)

    def _is_for_us(self, query: dict[str, str]) -> bool:
        host = query.get("host", "").rpartition(":")[0] or query.get("host", "")
        return (
            host in (self._vcenter.fqdn, self._vcenter.address, "localhost")
            and query.get("thumbprint", "").upper() == self._vcenter.digests["sha1"]
            and (
                self._path != WEB_CLIENT_PATH
                or query.get("serverGuid", "").lower() == self._vcenter.uuid
            )
        )

    def _permitted(self, vm: VM) -> bool:
        return vm.state.permitted and self._vcenter.state.permitted
