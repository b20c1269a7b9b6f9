"""An ESXi host's WebMKS endpoint: ``wss://HOST:PORT/ticket/TICKET``."""

from __future__ import annotations

import contextlib
import logging
import ssl
from typing import Any

import gevent
from gevent.event import Event

from mksfilter.simulator import hostile
from mksfilter.simulator.consoles import Consoles
from mksfilter.simulator.inventory import Host
from mksfilter.simulator.stream import (
    HANDSHAKE_TIMEOUT,
    WebSocketStream,
    abort,
    opening_request,
)
from mksfilter.simulator.tickets import Tickets

__all__ = ["WebMKSEndpoint", "hold", "secure"]

_LOG = logging.getLogger(__name__)


def secure(sock: Any, context: ssl.SSLContext) -> Any | None:
    """The server's side of TLS; ``None`` when the client thinks better of it."""
    try:
        with gevent.Timeout(HANDSHAKE_TIMEOUT):
            return context.wrap_socket(sock, server_side=True)
    except (OSError, gevent.Timeout):
        sock.close()
        return None


def hold(sock: Any, until: Event) -> None:
    """Read and say nothing, until told to drop the connection or the client goes."""

    def drop() -> None:
        until.wait()
        abort(sock)

    waiting = gevent.spawn(drop)
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass
    waiting.kill()


class WebMKSEndpoint:
    """Handles the connections of one host.

    :param context: what the host presents; *wrong_context* while it is told to present another.
    :param released: set when silent connections are to be dropped.
    """

    def __init__(
        self,
        host: Host,
        *,
        tickets: Tickets,
        consoles: Consoles,
        context: ssl.SSLContext,
        wrong_context: ssl.SSLContext,
    ) -> None:
        self._host = host
        self._tickets = tickets
        self._consoles = consoles
        self._context = context
        self._wrong_context = wrong_context
        self.released = Event()

    def handle(self, sock: Any, address: Any) -> None:
        if self._host.state.silent:
            hold(sock, self.released)
            return
        wrong = self._host.state.wrong_certificate
        tls = secure(sock, self._wrong_context if wrong else self._context)
        opened = None if tls is None else opening_request(tls)
        if tls is None or opened is None:
            if tls is not None:
                tls.close()
            return
        protocol, request = opened
        stream = WebSocketStream(tls, protocol)
        path, _ = stream.query(request)
        secret = path.removeprefix("/ticket/")
        if secret == path:
            stream.reject(404)
            return
        if "binary" not in stream.offered(request):
            # ESXi 7.0.3 gives no answer to a client that does not ask for it.
            _LOG.info("no subprotocol host=%s client=%s", self._host.name, address[0])
            stream.abort()
            return
        ticket = self._tickets.redeem(secret, "webmks")
        machine = None if ticket is None else ticket.machine
        if (
            ticket is None
            or machine is None
            or machine.host is not self._host
            or machine.state.power != "on"
            or self._host.state.refuse_tickets
            or self._consoles.full(machine)
        ):
            _LOG.info("ticket refused host=%s client=%s", self._host.name, address[0])
            stream.reject(403)
            return
        if not hostile.spoil(machine.state.hostile, stream, request) and stream.accept(
            request, "binary"
        ):
            self._consoles.run(
                machine, stream, client=str(address[0]), user=ticket.user, handshake=True
            )
