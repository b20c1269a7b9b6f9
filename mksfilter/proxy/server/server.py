"""The server whose connections wait for a whole request without a greenlet.

gunicorn's gevent server spends a greenlet, and a place in its pool, on each connection from its
first moment, so clients that connect and say nothing lock everybody out. Here a connection waits,
watched by the hub, until its request head has arrived; only then it gets a greenlet, for one
request. While its answer is sent, between requests (keep-alive), and while it lingers before it is
closed, it waits again. So nobody holds a greenlet by what he does not send or does not read.

Requests for a console and all others have lanes of their own: a console may take its time, and
meanwhile pages, files and health are answered. When thousands of consoles are asked for at once,
most of the requests are held as they came, without a greenlet, and nothing of them is looked at:
to tell each of them to come again would take a good part of the time in which consoles are opened.
"""

from __future__ import annotations

import logging
import ssl
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
from mksfilter.proxy.pace import Pace
from mksfilter.proxy.server.connection import Address, Connection
from mksfilter.proxy.server.gevent_adapter import Server
from mksfilter.proxy.server.lane import Lane
from mksfilter.proxy.server.state import ServerState
from mksfilter.proxy.server.waiting_list import (
    SHORT_HEAD,
    WRITABLE,
    ArrivingHeads,
    HeldRequests,
    WaitingList,
)

__all__ = ["ConsoleServer"]

LOG = logging.getLogger(__name__)

#: Seconds between requests of one connection; a page's files follow each other closely.
_IDLE_SECONDS = 5.0
#: Seconds for a client to read the last answer and close.
_LINGER_SECONDS = 2.0
#: Seconds for a client to take an answer of ours.
_WRITE_SECONDS = 20.0
#: Of the places for consoles, how many may be taken before further requests are held; what is left
#: is for those whose time is over, who are told why.
_BUSY_SHARE = 0.75
#: Seconds for which a request is held at most, and that it may take until a held one has its
#: console; load balancers wait 30 s for an answer, and pages too.
_HOLD_SECONDS = 15.0
_PATIENCE = 20.0
#: Of the connections that may wait, how many may be held.
_HELD_SHARE = 0.5
#: Consoles a second that are expected as long as nothing is known.
_EXPECTED_PACE = 150.0
#: Requests without an upgrade that are served at the same time, where an application waits at all.
_PLAIN_REQUESTS = 64

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
        self._arriving = ArrivingHeads(
            state.handshake_timeout, lambda: state.refused(RequestTimeout.reason)
        )
        self._sending = WaitingList(_WRITE_SECONDS, lambda: state.refused(AnswerNotRead.reason))
        self._idle = WaitingList(_IDLE_SECONDS)
        self._lingering = WaitingList(_LINGER_SECONDS)
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
            served=self._take_held,
        )
        self._held = HeldRequests(_HOLD_SECONDS, self._upgrades.put)
        state.held.append(self._held)
        self._pace = Pace(_EXPECTED_PACE)
        self._busy = max(1, int((self.pool.size or _PLAIN_REQUESTS) * _BUSY_SHARE))

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
            + len(self._held.entries)
        )

    @property
    def arriving(self) -> int:
        """Connections whose request is on its way, or whose answer is."""
        heads = sum(bool(connection.received) for connection in self._arriving)
        return heads + len(self._plain) + len(self._sending) + len(self._held)

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
            self._sending.add(connection, callback, events=WRITABLE)

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
        if not http_head.asks_for_upgrade(request):
            self._plain.put((connection, request))
        elif len(head) <= SHORT_HEAD and not connection.received and self._may_hold():
            self._held.hold(connection, request)
        else:
            self._upgrades.put((connection, request))

    def _may_hold(self) -> bool:
        """Whether a request for a console does better to wait than to be told to come again."""
        serving, held = len(self._upgrades), len(self._held)
        return (
            serving >= self._busy
            and not self.closed
            and held < self._capacity * _HELD_SHARE
            and serving + held < _PATIENCE * self._pace.rate
        )

    def _take_held(self) -> None:
        """A place for consoles is free."""
        self._pace.done()
        while self._held and len(self._upgrades) < self._busy:
            self._held.serve_first()

    def _refuse_overload(self, ready: _Ready) -> None:
        self._refuse(ready[0], Overloaded("all of worker_connections are at work"))

    def _refuse(self, connection: Connection, problem: ConsoleError) -> None:
        LOG.debug(event("request-refused", client=connection.address, detail=problem))
        self.state.refused(problem.reason)
        connection.sendall(http_head.refusal(problem))
        self.deliver(connection, keep=False)

    def _evict(self) -> None:
        """Make room: lingering connections first, then those that do not read their answer, then
        idle ones, then the slowest to arrive. Who is held is none of those: fewer are than wait."""
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
