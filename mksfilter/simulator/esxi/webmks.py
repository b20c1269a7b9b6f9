"""An ESXi host's WebMKS endpoint: ``wss://HOST:PORT/ticket/TICKET``."""

from __future__ import annotations

import logging

from mksfilter.log import event
from mksfilter.simulator.esxi import hostile
from mksfilter.simulator.esxi.consoles import Consoles
from mksfilter.simulator.esxi.endpoint import Endpoint, secure
from mksfilter.simulator.esxi.stream import WebSocketStream, opening_request
from mksfilter.simulator.model.tickets import Tickets
from mksfilter.simulator.net.sockets import PeerAddress, Socket

__all__ = ["WebMKS"]

LOG = logging.getLogger(__name__)
_PATH = "/ticket/"


class WebMKS:
    """The WebMKS endpoint of one host."""

    def __init__(self, endpoint: Endpoint, *, tickets: Tickets, consoles: Consoles) -> None:
        self._endpoint = endpoint
        self._tickets = tickets
        self._consoles = consoles

    def handle(self, sock: Socket, address: PeerAddress) -> None:
        if self._endpoint.held(sock):
            return
        tls = secure(sock, self._endpoint.context)
        if tls is None:
            return
        opened = opening_request(tls)
        if opened is None:
            tls.close()
            return
        protocol, request = opened
        stream = WebSocketStream(tls, protocol)
        name = self._endpoint.host.name
        path, _ = stream.query(request)
        if not path.startswith(_PATH):
            stream.reject(404)
            return
        if "binary" not in stream.offered(request):
            # ESXi 7.0.3 gives no answer to a client that does not ask for it.
            LOG.info(event("subprotocol-missing", host=name, client=address[0]))
            stream.abort()
            return
        ticket = self._tickets.redeem(path.removeprefix(_PATH), "webmks")
        vm = None if ticket is None else ticket.vm
        if ticket is None or vm is None or not self._endpoint.serves(vm) or self._consoles.full(vm):
            LOG.info(event("ticket-refused", host=name, client=address[0]))
            stream.reject(403)
            return
        if not hostile.spoil(vm.state.hostile, stream, request) and stream.accept(
            request, "binary"
        ):
            self._consoles.run(vm, stream, client=str(address[0]), user=ticket.user, handshake=True)
