"""What a console host answers: an open WebSocket and what followed it, or a BackendError."""

from __future__ import annotations

from websockets.utils import accept_key

from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import BackendError
from mksfilter.proxy.upstream import authd, websocket

__all__ = ["TestOneInput"]

_ENDPOINT = Endpoint("websocket", "esx1.example.com", 443, resource="/ticket/0123456789abcdef")
_ACCEPTED = b"@ACCEPT@"
_MAX_READ = websocket.MAX_RESPONSE + 2 * 4096


class _Host:
    """Answers with a script, a few bytes at a time, and closes."""

    def __init__(self, script: bytes, step: int) -> None:
        self._script = script
        self._step = step
        self.request = b""
        self.read = 0

    def sendall(self, data: bytes) -> None:
        self.request += data

    def recv(self, size: int) -> bytes:
        if not self.read and self.request:
            # A host that wants to be believed answers this connection's key.
            self._script = self._script.replace(_ACCEPTED, self._accept())
        chunk = self._script[self.read : self.read + min(size, self._step)]
        self.read += len(chunk)
        assert self.read <= _MAX_READ, "memory that the peer chooses"
        return chunk

    def _accept(self) -> bytes:
        lines = self.request.decode().split("\r\n")
        (key,) = (line.split(": ")[1] for line in lines if line.startswith("Sec-WebSocket-Key"))
        return accept_key(key).encode()


def TestOneInput(data: bytes) -> None:
    """A byte of how many bytes come at once, and the answer."""
    step, script = (data[:1] or b"\0")[0] + 1, data[1:]
    host = _Host(script, step)
    try:
        early = websocket._exchange(host, _ENDPOINT, "host")
    except BackendError as exc:
        if "0123456789abcdef" in str(exc):
            raise AssertionError("a ticket in an error") from exc
    else:
        assert script[:13] in (b"HTTP/1.1 101 ", b"HTTP/1.1 101\r")
        assert _ACCEPTED in script
        assert len(early) <= 4096
    _lines(script, step)


def _lines(script: bytes, step: int) -> None:
    """authd's lines, and the certificate that its second one announces."""
    host = _Host(script, step)
    try:
        line = authd._read_line(host, "host")
        authd._announced_digest(authd._expect(line, "200", "host"), "host")
    except BackendError:
        pass
