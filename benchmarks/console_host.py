"""A console host that is never the bottleneck: ``python -m benchmarks.console_host CERT``.

WebSockets on a TLS and on a plain port, and for relays that speak bytes to their source raw ports
that echo or stream, with TLS and without. ``/echo`` answers each 16-byte frame (10 masked bytes)
with 10 bytes; ``/stream`` sends frames of 16 KiB as fast as they are taken. Echoes run in one loop
of epoll, each stream in a thread that does nothing but send.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import select
import socket
import ssl
import sys
import threading
from typing import Any

ECHO = b"0123456789"
ECHO_REQUEST = b"\x82\x8a\x00\x00\x00\x00" + ECHO
ECHO_ANSWER = b"\x82\x0a" + ECHO
STREAM_FRAME = b"\x82\x7e\x40\x00" + bytes(16384)
_BLOCK = memoryview(STREAM_FRAME * 64)
_ANSWERS = memoryview(ECHO_ANSWER * 4096)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Connection:
    def __init__(self, sock: Any, kind: str) -> None:
        self.sock = sock
        self.kind = kind
        self.shaking = isinstance(sock, ssl.SSLSocket)
        self.request = b"" if kind == "websocket" else None
        self.odd = 0


class ConsoleHost:
    """See the module."""

    def __init__(self, certificate: str) -> None:
        # websockify takes TLS 1.3's session tickets for data and waits for ever for some.
        silent = _context(certificate, tickets=0)
        self._poll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, str, ssl.SSLContext | None]] = {}
        self._connections: dict[int, _Connection] = {}
        self.ports: dict[str, int] = {}
        for name, kind, context in (
            ("tls", "websocket", _context(certificate)),
            # What hosts differ in: TLS 1.2 alone, 1.3 with one session ticket, and with none.
            ("tls12", "websocket", _context(certificate, newest=ssl.TLSVersion.TLSv1_2)),
            ("tls13-one-ticket", "websocket", _context(certificate, tickets=1)),
            ("tls13-no-ticket", "websocket", silent),
            ("plain", "websocket", None),
            ("raw-echo", "echo", None),
            ("raw-stream", "stream", None),
            ("raw-echo-tls", "echo", silent),
            ("raw-stream-tls", "stream", silent),
        ):
            listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
            listener.setblocking(False)
            self.ports[name] = listener.getsockname()[1]
            self._listeners[listener.fileno()] = (listener, kind, context)
            self._poll.register(listener.fileno(), select.EPOLLIN)

    def run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._listeners:
                    self._accept(*self._listeners[fd])
                    continue
                connection = self._connections[fd]
                try:
                    done = self._step(connection)
                except (ssl.SSLWantReadError, BlockingIOError):
                    done = False
                except OSError:
                    done = True
                if done:
                    self._forget(fd).sock.close()

    def _accept(self, listener: socket.socket, kind: str, context: ssl.SSLContext | None) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)
                if context is not None:
                    sock = context.wrap_socket(
                        sock, server_side=True, do_handshake_on_connect=False
                    )
                if kind == "stream":
                    self._stream(sock)
                    continue
                self._connections[sock.fileno()] = _Connection(sock, kind)
                self._poll.register(sock.fileno(), select.EPOLLIN)

    def _forget(self, fd: int) -> _Connection:
        self._poll.unregister(fd)
        return self._connections.pop(fd)

    def _step(self, connection: _Connection) -> bool:
        """Deal with what came; returns whether the connection is over."""
        sock = connection.sock
        if connection.shaking:
            sock.do_handshake()
            connection.shaking = False
        while True:
            data = sock.recv(65536)
            if not data:
                return True
            if connection.request is not None:
                connection.request += data
                if connection.request.endswith(b"\r\n\r\n") and self._upgrade(connection):
                    return False
            elif connection.kind == "echo":
                sock.send(data)
            elif data[0] == 0x88:
                sock.send(b"\x88\x00")
                return True
            else:
                count, connection.odd = divmod(len(data) + connection.odd, len(ECHO_REQUEST))
                sock.send(_ANSWERS[: count * len(ECHO_ANSWER)])
            if not isinstance(sock, ssl.SSLSocket):
                return False

    def _upgrade(self, connection: _Connection) -> bool:
        """Answer the request; returns whether the connection went to a thread."""
        assert connection.request is not None
        lines = connection.request.split(b"\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        digest = hashlib.sha1(headers[b"sec-websocket-key"] + _GUID).digest()
        protocol = b"Sec-WebSocket-Protocol: binary\r\n"
        connection.sock.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: "
            + base64.b64encode(digest)
            + b"\r\n"
            + (protocol if b"sec-websocket-protocol" in headers else b"")
            + b"\r\n"
        )
        connection.request = None
        if b"/stream" not in lines[0]:
            return False
        self._stream(self._forget(connection.sock.fileno()).sock)
        return True

    @staticmethod
    def _stream(sock: Any) -> None:
        def send() -> None:
            sock.settimeout(None)
            with contextlib.suppress(OSError), sock:
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()  # harmless when it is done
                    while True:
                        rest = _BLOCK
                        while rest:
                            rest = rest[sock.send(rest[:16384]) :]
                while True:
                    sock.sendall(_BLOCK)

        threading.Thread(target=send, daemon=True).start()


def _context(
    certificate: str, *, newest: ssl.TLSVersion | None = None, tickets: int = 2
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.num_tickets = tickets  # of TLS 1.3; two is OpenSSL's default
    if newest is not None:
        context.maximum_version = newest
    return context


def main() -> None:
    host = ConsoleHost(sys.argv[1])
    print(json.dumps(host.ports), flush=True)
    host.run()


if __name__ == "__main__":
    main()
