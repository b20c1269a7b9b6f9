"""Byte streams under a console: a WebSocket of binary messages, or TLS alone.

The WebSocket handshake and frames are the sans-I/O ones of ``websockets``; this is the thin
gevent shell around them. A stream has one reader and any number of writers.
"""

from __future__ import annotations

import contextlib
import socket as stdsocket
import struct
import urllib.parse
from collections.abc import Callable
from typing import Protocol

import gevent
from gevent.lock import RLock
from websockets.datastructures import Headers
from websockets.exceptions import ProtocolError
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from mksfilter.simulator.net.sockets import Socket

__all__ = ["ByteStream", "Stream", "WebSocketStream", "abort", "opening_request"]

_CHUNK = 65536
_CLOSE_TIMEOUT = 1.0
HANDSHAKE_TIMEOUT = 10.0


class Stream(Protocol):
    """What a console session reads from and writes to."""

    def recv(self) -> bytes:
        """The next bytes; empty at the end, however it comes."""

    def send(self, data: bytes) -> None:
        """Send one message.

        :raises OSError: the peer is gone.
        """

    def finish(self) -> None:
        """Ask the peer to end the stream; the reader sees the end."""

    def close(self) -> None:
        """End the stream in good order."""

    def abort(self) -> None:
        """End the stream the way a host does that lost the VM: a TCP reset."""


def abort(sock: Socket) -> None:
    """Reset a TCP connection."""
    with contextlib.suppress(OSError):
        sock.setsockopt(stdsocket.SOL_SOCKET, stdsocket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        sock.close()


class ByteStream:
    """A connected TCP or TLS socket."""

    def __init__(self, sock: Socket, early: bytes = b"") -> None:
        self.socket = sock
        self._early = early

    def recv(self) -> bytes:
        early, self._early = self._early, b""
        if early:
            return early
        try:
            return bytes(self.socket.recv(_CHUNK))
        except OSError:
            return b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def abort(self) -> None:
        abort(self.socket)


def opening_request(sock: Socket) -> tuple[ServerProtocol, Request] | None:
    """Read a client's opening request; ``None`` when it sent something else, or nothing."""
    protocol = ServerProtocol(max_size=None)
    with contextlib.suppress(OSError), gevent.Timeout(HANDSHAKE_TIMEOUT, False):
        while protocol.handshake_exc is None:
            data = sock.recv(_CHUNK)
            if not data:
                return None
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Request):
                    return protocol, event
    return None


class WebSocketStream:
    """The server's end of a WebSocket, after its opening request was read."""

    def __init__(self, sock: Socket, protocol: ServerProtocol) -> None:
        self.socket = sock
        self._protocol = protocol
        self._lock = RLock()
        self._received: list[bytes] = []

    @staticmethod
    def offered(request: Request) -> list[str]:
        """The subprotocols that the client offers."""
        values = request.headers.get_all("Sec-WebSocket-Protocol")
        return [word.strip() for value in values for word in value.split(",") if word.strip()]

    @staticmethod
    def query(request: Request) -> tuple[str, dict[str, str]]:
        """The request's path and its query arguments."""
        parts = urllib.parse.urlsplit(request.path)
        return parts.path, dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))

    def accept(
        self,
        request: Request,
        subprotocol: str | None,
        edit: Callable[[Headers], None] | None = None,
    ) -> bool:
        """Answer the request with 101; *edit* may spoil the headers first.

        :returns: false when the request was not a good one and got what it deserved.
        """
        if subprotocol is not None:
            self._protocol.available_subprotocols = [Subprotocol(subprotocol)]
        response = self._protocol.accept(request)
        if edit is not None:
            edit(response.headers)
        self._protocol.send_response(response)
        self._flush()
        return self._protocol.state is OPEN

    def reject(self, status: int, **headers: str) -> None:
        """Answer the request with an HTTP error and close."""
        response = self._protocol.reject(status, "")
        for name, value in headers.items():
            response.headers[name] = value
        self._protocol.send_response(response)
        with contextlib.suppress(OSError):
            self._flush()
        self.close()

    def recv(self) -> bytes:
        while not self._received:
            try:
                data = self.socket.recv(_CHUNK)
            except OSError:
                return b""
            if not data:
                return b""
            with self._lock:
                self._protocol.receive_data(data)
                for event in self._protocol.events_received():
                    if getattr(event, "opcode", None) in (Opcode.BINARY, Opcode.CONT):
                        self._received.append(bytes(event.data))  # type: ignore[union-attr]
                with contextlib.suppress(OSError):
                    self._flush()
            if not self._received and self._protocol.close_expected():
                return b""
        joined = b"".join(self._received)
        self._received.clear()
        return joined

    def send(self, data: bytes) -> None:
        with self._lock:
            # A whole screen is no message that a client with a limit of 1 MiB would take.
            for start in range(0, len(data), _CHUNK):
                if self._protocol.state is not OPEN:
                    raise ConnectionResetError("the WebSocket is closed")
                self._protocol.send_binary(data[start : start + _CHUNK])
                self._flush()

    def send_raw(self, data: bytes) -> None:
        """Send bytes past the protocol, as no good server would."""
        with self._lock:
            self.socket.sendall(data)

    def finish(self) -> None:
        with contextlib.suppress(OSError, ProtocolError), self._lock:
            if self._protocol.state is OPEN:
                self._protocol.send_close(1000)
                self._flush()

    def close(self) -> None:
        with contextlib.suppress(OSError), gevent.Timeout(_CLOSE_TIMEOUT, False):
            if self._protocol.state is OPEN:
                self.finish()
                # Closing on bytes that were not read is a reset, and would overtake the frame.
                while self.recv():
                    pass
        with contextlib.suppress(OSError):
            self.socket.close()

    def abort(self) -> None:
        abort(self.socket)

    def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if data:
            self.socket.sendall(data)
