"""A console host that behaves as told, and the way to it."""

from __future__ import annotations

import contextlib

import gevent
import gevent.socket
from websockets.server import ServerProtocol

from mksfilter.endpoint import Endpoint
from mksfilter.proxy.relay.transport import ROOM
from mksfilter.proxy.upstream.dial import dial
from tests.support.tls_stream import TLSServerStream

LOOPBACK = ("127.0.0.0/8", "::1/128")
TICKET = "/ticket/cafebabe12345678"


class Console:
    """A WebSocket endpoint that notes what it was asked."""

    def __init__(self, certificate=None, *, followed_by: bytes = b"", answer=None) -> None:
        self.context = certificate.context() if certificate else None
        self.followed_by = followed_by
        self.answer = answer
        self.requests: list = []
        self.reused: list[bool] = []

    def __call__(self, sock) -> None:
        stream = sock
        if self.context:
            stream = TLSServerStream(sock, self.context)
            stream.do_handshake()
            self.reused.append(bool(stream.tls.session_reused))
        protocol = ServerProtocol(subprotocols=["binary"])
        while not (events := protocol.events_received()):
            data = stream.recv(4096)
            if not data:
                return
            protocol.receive_data(data)
        self.requests.append(events[0])
        if self.answer is not None:
            stream.sendall(self.answer)
            return
        response = protocol.accept(events[0])
        protocol.send_response(response)
        stream.sendall(b"".join(protocol.data_to_send()) + self.followed_by)
        with contextlib.suppress(OSError):
            while data := stream.recv(4096):
                stream.sendall(data)


def endpoint(port: int, **options) -> Endpoint:
    return Endpoint(
        **{
            "kind": "websocket",
            "host": "127.0.0.1",
            "port": port,
            "resource": TICKET,
            "tls": False,
            "vcenter": "dc1",
            **options,
        }
    )


def connect(where: Endpoint, *, timeout: float = 10, networks=LOOPBACK):
    return dial(where, timeout=timeout, allowed_networks=networks)


def heard(transport) -> bytes:
    """What comes next on a transport."""
    buffer = memoryview(bytearray(ROOM))
    with gevent.Timeout(10):
        while (size := transport.receive(buffer)) < 0:
            gevent.socket.wait_read(transport.fd)
    return bytes(buffer[:size])
