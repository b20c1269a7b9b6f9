"""One request: from its head to an answer, or to a connection that is no longer the server's.

gevent-websocket on its own would upgrade before the application is asked, accept unmasked frames,
cap no frame and never send a close code. Here the application is called for upgrades too, and takes
the connection over when it accepts one.
"""

from __future__ import annotations

import logging
from typing import Any

from mksfilter.exceptions import RequestError
from mksfilter.log import event
from mksfilter.proxy import http_head
from mksfilter.proxy.relay.transport import Transport
from mksfilter.proxy.server.gevent_adapter import RequestHandler
from mksfilter.proxy.server.server import ConsoleServer

__all__ = ["ConsoleHandler", "Upgrade"]

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

    def accept(self, headers: list[tuple[str, str]]) -> Transport:
        """Answer ``101`` with *headers* and hand over the connection.

        The handler then neither reads nor closes it, and its greenlet ends when the application
        returns.

        :returns: for the relay.
        :raises OSError: the client is gone.
        """
        return self._handler.hand_over(headers)

    def refuse(self, headers: list[tuple[str, str]], frames: bytes) -> None:
        """Answer ``101``, send *frames*, which say why and close, and close.

        :raises OSError: the client is gone.
        """
        self._handler.switch_protocols(headers, frames)


class ConsoleHandler(RequestHandler):
    """One request of a connection whose head has arrived."""

    server: ConsoleServer

    def handle(self) -> None:
        """Serve one request.

        The connection then waits for the next one, lingers until the client has read the answer, or
        belongs to a relay.
        """
        connection = self.socket
        self._handed_over = False
        try:
            keep = self._serve_one()
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

    def _serve_one(self) -> bool:
        received = self.socket.received
        end = received.index(b"\r\n\r\n") + 4
        raw, received[:] = bytes(received[:end]), received[end:]
        try:
            request = http_head.parse(raw)
        except RequestError as exc:
            self._refuse(exc)
            return False
        return self.serve(request)

    def _refuse(self, problem: RequestError) -> None:
        LOG.debug(event("request-refused", client=self.client_address, detail=problem))
        self.server.state.refused(problem.reason)
        try:
            self.socket.sendall(http_head.refusal(problem))
        except OSError:
            LOG.debug(event("client-gone", client=self.client_address))

    def get_environ(self) -> dict[str, Any]:
        """The WSGI environ; an upgrade request gets its :class:`Upgrade`."""
        environ: dict[str, Any] = super().get_environ()
        if "HTTP_UPGRADE" in environ:
            environ["mksfilter.connection"] = Upgrade(self)
        return environ

    def hand_over(self, headers: list[tuple[str, str]]) -> Transport:
        """Answer ``101`` and give the connection away.

        :raises OSError: the client is gone.
        """
        self.switch_protocols(headers)
        self._handed_over = True
        return self.socket.to_transport()
