"""The server whose connections wait for a whole request without a greenlet.

gunicorn's gevent server spends a greenlet, and a place in its pool, on each connection from its
first moment, so clients that connect and say nothing lock everybody out. Here a connection waits
in the lobby, watched by the hub, until its request head has arrived; only then it gets a greenlet,
for one request. Between requests (keep-alive) and while it is being closed it waits there again.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from typing import Any

from gunicorn.workers.ggevent import PyWSGIServer

from mksfilter.log import event
from mksfilter.proxy import http_head
from mksfilter.proxy.http_head import HeadError
from mksfilter.proxy.server import fd_budget
from mksfilter.proxy.server.connection import Connection
from mksfilter.proxy.server.state import ServerState

__all__ = ["ConsoleServer"]

LOG = logging.getLogger(__name__)

#: Seconds between requests of one connection; a page's files follow each other closely.
_IDLE_SECONDS = 5.0
#: Seconds for a client to read our last words and close.
_LINGER_SECONDS = 2.0
#: Seconds for a client to take an answer of ours.
_WRITE_SECONDS = 20.0
_TICK = 0.25


class _Room:
    """Connections that wait for the same thing, in the order in which their time runs out."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.waiting: OrderedDict[Connection, tuple[float, Any]] = OrderedDict()

    def deadline(self, now: float) -> float:
        return now + self._seconds


class ConsoleServer(PyWSGIServer):
    """gunicorn's pywsgi server with a lobby before its pool.

    TLS, where gunicorn is given a certificate, is spoken by :class:`Connection`.

    :ivar state: of the worker process.
    """

    def __init__(self, *args: Any, state: ServerState, **kwargs: Any) -> None:
        self.state = state
        self._tls = kwargs.get("ssl_context")
        self._arriving = _Room(state.handshake_timeout)
        self._idle = _Room(_IDLE_SECONDS)
        self._leaving = _Room(_LINGER_SECONDS)
        self._timer: Any = None
        super().__init__(*args, **kwargs)
        self._capacity = fd_budget.waiting(fd_budget.limit())

    # -- gevent's BaseServer ---------------------------------------------------------------

    def set_spawn(self, spawn: Any) -> None:
        """Never stop accepting because the pool is full; an overload is answered, not queued."""
        super().set_spawn(spawn)
        self.__dict__.pop("full", None)

    def full(self) -> bool:
        """See :meth:`set_spawn`."""
        return False

    def do_handle(self, sock: Any, address: Any) -> None:
        """A connection was accepted."""
        connection = Connection(
            sock,
            address,
            self._tls,
            write_timeout=_WRITE_SECONDS,
            proxy_header=self.state.expects_proxy_header(address[0] if address else ""),
        )
        if self._count() >= self._capacity:
            self._evict()
        self._wait(self._arriving, connection, self._on_head_bytes)

    def close(self) -> None:
        """Stop accepting. Who is in the middle of a request may finish it."""
        if not self.closed:
            super().close()
        for connection in list(self._idle.waiting):
            self._drop(self._idle, connection)

    @property
    def arriving(self) -> int:
        """Connections whose request is on its way."""
        return sum(bool(connection.received) for connection in self._arriving.waiting)

    # -- for the handler -------------------------------------------------------------------

    def park(self, connection: Connection) -> None:
        """The connection is kept alive for another request."""
        if self.closed:
            connection.close()
        elif connection.received:
            self._wait(self._arriving, connection, self._on_head_bytes)
            self._dispatch_when_whole(connection)
        else:
            self._wait(self._idle, connection, self._on_idle_bytes)

    def linger(self, connection: Connection) -> None:
        """The last answer is sent; close when the peer has read it.

        Closing at once, with bytes of the peer's unread, would reset the connection and with it
        the answer.
        """
        connection.finish()
        self._wait(self._leaving, connection, self._on_leaving_bytes)

    # -- hub callbacks: nothing here may block -----------------------------------------------

    def _on_head_bytes(self, connection: Connection) -> None:
        try:
            alive = connection.pull()
        except OSError:
            self._drop(self._arriving, connection)
            return
        if not alive and not connection.received:
            self._drop(self._arriving, connection)
            return
        self._dispatch_when_whole(connection)
        if not alive and connection in self._arriving.waiting:
            self._drop(self._arriving, connection)

    def _on_idle_bytes(self, connection: Connection) -> None:
        self._leave(self._idle, connection)
        self._wait(self._arriving, connection, self._on_head_bytes)
        self._on_head_bytes(connection)

    def _on_leaving_bytes(self, connection: Connection) -> None:
        try:
            alive = connection.pull()
        except OSError:
            alive = False
        connection.received.clear()
        if not alive:
            self._drop(self._leaving, connection)

    def _dispatch_when_whole(self, connection: Connection) -> None:
        end = connection.received.find(b"\r\n\r\n")
        if end < 0:
            problem = http_head.hopeless(connection.received)
            if problem is not None:
                self._leave(self._arriving, connection)
                self.refuse(connection, problem)
            return
        self._leave(self._arriving, connection)
        if self.pool is not None and self.pool.full():
            self.refuse(connection, HeadError(503, "all of worker_connections are at work"))
            return
        self.pool.spawn(self._serve, connection)

    def refuse(self, connection: Connection, problem: HeadError) -> None:
        """Answer *problem* and close; may be called in the hub."""
        LOG.debug(event("request-refused", client=connection.address, detail=problem))
        self.state.refused("bad-request" if problem.status != 503 else "overload")
        try:
            connection.send_unblocked(problem.response())
        except OSError:
            connection.close()
            return
        self.linger(connection)

    def _serve(self, connection: Connection) -> None:
        handler = self.handler_class(connection, connection.address, self)
        try:
            handler.handle()
        except Exception:
            LOG.exception(event("unexpected-error", client=connection.address))
            connection.close()

    # -- bookkeeping -------------------------------------------------------------------------

    def _wait(self, room: _Room, connection: Connection, callback: Any) -> None:
        watcher = self.loop.io(connection.fileno(), 1)
        room.waiting[connection] = (room.deadline(time.monotonic()), watcher)
        watcher.start(self._guarded, room, connection, callback)
        if self._timer is None:
            self._timer = self.loop.timer(_TICK, _TICK)
            self._timer.start(self._expire)

    def _guarded(self, room: _Room, connection: Connection, callback: Any) -> None:
        """A watcher that raises stays armed and spins; a connection that does is dropped."""
        try:
            callback(connection)
        except Exception:
            self.loop.handle_error(connection, *sys.exc_info())
            self._drop(room, connection)

    def _leave(self, room: _Room, connection: Connection) -> None:
        _, watcher = room.waiting.pop(connection)
        watcher.stop()
        watcher.close()

    def _drop(self, room: _Room, connection: Connection) -> None:
        if connection in room.waiting:
            self._leave(room, connection)
        connection.close()

    def _expire(self) -> None:
        now = time.monotonic()
        for room in (self._arriving, self._idle, self._leaving):
            while room.waiting:
                connection, (deadline, _) = next(iter(room.waiting.items()))
                if deadline > now:
                    break
                if room is self._arriving:
                    self.state.refused("request-timeout")
                self._drop(room, connection)
        if not self._count():
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _evict(self) -> None:
        """Make room: whoever leaves, then who idles, then who has been slow for longest."""
        for room in (self._leaving, self._idle, self._arriving):
            if room.waiting:
                self.state.refused("evicted")
                self._drop(room, next(iter(room.waiting)))
                return

    def _count(self) -> int:
        return sum(len(room.waiting) for room in (self._arriving, self._idle, self._leaving))
