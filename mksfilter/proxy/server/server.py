"""The server whose connections wait for a whole request without a greenlet.

gunicorn's gevent server spends a greenlet, and a place in its pool, on each connection from its
first moment, so clients that connect and say nothing lock everybody out. Here a connection waits,
watched by the hub, until its request head has arrived; only then it gets a greenlet, for one
request. While its answer is sent, between requests (keep-alive), and while it lingers before it is
closed, it waits again. So nobody holds a greenlet by what he does not send or does not read.

Requests for a console and all others have lanes of their own: a console may take its time, and
meanwhile pages, files and health are answered.
"""

from __future__ import annotations

import logging
import ssl
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from socket import socket
from typing import Any

import gevent

from mksfilter.exceptions import (
    AnswerNotRead,
    ConsoleError,
    Evicted,
    Overloaded,
    ProxyHeaderError,
    RequestError,
    RequestTimeout,
)
from mksfilter.log import event
from mksfilter.proxy import fd_budget, http_head
from mksfilter.proxy.relay.timers import shared_wheel
from mksfilter.proxy.server.connection import Address, Connection
from mksfilter.proxy.server.gevent_adapter import Server
from mksfilter.proxy.server.lane import Lane
from mksfilter.proxy.server.state import ServerState

__all__ = ["ConsoleServer"]

LOG = logging.getLogger(__name__)

#: Seconds between requests of one connection; a page's files follow each other closely.
_IDLE_SECONDS = 5.0
#: Seconds for a client to read the last answer and close.
_LINGER_SECONDS = 2.0
#: Seconds for a client to take an answer of ours.
_WRITE_SECONDS = 20.0
#: Bytes of a head that is short, and the number of longer ones that may be incomplete at a time:
#: with :data:`http_head.MAX_HEAD` and what TLS keeps of a record 25 MB.
_SHORT_HEAD = 4096
_MOST_LONG_HEADS = 512
#: Requests without an upgrade that are served at the same time, where an application waits at all.
_PLAIN_REQUESTS = 64

_READABLE, _WRITABLE = 1, 2  # libev's and libuv's flags for the event loop's ``io``

_Ready = tuple[Connection, http_head.RequestHead]


class ConsoleServer(Server):
    """A server with waiting connections before its pool.

    TLS, where gunicorn is given a certificate, is spoken by :class:`Connection`.

    :param capacity: connections that may wait; by default a share of the descriptors.
    :ivar state: of the worker process.
    """

    def __init__(
        self,
        listener: socket,
        *,
        state: ServerState,
        ssl_context: ssl.SSLContext | None = None,
        capacity: int | None = None,
        **kwargs: Any,
    ) -> None:
        if ssl_context is not None:
            kwargs["ssl_context"] = ssl_context
        self.state = state
        self._tls = ssl_context
        # A request that does not come in time is the only one that is counted.
        self._arriving = _ArrivingHeads(
            state.handshake_timeout, lambda: state.refused(RequestTimeout.reason)
        )
        self._sending = _WaitingList(_WRITE_SECONDS, lambda: state.refused(AnswerNotRead.reason))
        self._idle = _WaitingList(_IDLE_SECONDS)
        self._lingering = _WaitingList(_LINGER_SECONDS)
        super().__init__(listener, **kwargs)
        self._capacity = capacity or fd_budget.waiting(fd_budget.limit())
        self._plain: Lane[_Ready] = Lane(
            _PLAIN_REQUESTS, gevent.spawn, serve=self._serve, refuse=self._refuse_overload
        )
        self._upgrades: Lane[_Ready] = Lane(
            self.pool.size or _PLAIN_REQUESTS,
            self.pool.spawn,
            serve=self._serve,
            refuse=self._refuse_overload,
        )

    def accepted(self, sock: socket, address: Address) -> None:
        """A connection was accepted."""
        peer = address[0] if isinstance(address, tuple) else ""
        connection = Connection(
            sock,
            address,
            self._tls,
            write_timeout=_WRITE_SECONDS,
            proxy_header=self.state.expects_proxy_header(peer),
        )
        if self.waiting >= self._capacity:
            self._evict()
        self._arriving.add(connection, self._on_head_bytes)

    def close(self) -> None:
        """Stop accepting. Who is in the middle of a request may finish it."""
        if not self.closed:
            super().close()
        for connection in list(self._idle):
            self._idle.drop(connection)

    @property
    def waiting(self) -> int:
        """Connections that wait for something, and have no greenlet."""
        return (
            len(self._arriving.entries)
            + len(self._sending.entries)
            + len(self._idle.entries)
            + len(self._lingering.entries)
        )

    @property
    def arriving(self) -> int:
        """Connections whose request is on its way, or whose answer is."""
        heads = sum(bool(connection.received) for connection in self._arriving)
        return heads + len(self._plain) + len(self._sending)

    # -- for the handler -------------------------------------------------------------------

    def deliver(self, connection: Connection, *, keep: bool) -> None:
        """Send the answer that is queued, as fast as the peer takes it.

        :param keep: the connection may carry another request afterwards.
        """
        try:
            delivered = connection.flush()
        except OSError:
            connection.close()
            return
        if delivered:
            self._after_answer(connection, keep=keep)
        else:
            callback = partial(self._on_writable, keep=keep)
            self._sending.add(connection, callback, events=_WRITABLE)

    def _after_answer(self, connection: Connection, *, keep: bool) -> None:
        if keep:
            self._park(connection)
        else:
            self._linger(connection)

    def _park(self, connection: Connection) -> None:
        """The connection is kept alive for another request."""
        if self.closed:
            connection.close()
        elif connection.received:
            self._arriving.add(connection, self._on_head_bytes)
            self._dispatch_when_whole(connection)
        else:
            self._idle.add(connection, self._on_idle_bytes)

    def _linger(self, connection: Connection) -> None:
        """The last answer is sent; close when the peer has read it.

        Closing at once, with bytes of the peer's unread, would reset the connection and with it
        the answer.
        """
        connection.finish()
        self._lingering.add(connection, self._on_lingering_bytes)

    # -- hub callbacks: nothing here may block -----------------------------------------------

    def _on_head_bytes(self, connection: Connection) -> None:
        try:
            alive = connection.pull()
        except ProxyHeaderError as exc:
            LOG.debug(event("request-refused", client=connection.address, detail=exc))
            self.state.refused(exc.reason)
            self._arriving.drop(connection)
            return
        except OSError:
            self._arriving.drop(connection)
            return
        if not alive and not connection.received:
            self._arriving.drop(connection)
            return
        self._dispatch_when_whole(connection)
        if connection not in self._arriving.entries:
            return
        if not alive:
            self._arriving.drop(connection)
        elif self._arriving.is_over_budget(connection):
            self.state.refused(Evicted.reason)
            self._arriving.drop_longest_waiting()

    def _on_writable(self, connection: Connection, *, keep: bool) -> None:
        try:
            delivered = connection.flush()
        except OSError:
            self._sending.drop(connection)
            return
        if delivered:
            self._sending.remove(connection)
            self._after_answer(connection, keep=keep)

    def _on_idle_bytes(self, connection: Connection) -> None:
        self._idle.remove(connection)
        self._arriving.add(connection, self._on_head_bytes)
        self._on_head_bytes(connection)

    def _on_lingering_bytes(self, connection: Connection) -> None:
        try:
            alive = connection.pull()
        except OSError:
            alive = False
        connection.received.clear()
        if not alive:
            self._lingering.drop(connection)

    def _dispatch_when_whole(self, connection: Connection) -> None:
        received = connection.received
        end = received.find(b"\r\n\r\n") + 4
        if end < 4:
            problem = http_head.hopeless(received)
            if problem is not None:
                self._arriving.remove(connection)
                self._refuse(connection, problem)
            return
        self._arriving.remove(connection)
        connection.arrived = 0
        head, received[:] = bytes(received[:end]), received[end:]
        try:
            request = http_head.parse(head)
        except RequestError as exc:
            self._refuse(connection, exc)
            return
        lane = self._upgrades if http_head.asks_for_upgrade(request) else self._plain
        lane.put((connection, request))

    def _refuse_overload(self, ready: _Ready) -> None:
        self._refuse(ready[0], Overloaded("all of worker_connections are at work"))

    def _refuse(self, connection: Connection, problem: ConsoleError) -> None:
        LOG.debug(event("request-refused", client=connection.address, detail=problem))
        self.state.refused(problem.reason)
        connection.sendall(http_head.refusal(problem))
        self.deliver(connection, keep=False)

    def _evict(self) -> None:
        """Make room: lingering connections first, then those that do not read their answer, then
        idle ones, then the slowest to arrive."""
        for waiting in (self._lingering, self._sending, self._idle, self._arriving):
            if waiting:
                self.state.refused(Evicted.reason)
                waiting.drop(next(iter(waiting)))
                return

    # -- a greenlet ----------------------------------------------------------------------------

    def _serve(self, ready: _Ready) -> None:
        connection, request = ready
        handler = self.handler_class(connection, connection.address, self)
        try:
            handler.handle(request)
        except Exception:
            LOG.exception(event("unexpected-error", client=connection.address))
            connection.close()


class _WaitingList:
    """Connections that wait for the same thing, oldest first; each is closed after *seconds*.

    :param expired: called for each that is.
    :ivar entries: of the connections.
    """

    def __init__(self, seconds: float, expired: Callable[[], None] = lambda: None) -> None:
        self._loop = gevent.get_hub().loop
        self._wheel = shared_wheel()
        self._seconds = seconds
        self._expired = expired
        self.entries: OrderedDict[Connection, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.entries)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self.entries

    def add(
        self,
        connection: Connection,
        callback: Callable[[Connection], None],
        *,
        events: int = _READABLE,
    ) -> None:
        """Call *callback* in the hub when *connection* has something to read, or what *events*
        says."""
        watcher = self._loop.io(connection.fileno(), events)
        entry = self.entries[connection] = _Entry(self, connection, watcher)
        watcher.start(self._guarded, connection, callback)
        self._wheel.schedule(entry, time.monotonic() + self._seconds)

    def remove(self, connection: Connection) -> None:
        """*connection* does not wait here any more."""
        entry = self.entries.pop(connection)
        self._wheel.cancel(entry)
        entry.watcher.stop()
        entry.watcher.close()

    def drop(self, connection: Connection) -> None:
        """Close *connection*, whether it waits here or has just left."""
        if connection in self.entries:
            self.remove(connection)
        connection.close()

    def expire(self, connection: Connection) -> None:
        """The time of *connection* is over."""
        self._expired()
        self.drop(connection)

    def _guarded(self, connection: Connection, callback: Callable[[Connection], None]) -> None:
        """A watcher that raises stays armed and spins; a connection that does is dropped."""
        try:
            callback(connection)
        except Exception:
            self._loop.handle_error(connection, *sys.exc_info())
            self.drop(connection)


class _ArrivingHeads(_WaitingList):
    """Heads that are not whole yet. Most are short, and so many of them may wait as there are
    connections. Longer ones have a budget of bytes together, or the crowd that has shown no token
    yet could fill the memory: ten thousand heads of 30 kB would be more than
    ``etc/kubernetes/mksproxy.yaml`` gives a pod.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._long: OrderedDict[Connection, None] = OrderedDict()

    def is_over_budget(self, connection: Connection) -> bool:
        """*connection* has got longer; whether a long one has to go for it."""
        if connection.arrived > _SHORT_HEAD:
            self._long[connection] = None
        return len(self._long) > _MOST_LONG_HEADS

    def drop_longest_waiting(self) -> None:
        """Close the connection whose head has been long for the longest time."""
        self.drop(next(iter(self._long)))

    def remove(self, connection: Connection) -> None:
        """See :meth:`_WaitingList.remove`."""
        self._long.pop(connection, None)
        super().remove(connection)


class _Entry:
    """A waiting connection in the timer wheel."""

    __slots__ = ("_connection", "_list", "slot", "watcher")

    def __init__(self, waiting: _WaitingList, connection: Connection, watcher: Any) -> None:
        self.slot = 0
        self.watcher = watcher
        self._list = waiting
        self._connection = connection

    def on_timer(self, _now: float) -> None:
        """See :class:`mksfilter.proxy.relay.timers.Timed`."""
        self._list.expire(self._connection)
