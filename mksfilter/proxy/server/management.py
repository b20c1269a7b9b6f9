"""The management listener of one worker: the node's socket, and a server of its own behind it.

Its connections, its pool and its descriptors are not those of the public side, so probes are
answered while that is full.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import gevent
import gevent.socket
from gevent.pool import Pool

from mksfilter.exceptions import MksFilterError
from mksfilter.log import event
from mksfilter.proxy.server import node
from mksfilter.proxy.server.handler import ConsoleHandler
from mksfilter.proxy.server.server import ConsoleServer
from mksfilter.proxy.server.state import ServerState

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["ManagementListener"]

LOG = logging.getLogger(__name__)

#: Connections that wait, and requests at work; a few probes and scrapers are all that come.
_CAPACITY: Final = 32
_AT_WORK: Final = 16
#: Seconds until an address that is in use is tried again.
_AGAIN: Final = 2.0


class ManagementListener:
    """
    :param bind: ``HOST:PORT``; empty: there is none.
    :param application: what is served there.
    """

    def __init__(self, bind: str, application: WSGIApplication) -> None:
        self._bind = bind
        self._application = application
        self._server: ConsoleServer | None = None
        self._waiting: gevent.Greenlet | None = None

    def start(self) -> None:
        """Listen. Where the address cannot be had, that is said, and tried again: consoles do not
        depend on it."""
        if self._bind and not self._try(LOG.error):
            self._waiting = gevent.spawn(self._until_listening)

    def close(self) -> None:
        """Accept no more; another worker does."""
        if self._waiting is not None:
            self._waiting.kill()
        if self._server is not None:
            self._server.close()

    def abandon(self) -> None:
        """Nobody is left whose node this is; the address is for who comes next."""
        self.close()
        node.shared().management.close()

    def _until_listening(self) -> None:
        while True:
            gevent.sleep(_AGAIN)
            if self._try(LOG.debug):
                return

    def _try(self, say: Callable[[str], None]) -> bool:
        try:
            shared = node.shared().management.listen(self._bind)
        except MksFilterError as exc:
            say(event("management-not-listening", detail=exc))
            return False
        LOG.info(event("management-listening", address=node.listener_address(shared)))
        self._server = _serve(shared, self._application)
        return True


def _serve(shared: socket.socket, application: WSGIApplication) -> ConsoleServer:
    # A descriptor of this worker's own: the socket stays with the node when this server closes.
    listener = gevent.socket.socket(
        shared.family, shared.type, shared.proto, fileno=os.dup(shared.fileno())
    )
    server = ConsoleServer(
        listener,
        state=ServerState(),
        capacity=_CAPACITY,
        application=application,
        spawn=Pool(_AT_WORK),
        log=_NoAccessLog(),
        handler_class=ConsoleHandler,
    )
    server.start()
    return server


class _NoAccessLog:
    """gunicorn's logger, as far as a handler uses it: probes come every two seconds."""

    def access(self, *_args: Any) -> None:
        """A request was answered."""
