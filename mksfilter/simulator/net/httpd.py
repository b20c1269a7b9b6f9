"""A small HTTP/1.1 server for the vCenter and the control API.

gevent's own costs three times as much per request and answers in two writes, which Nagle's
algorithm turns into 40 ms. A simulated vCenter has to be faster than its client, always.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http
import urllib.parse
from collections.abc import Callable, Iterable

from mksfilter.simulator.net.sockets import Socket

__all__ = ["Request", "Response", "serve_connection"]

_CHUNK = 65536
_MAX_HEAD = 65536
_MAX_BODY = 1 << 20


@dataclasses.dataclass(frozen=True)
class Request:
    """A request, read whole. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    client: str


@dataclasses.dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Iterable[tuple[str, str]] = ()

    def pack(self) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-cache",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


def serve_connection(sock: Socket, client: str, handle: Callable[[Request], Response]) -> None:
    """Answer the requests of one connection until the client ends it."""
    with contextlib.suppress(OSError):
        buffer = b""
        while True:
            head, buffer = _read_head(sock, buffer)
            request, length = _parse(head, client)
            if request is None or length > _MAX_BODY:
                sock.sendall(Response(400, headers=[("Connection", "close")]).pack())
                break
            while len(buffer) < length:
                data = sock.recv(_CHUNK)
                if not data:
                    raise ConnectionError("the client left in the middle of a request")
                buffer += data
            body, buffer = buffer[:length], buffer[length:]
            sock.sendall(handle(dataclasses.replace(request, body=body)).pack())
            if request.headers.get("connection", "").lower() == "close":
                break
    with contextlib.suppress(OSError):
        sock.close()


def _read_head(sock: Socket, buffer: bytes) -> tuple[bytes, bytes]:
    while b"\r\n\r\n" not in buffer:
        data = sock.recv(_CHUNK)
        if not data or len(buffer) > _MAX_HEAD:
            raise ConnectionError("no further request")
        buffer += data
    head, _, rest = buffer.partition(b"\r\n\r\n")
    return head, rest


def _parse(head: bytes, client: str) -> tuple[Request | None, int]:
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, _ = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
    except ValueError:
        return None, 0
    path, _, query = target.partition("?")
    arguments = dict(urllib.parse.parse_qsl(query)) if query else {}
    return Request(method, path, arguments, headers, b"", client), length
