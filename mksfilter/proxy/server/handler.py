"""One request: from its head to an answer, or to a connection that is no longer the server's.

gevent-websocket on its own would upgrade before the application is asked, accept unmasked frames,
cap no frame and never send a close code. Here the application is called for upgrades too, and takes
the connection over when it accepts one.
"""

from __future__ import annotations

from typing import Any

from mksfilter.proxy.http_head import RequestHead
from mksfilter.proxy.relay.transport import Transport
from mksfilter.proxy.server.gevent_adapter import RequestHandler
from mksfilter.proxy.server.server import ConsoleServer

__all__ = ["ConsoleHandler", "Upgrade"]


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
    """One request whose head has arrived."""

    server: ConsoleServer

    def handle(self, request: RequestHead) -> None:
        """Serve *request*.

        The connection then gets its answer and waits for the next request, or belongs to a relay.
        """
        connection = self.socket
        self._handed_over = False
        try:
            keep = self.serve(request)
        except BaseException:
            if not self._handed_over:
                connection.close()
            raise
        server, handed_over = self.server, self._handed_over
        # The environ leads back here: without this the garbage collector would have to find all
        # of it, token included, long after the request.
        self.__dict__.clear()
        if not handed_over:
            server.deliver(connection, keep=keep and not server.state.draining)

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
        try:
            transport = self.socket.to_transport()
        except OSError:
            self.socket.close()
            raise
        self._handed_over = True
        return transport
