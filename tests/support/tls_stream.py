"""The server's end of a TLS connection, for hosts that speak more than one layer of it."""

from __future__ import annotations

import ssl

import gevent.socket

from mksfilter.proxy.relay.tls_stream import TLSStream

__all__ = ["TLSServerStream"]


class TLSServerStream(TLSStream):
    """As the client's, with *context* of a server."""

    def __init__(self, sock: gevent.socket.socket, context: ssl.SSLContext) -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        super().__init__(sock, client)
        self.tls = context.wrap_bio(
            self._buffers.incoming, self._buffers.outgoing, server_side=True
        )

    def do_handshake(self) -> None:
        super().do_handshake()
        self._flush()  # a client's last flight travels with its request, a server's does not wait
