"""gevent's pywsgi and gevent-websocket: the one module that relies on names that their
documentation does not have. docs/development.md lists them; each is named below where it is used.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable
from socket import socket
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import gevent
from gevent.pool import Pool
from geventwebsocket.handler import WebSocketHandler
from gunicorn.workers.ggevent import PyWSGIHandler, PyWSGIServer

from mksfilter import log
from mksfilter.proxy.http_head import RequestHead
from mksfilter.proxy.server.connection import Address, Connection

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Handler", "RequestHandler", "Server"]

LOG = logging.getLogger(__name__)


class Handler(Protocol):
    """What serves a request."""

    def handle(self, request: RequestHead) -> None:
        """Serve *request*, in a greenlet."""


class Server(PyWSGIServer):
    """pywsgi's server, which accepts connections and leaves the rest to :meth:`accepted`.

    :param spawn: the pool for requests. gevent's server is not told of it, since it would stop
        accepting while the pool is full; here an overload is answered, not queued.
    :ivar pool: gunicorn waits for it when it stops (``GeventWorker.run``).
    :ivar closed: nothing is accepted any more (``BaseServer.closed``).
    :ivar handler_class: makes a handler of a connection, its address and this server.
    :ivar application: the WSGI application.
    :ivar log: gunicorn's logger, behind pywsgi's adapter.
    """

    #: gevent-websocket's handler logs here (``server.logger``), and makes a logger that nobody
    #: configured where there is none.
    logger = logging.getLogger("geventwebsocket")

    pool: Pool
    closed: bool
    handler_class: Callable[[Connection, Address, Server], Handler]
    application: WSGIApplication
    log: Any

    def __init__(self, listener: socket, *, spawn: Pool, **kwargs: Any) -> None:
        super().__init__(listener, **kwargs)
        self.pool = spawn

    def pre_start_hook(self, _handler: object) -> bool:
        """gevent-websocket asks this before an upgrade; True: the application decides first."""
        return True

    def accept_waiting(self) -> None:
        """Accept who has connected already: the kernel resets them when the socket is closed.

        ``StreamServer.do_read`` is None when there is nobody.
        """
        while not self.closed and (accepted := self.do_read()):
            self.do_handle(*accepted)

    def do_handle(self, sock: socket, address: Address) -> None:
        """``BaseServer`` calls this in the hub with each connection that it accepted."""
        self.accepted(sock, address)

    def accepted(self, sock: socket, address: Address) -> None:
        """Take care of a connection; called in the hub, so it must not block."""
        raise NotImplementedError


class RequestHandler(WebSocketHandler, PyWSGIHandler):
    """Serves a request whose head was read elsewhere, in pywsgi's way with gevent-websocket's
    answer to an upgrade.

    :ivar environ: of the request.
    :ivar headers_sent: the answer has begun.
    :ivar close_connection: no other request may follow on this connection.
    :ivar command: the request's method.
    :ivar path: the request's target.
    """

    socket: Connection
    server: Server
    client_address: Address
    environ: dict[str, Any]
    headers_sent: bool
    response_headers: list[tuple[str, str]] | None
    status: str | bytes | None
    close_connection: bool
    command: str
    path: str
    headers: _Headers

    def serve(self, request: RequestHead) -> bool:
        """Have *request* answered.

        :returns: whether the connection may carry another request.
        """
        self._request = request
        # True: "read more requests". Anything else ends pywsgi's own loop.
        return self.handle_one_request() is True and self.headers_sent

    def read_requestline(self) -> str:
        """pywsgi asks for the request line, and then for the rest of the head. It only looks how
        long the line is, and ``http_head`` has a limit of its own for that."""
        return self._request.method

    def read_request(self, _raw_requestline: str) -> bool:
        """Set what pywsgi's own reader would set; see there."""
        request = self._request
        self.command, self.path, self.request_version = (
            request.method,
            request.target,
            request.version,
        )
        self.headers = _Headers(request.headers)
        self.content_length = None
        options = (self.headers.get("Connection") or "").lower().replace(" ", "").split(",")
        self.close_connection = (
            "keep-alive" not in options if request.version == "HTTP/1.0" else "close" in options
        )
        return True

    def _headers(self) -> list[tuple[str, str]]:
        """The environ's names and values: pywsgi's ``get_environ`` asks, and reads each line by
        itself where nobody answers.

        A name with an underscore could pass for one with a hyphen.
        """
        return [
            ("HTTP_" + name.replace("-", "_").upper(), value)
            for name, value in self.headers.items()
            if "_" not in name and name.lower() not in _BODY
        ]

    def switch_protocols(self, headers: list[tuple[str, str]], payload: bytes = b"") -> None:
        """Answer ``101`` with *headers*, and *payload* behind it.

        :raises OSError: the client is gone.
        """
        # With this set, gevent-websocket tells pywsgi that the answer is an upgrade: no Date, no
        # Content-Length, no chunks, and no other request. It never uses what is set: a WebSocket
        # object of its own would write a close frame when it is collected.
        self.environ["wsgi.websocket"] = self.socket
        self.start_response("101 Switching Protocols", headers)
        self.write(payload)

    def log_request(self) -> None:
        """gunicorn's access log line, without what must not be in a log.

        gevent-websocket would leave out every 101.
        """
        if not getattr(self.server.log, "access_log_enabled", True):
            return
        environ, headers = self.environ, self.headers
        if self.response_headers is None:
            # The client left before it was answered; nginx's status for that.
            self.response_headers, self.status = [], "499 Client Closed Request"
        try:
            self.environ = log.scrub_environ(environ)
            self.headers = _Headers(log.scrub_headers(headers.items()))
            PyWSGIHandler.log_request(self)
        finally:
            self.environ, self.headers = environ, headers

    def handle_error(
        self, kind: type[BaseException], value: BaseException, traceback: TracebackType
    ) -> None:
        """An exception that no code of ours expected: the log has it, the client has a 500.

        pywsgi would print the environ beside it.
        """
        self.close_connection = True
        if issubclass(kind, (ConnectionError, TimeoutError, ssl.SSLError)):
            LOG.debug(log.event("client-gone", client=self.client_address, detail=value))
            return
        if not issubclass(kind, gevent.GreenletExit):
            LOG.error(
                log.event(
                    "unexpected-error",
                    client=self.client_address,
                    method=self.command,
                    path=log.scrub(self.path.partition("?")[0]),
                ),
                exc_info=(kind, value, traceback),
            )
        if self.headers_sent:
            return
        try:
            self.start_response(
                "500 Internal Server Error", [("Connection", "close"), ("Content-Length", "0")]
            )
            self.write(b"")
        except OSError as exc:
            LOG.debug(log.event("client-gone", client=self.client_address, detail=exc))


#: Headers of a body, which CGI has other names for.
_BODY = frozenset({"content-type", "content-length"})


class _Headers:
    """What pywsgi and gunicorn ask of a request's headers; pywsgi's own class parses them as an
    e-mail.

    :param lines: names and values.
    """

    __slots__ = ("_lines",)

    typeheader: str | None = None  # no request of ours has a body

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._lines = list(lines)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of *name*."""
        name = name.lower()
        for each, value in self._lines:
            if each.lower() == name:
                return value
        return default

    getheader = get

    def items(self) -> list[tuple[str, str]]:
        """All names and values, in their order."""
        return list(self._lines)
