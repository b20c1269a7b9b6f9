"""The gunicorn worker: ``gunicorn -k mksfilter.proxy.worker.ConsoleWorker``.

gevent-websocket's own worker and handler, with its upgrade taken out. Used bare it upgrades before
the application is asked, accepts unmasked frames, caps no frame, never sends a close code and logs
whole URLs. Here the handler serves one request per greenlet, reads the head strictly, calls the
application for upgrades too, and hands the connection over when the application accepts one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import ssl
import sys
import time
import wsgiref.headers
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.pywsgi import WSGIHandler
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from geventwebsocket.handler import WebSocketHandler
from gunicorn.workers.ggevent import PyWSGIHandler

from mksfilter import log
from mksfilter.exceptions import MksFilterError
from mksfilter.proxy import http_head
from mksfilter.proxy.server.connection import Connection
from mksfilter.proxy.server.server import ConsoleServer
from mksfilter.proxy.server.state import ServerState, constructed

__all__ = ["ConsoleHandler", "ConsoleWorker", "Upgrade"]

LOG = logging.getLogger(__name__)


class Upgrade:
    """``environ["mksfilter.connection"]``: what the application may do with an upgrade request."""

    def __init__(self, handler: ConsoleHandler) -> None:
        self._handler = handler

    def early_data(self) -> bytes:
        """Bytes that followed the request before it was answered; an honest client sends none.

        :raises OSError: the client is gone.
        """
        connection = self._handler.socket
        if not connection.pull():
            raise ConnectionResetError("the client is gone")
        return bytes(connection.received)

    def accept(self, headers: list[tuple[str, str]]) -> Any:
        """Answer ``101`` with *headers* and hand over the connection.

        The handler then neither reads nor closes it, and its greenlet ends when the application
        returns.

        :returns: a transport for :class:`mksfilter.proxy.relay.driver.Relay`.
        :raises OSError: the client is gone.
        """
        return self._handler.hand_over(headers)

    def refuse(self, headers: list[tuple[str, str]], farewell: bytes) -> None:
        """Answer ``101``, send the frames in *farewell*, and close.

        :raises OSError: the client is gone.
        """
        self._handler.switch_protocols(headers, farewell)


class _Headers(wsgiref.headers.Headers):
    """What pywsgi asks of a request's headers."""

    # Its own class parses them a second time, as an e-mail.
    typeheader: str | None = None  # no request of ours has a body
    getheader = wsgiref.headers.Headers.get

    @property
    def headers(self) -> Iterator[str]:
        """The header lines."""
        return (f"{name}: {value}" for name, value in self.items())


class ConsoleHandler(WebSocketHandler, PyWSGIHandler):
    """One request of a connection that waited in the lobby."""

    # pywsgi's handler calls it a socket; it is a Connection.
    socket: Connection
    server: ConsoleServer

    def handle(self) -> None:
        """Serve one request; the connection then waits for the next one, leaves, or is not ours
        any more."""
        connection = self.socket
        self.time_start = time.time()
        self._handed_over = False
        try:
            keep = self.handle_one_request()
        except BaseException:
            if not self._handed_over:
                connection.close()
            raise
        server, handed_over = self.server, self._handed_over
        # The environ leads back here: without this the garbage collector would have to find all
        # of it, token included, long after the request.
        self.__dict__.clear()
        if handed_over:
            return
        if keep and not server.state.draining:
            server.park(connection)
        else:
            server.linger(connection)

    def handle_one_request(self) -> bool:
        """Read the head that the lobby collected, and answer.

        :returns: whether the connection may carry another request.
        """
        received = self.socket.received
        end = received.index(b"\r\n\r\n") + 4
        raw, received[:] = bytes(received[:end]), received[end:]
        try:
            request = http_head.parse(raw)
        except http_head.HeadError as exc:
            LOG.debug(log.event("request-refused", client=self.client_address, detail=exc))
            self.server.state.refused("bad-request")
            self._answer(exc)
            return False
        self.command, self.path, self.request_version = (
            request.method,
            request.target,
            request.version,
        )
        self.requestline = f"{request.method} {request.target} {request.version}"
        self.rfile = self.socket.makefile()
        self.headers = _Headers(request.headers)
        self.content_length = None
        options = self.headers.get("Connection", "").lower().replace(" ", "").split(",")
        self.close_connection = (
            "keep-alive" not in options if request.version == "HTTP/1.0" else "close" in options
        )
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        return self.headers_sent and not self.close_connection

    def _answer(self, refusal: http_head.HeadError) -> None:
        try:
            self.socket.sendall(refusal.response())
        except OSError:
            LOG.debug(log.event("client-gone", client=self.client_address))

    def get_environ(self) -> dict[str, Any]:
        """The WSGI environ; an upgrade request gets its :class:`Upgrade`."""
        environ: dict[str, Any] = super().get_environ()
        if "HTTP_UPGRADE" in environ:
            environ["mksfilter.connection"] = Upgrade(self)
        return environ

    def run_application(self) -> None:
        """Call the application for every request: gevent-websocket's upgrade is never used."""
        WSGIHandler.run_application(self)

    def switch_protocols(self, headers: list[tuple[str, str]], payload: bytes = b"") -> None:
        """Write the ``101`` and *payload* behind it; nothing more is written by pywsgi."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        response = f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode("latin-1") + payload
        self.status = b"101 Switching Protocols"
        self._orig_status = "101 Switching Protocols"
        self.code = 101
        self.response_headers: list[tuple[bytes, bytes]] = []
        self.headers_sent = True
        self.connection_upgraded = True
        self.close_connection = True
        self.socket.sendall(response)
        self.response_length = len(payload)

    def hand_over(self, headers: list[tuple[str, str]]) -> Any:
        """Write the ``101`` and give the connection away."""
        self.switch_protocols(headers)
        self._handed_over = True
        return self.socket.to_transport()

    def log_request(self) -> None:
        """gunicorn's access log line, without what must not be in a log."""
        environ, headers = self.environ, self.headers
        try:
            self.environ = log.scrub_environ(environ)
            self.headers = _Headers(log.scrub_headers(headers.items()))
            PyWSGIHandler.log_request(self)
        finally:
            self.environ, self.headers = environ, headers

    def handle_error(self, kind: Any, value: Any, traceback: Any) -> None:
        """An exception that no code of ours expected: the log has it, the client has a 500.

        pywsgi would print the environ beside it.
        """
        if issubclass(kind, (ConnectionError, TimeoutError, ssl.SSLError)):
            LOG.debug(log.event("client-gone", client=self.client_address, detail=value))
            self.close_connection = True
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
        self.close_connection = True
        if not self.headers_sent:
            self._answer(http_head.HeadError(500, "unexpected error"))
            self.code, self.status, self.response_headers = 500, b"500 Internal Server Error", []


class ConsoleWorker(GeventWebSocketWorker):
    """gevent-websocket's gunicorn worker with our server and handler."""

    wsgi_handler = ConsoleHandler

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._servers: list[ConsoleServer] = []
        self._state = ServerState()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            _forget_metrics_of_the_dead(self.cfg)

    def server_class(self, *args: Any, **kwargs: Any) -> ConsoleServer:
        """Make a server, one per listening socket; gunicorn calls it like a class."""
        server = ConsoleServer(*args, state=self._state, **kwargs)
        self._servers.append(server)
        return server

    def init_process(self) -> None:
        """After the fork: whatever logs from here on, secrets are masked."""
        log.mask_secrets()
        _raise_file_limit()
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application; a configuration it does not accept is one line, not a traceback."""
        try:
            super().load_wsgi()
            self._state = ServerState(constructed())
            self._state.start()
        except MksFilterError as exc:
            self.log.critical("%s", exc)
            # The arbiter's code for "this will not get better by trying again".
            sys.exit(4)

    def run(self) -> None:
        """Serve until told to stop, then until the last session has ended."""
        super().run()
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while self._busy() and time.monotonic() < deadline:
            self.notify()
            gevent.sleep(0.1)
        self._state.close()
        gevent.sleep(0)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: sessions are told, and end within the graceful timeout."""
        super().handle_exit(sig, frame)
        gevent.spawn(self._drain)

    def _drain(self) -> None:
        # Now, and not at gunicorn's next look a second later: on a reload there are new workers
        # for whoever comes.
        for server in self._servers:
            server.close()
        # Leave time for the last close frames before the arbiter's SIGKILL.
        self._state.drain(max(0.0, self.cfg.graceful_timeout - 2.0))

    def _busy(self) -> bool:
        return bool(self._state.sessions) or any(server.arriving for server in self._servers)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT, SIGQUIT: sessions get their close frame, and that is all."""
        gevent.spawn(self._state.close)
        super().handle_quit(sig, frame)


def _raise_file_limit() -> None:
    """Two descriptors a session: take all that the administrator allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _forget_metrics_of_the_dead(cfg: Any) -> None:
    """Tell gunicorn's master to drop the gauges of workers that ended, unless the operator has
    a hook of his own there. A worker is made before its fork, so this runs in the master."""
    setting = cfg.settings["child_exit"]
    if setting.get() is setting.default:
        cfg.set("child_exit", _child_exit)


def _child_exit(_server: Any, worker: Any) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
