"""A server in this process, and clients of it."""

from __future__ import annotations

import gevent
import gevent.socket
from gevent.pool import Pool

from mksfilter.proxy.server.handler import ConsoleHandler
from mksfilter.proxy.server.server import ConsoleServer
from mksfilter.proxy.server.state import ServerState

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
LAST_UPGRADE = UPGRADE.replace(b"Connection: Upgrade", b"Connection: Upgrade, close")


class Log:
    """gunicorn's logger, as far as the handler uses it."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def access(self, response, request_headers, environ, request_time) -> None:
        self.lines.append((response.status, environ["RAW_URI"]))

    def log(self, *args) -> None:
        raise AssertionError(args)


class Application:
    """An application as its worker sees it."""

    handshake_timeout = 0.3
    sessions = 0
    management_bind = ""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.proxy_headers = False

    def refused(self, reason: str) -> None:
        self.reasons.append(reason)

    def expects_proxy_header(self, peer: str) -> bool:
        return self.proxy_headers


def start(app, application: Application, *, size: int = 10, **ssl_args) -> ConsoleServer:
    """Serve *app* on a free port with a pool of *size*, as gunicorn's worker would."""
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    server = ConsoleServer(
        listener,
        application=app,
        spawn=Pool(size),
        log=Log(),
        handler_class=ConsoleHandler,
        state=ServerState([application]),
        **ssl_args,
    )
    server.start()
    return server


def hello(environ, start_response):
    """A WSGI application that says ``hi``."""
    start_response("200 OK", [("Content-Length", "2")])
    return [b"hi"]


def connect(server: ConsoleServer) -> gevent.socket.socket:
    sock = gevent.socket.create_connection(("127.0.0.1", server.address[1]))
    sock.settimeout(5)
    return sock


def read_to_end(sock) -> bytes:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def exchange(server: ConsoleServer, request: bytes) -> bytes:
    with connect(server) as sock:
        sock.sendall(request)
        return read_to_end(sock)


def wait_for(condition) -> None:
    """Let other greenlets run until *condition* holds; five seconds at most."""
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)
