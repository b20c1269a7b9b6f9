"""Whole requests into the worker's handler and the application: one proper answer each, no more.

Nothing listens and nothing is dialled: the good token has no ticket in it, though it should.
"""

from __future__ import annotations

import atexit
import logging
import re
import shutil
import tempfile
from functools import cache
from io import BytesIO
from types import SimpleNamespace
from typing import Any

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import RequestError
from mksfilter.proxy import http_head
from mksfilter.proxy.relay.frames import ControlFrame, FrameTracker, Violation
from mksfilter.proxy.server.state import ServerState
from mksfilter.request import ConsoleRequest

__all__ = ["TestOneInput"]

_INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [A-Za-z -]+")
_STATUSES = {101, 200, 304, 400, 403, 404, 405, 414, 426, 431, 502, 503, 505}
_HEADERS = frozenset(
    b"allow cache-control connection content-encoding content-length content-security-policy "
    b"content-language content-type cross-origin-resource-policy date etag mks-reason "
    b"referrer-policy retry-after sec-websocket-accept sec-websocket-protocol "
    b"sec-websocket-version strict-transport-security upgrade vary x-content-type-options".split()
)


class _Connection:
    """A browser that has sent *received* and reads whatever it is told."""

    address = ("192.0.2.1", 5151)

    def __init__(self, received: bytes) -> None:
        self.received = bytearray(received)
        self.sent = b""

    def pull(self) -> bool:
        return True

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def makefile(self, *_args: object) -> BytesIO:
        return BytesIO()

    def close(self) -> None:
        pass


class _Server:
    """What the handler asks of its server."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.state = ServerState()
        self.logger = logging.getLogger("geventwebsocket")
        self.log = SimpleNamespace(access=lambda *_: None)
        self.environ = {
            "SERVER_NAME": "proxy",
            "SERVER_PORT": "6090",
            "SERVER_SOFTWARE": "",
            "SCRIPT_NAME": "",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
            "wsgi.errors": None,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }

    def get_environ(self) -> dict[str, Any]:
        return dict(self.environ)

    def pre_start_hook(self, _handler: object) -> bool:
        return True

    def deliver(self, connection: Any, *, keep: bool) -> None:
        pass


@cache
def _proxy() -> tuple[_Server, bytes]:
    """A server with the real application, and a token that it accepts."""
    from mksfilter.proxy.app import app_factory

    logging.disable()
    directory = tempfile.mkdtemp(prefix="mksfilter-fuzz-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    KeyRepository(directory).setup()
    options = {
        "key_repository": directory,
        "audience": "fuzz",
        "ticket_at": "issue",
        "trusted_proxies": "192.0.2.0/24",
        # One address asks for all there is.
        "connection_rate": "0",
    }
    token = (
        TokenCodec(KeyRepository(directory), "fuzz")
        .issue(ConsoleRequest(_INSTANCE, mode="full"), ttl=86400)
        .token
    )
    return _Server(app_factory({}, **options)), token.encode()


def TestOneInput(data: bytes) -> None:
    """``H`` and a request, or ``U`` and lines that change a good handshake; ``@TOKEN@`` in either
    stands for a token."""
    server, token = _proxy()
    request = data[1:] if data[:1] == b"H" else _handshake(data[1:])
    received = request.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"@TOKEN@", token)
    problem = http_head.hopeless(received[: 2 * http_head.MAX_HEAD])
    if b"\r\n\r\n" not in received:
        if problem is not None:
            assert problem.status in _STATUSES
        assert problem is not None or len(received) <= http_head.MAX_HEAD
        return
    connection = _Connection(received)
    _serve(server, connection)
    _check(connection.sent, token, received)


def _handshake(changes: bytes) -> bytes:
    """A good opening handshake. The first line of *changes* is its target; each of the others
    takes the place of the header of its name, or is added."""
    target, *lines = changes.split(b"\n")
    fields = {
        b"host": b"Host: console.example.com",
        b"upgrade": b"Upgrade: websocket",
        b"connection": b"Connection: Upgrade",
        b"sec-websocket-version": b"Sec-WebSocket-Version: 13",
        b"sec-websocket-key": b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    }
    for line in lines:
        fields[line.partition(b":")[0].lower()] = line
    block = b"\n".join(field for field in fields.values() if field)
    return b"GET " + target + b" HTTP/1.1\n" + block + b"\n\n"


def _serve(server: _Server, connection: _Connection) -> None:
    # Not at the top: it imports gevent's server, and the other targets do without.
    from mksfilter.proxy.server.handler import ConsoleHandler

    received = connection.received
    end = received.index(b"\r\n\r\n") + 4
    head, received[:] = bytes(received[:end]), received[end:]
    try:
        request = http_head.parse(head)
    except RequestError as exc:
        connection.sendall(http_head.refusal(exc))
        return
    ConsoleHandler(connection, connection.address, server).handle(request)


def _check(sent: bytes, token: bytes, received: bytes) -> None:
    top, end, body = sent.partition(b"\r\n\r\n")
    assert end, "no answer"
    line, *headers = top.split(b"\r\n")
    match = _LINE.fullmatch(line)
    assert match, line
    status = int(match[1])
    assert status in _STATUSES, line
    names = [header.partition(b": ")[0].lower() for header in headers]
    assert set(names) <= _HEADERS, names
    assert len(set(names)) == len(names), names
    assert token not in sent, "a secret is sent back"
    if status == 101:
        assert token in received, "switched without a token"
        _check_refusal(body)
    elif b"HEAD" not in received[:4]:
        fields = dict(header.lower().split(b": ", 1) for header in headers)
        assert status == 304 or int(fields[b"content-length"]) == len(body)


def _check_refusal(frames: bytes) -> None:
    tracker = FrameTracker(masked=False)
    pieces = tracker.feed(frames, len(frames))
    assert pieces, "no close frame"
    assert not any(isinstance(piece, Violation) for piece in pieces)
    assert isinstance(pieces[-1], ControlFrame)
    assert tracker.closed
