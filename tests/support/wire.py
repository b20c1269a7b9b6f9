"""A piece of network that can be slow, or silent: not every kernel has netem."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque

__all__ = ["Wire"]

_READ = 64 * 1024
# Bytes on their way in one direction; more waits at the sender, as behind a real wire.
_WINDOW = 256 * 1024


class _End:
    """One direction's receiver, and what is on its way there."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.other: _End = self
        self.way: deque[tuple[float, bytes]] = deque()
        self.length = 0
        self.closing = False


class Wire:
    """Carries TCP connections to a port of 127.0.0.1, in a thread of its own.

    :ivar port: where it listens.
    :ivar target: the port that new connections go to.
    :ivar delay: seconds that everything takes, one way.
    :ivar silent: nothing arrives any more, and nobody says so.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.delay = 0.0
        self.silent = False
        self._ends: set[_End] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()
        for end in self._ends:
            end.sock.close()
        self._listener.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(0.005):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif not self.silent:
                        self._read(key.data)
                if self.silent:
                    time.sleep(0.02)
                    continue
                now = time.monotonic()
                for end in list(self._ends):
                    self._deliver(end, now, selector)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(BlockingIOError):
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                near.close()
                return
            ends = _End(near), _End(far)
            ends[0].other, ends[1].other = ends[1], ends[0]
            for end in ends:
                end.sock.setblocking(False)
                end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(end.sock, selectors.EVENT_READ, end)
                self._ends.add(end)

    def _read(self, end: _End) -> None:
        other = end.other
        if other.length > _WINDOW or other.closing:
            return
        try:
            data = end.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        other.way.append((time.monotonic() + self.delay, data))
        other.length += len(data)
        other.closing = not data

    def _deliver(self, end: _End, now: float, selector: selectors.BaseSelector) -> None:
        try:
            while end.way and end.way[0][0] <= now:
                at, data = end.way.popleft()
                if not data:
                    raise ConnectionAbortedError("the other side has closed")
                sent = end.sock.send(data)
                end.length -= sent
                if sent < len(data):
                    end.way.appendleft((at, data[sent:]))
                    return
        except BlockingIOError:
            end.way.appendleft((at, data))
        except OSError:
            for one in (end, end.other):
                if one in self._ends:
                    self._ends.discard(one)
                    selector.unregister(one.sock)
                    one.sock.close()
