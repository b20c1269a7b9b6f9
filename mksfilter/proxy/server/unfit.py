"""What a worker does that cannot start: where nobody else accepts, it says so to whoever comes.

A connection that no worker accepts waits in the kernel's queue for minutes, and its load balancer
with it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable

import gevent
from gevent import select

__all__ = ["answer"]

_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n"
    b"Content-Length: 0\r\n\r\n"
)


def answer(sockets: Iterable[socket.socket], *, until: float, alone: Callable[[], bool]) -> None:
    """Answer 503 to every connection, whatever it asks for.

    :param until: monotonic seconds.
    :param alone: nobody else accepts.
    """
    listeners = list(sockets)
    while (left := until - time.monotonic()) > 0:
        if not alone():
            gevent.sleep(min(left, 0.2))
            continue
        for listener in select.select(listeners, [], [], min(left, 0.2))[0]:
            with contextlib.suppress(OSError):
                listener.setblocking(False)
                connection, _ = listener.accept()
                gevent.spawn(_refuse, connection)


def _refuse(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(2)
        connection.recv(65536)
        connection.sendall(_ANSWER)
