"""Connections that wait for something without a greenlet, watched by the hub."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from mksfilter.proxy.http_head import RequestHead
from mksfilter.proxy.relay.timers import shared_wheel
from mksfilter.proxy.server.connection import Connection

__all__ = [
    "MOST_LONG_HEADS",
    "SHORT_HEAD",
    "WRITABLE",
    "ArrivingHeads",
    "HeldRequests",
    "WaitingList",
]

_READABLE, WRITABLE = 1, 2  # libev's and libuv's flags for the event loop's ``io``

#: Bytes of a head that is short, and the number of longer ones that may be incomplete at a time:
#: with :data:`http_head.MAX_HEAD` and what TLS keeps of a record 25 MB.
SHORT_HEAD = 4096
MOST_LONG_HEADS = 512


class WaitingList:
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


class ArrivingHeads(WaitingList):
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
        if connection.arrived > SHORT_HEAD:
            self._long[connection] = None
        return len(self._long) > MOST_LONG_HEADS

    def drop_longest_waiting(self) -> None:
        """Close the connection whose head has been long for the longest time."""
        self.drop(next(iter(self._long)))

    def remove(self, connection: Connection) -> None:
        """See :meth:`WaitingList.remove`."""
        self._long.pop(connection, None)
        super().remove(connection)


class HeldRequests(WaitingList):
    """Whole requests whose turn has not come.

    :param serve: called with each that leaves, be it because its turn has come, its time is over,
        or more of it has come. One whose client goes is dropped.
    """

    def __init__(
        self, seconds: float, serve: Callable[[tuple[Connection, RequestHead]], None]
    ) -> None:
        super().__init__(seconds)
        self._serve = serve
        self._requests: dict[Connection, RequestHead] = {}

    def hold(self, connection: Connection, request: RequestHead) -> None:
        """*request* has come on *connection*, and nothing behind it."""
        self._requests[connection] = request
        self.add(connection, self._on_bytes)

    def serve_first(self) -> None:
        """Serve the one that has been here for the longest time."""
        self._leave(next(iter(self.entries)))

    def remove(self, connection: Connection) -> None:
        """See :meth:`WaitingList.remove`."""
        self._requests.pop(connection, None)
        super().remove(connection)

    def expire(self, connection: Connection) -> None:
        """See :meth:`WaitingList.expire`: whoever serves it tells it why it has to go."""
        self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        request = self._requests[connection]
        self.remove(connection)
        self._serve((connection, request))

    def _on_bytes(self, connection: Connection) -> None:
        try:
            alive = connection.pull()
        except OSError:
            alive = False
        if not alive:
            self.drop(connection)
        elif connection.received:
            self._leave(connection)


class _Entry:
    """A waiting connection in the timer wheel."""

    __slots__ = ("_connection", "_list", "slot", "watcher")

    def __init__(self, waiting: WaitingList, connection: Connection, watcher: Any) -> None:
        self.slot = 0
        self.watcher = watcher
        self._list = waiting
        self._connection = connection

    def on_timer(self, _now: float) -> None:
        """See :class:`mksfilter.proxy.relay.timers.Timed`."""
        self._list.expire(self._connection)
