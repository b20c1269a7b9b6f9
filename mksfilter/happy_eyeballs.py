"""Connecting to a name with several addresses of which some lead nowhere (RFC 8305).

A route that is missing for one family is silent as often as not: who tries one address after the
other spends a whole time-out on it. So the attempts overlap: the next address is tried 250 ms after
the one before, or as soon as that has failed, and the first connection that stands is taken.

* **Order** (section 4): the resolver's own, with the families taking turns.
* **Attempts** (section 5): each keeps running while others begin; who loses is closed.

``getaddrinfo`` asks for both kinds of addresses at once and answers when both are there, so that
the Resolution Delay of section 3 has nothing to do here.

Nothing here knows gevent: the caller passes the socket's class and ``poll``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["STAGGER", "Address", "connect", "order"]

#: Seconds between the beginnings of two attempts: RFC 8305's Connection Attempt Delay.
STAGGER: Final = 0.25


class Address(NamedTuple):
    """What a socket connects to.

    :ivar family: ``AF_INET`` or ``AF_INET6``.
    :ivar sockaddr: as :func:`socket.getaddrinfo` returns it; the address comes first.
    """

    family: int
    sockaddr: tuple[Any, ...]


def order(addresses: Sequence[Address]) -> list[Address]:
    """*addresses* with the families in turn, that of the first one first; each only once."""
    lines: dict[int, deque[Address]] = {}
    for address in dict.fromkeys(addresses):
        lines.setdefault(address.family, deque()).append(address)
    ordered: list[Address] = []
    while lines:
        for family in list(lines):
            ordered.append(lines[family].popleft())
            if not lines[family]:
                del lines[family]
    return ordered


def connect(
    addresses: Sequence[Address],
    *,
    make_socket: Callable[[int, int], Any],
    poll: Callable[[], Any],
    timeout: float | None = None,
    stagger: float = STAGGER,
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """A TCP connection to the first of *addresses* that has one.

    :param make_socket: ``socket.socket`` or another of its kind.
    :param poll: ``select.poll`` or another of its kind; waits for one attempt or another.
    :param timeout: seconds for all of it; None: the caller sees to that.
    :returns: a connected socket with *timeout* as its own.
    :raises TimeoutError: none of them answers.
    :raises OSError: none of them can be connected to; the last failure.
    """
    ordered = order(addresses)
    if len(ordered) == 1:
        return _only(ordered[0], make_socket, timeout)
    race = _Race(ordered, make_socket, poll, stagger, clock)
    try:
        winner = race.run(timeout)
    finally:
        race.close()
    winner.settimeout(timeout)
    return winner


def _only(address: Address, make_socket: Callable[[int, int], Any], timeout: float | None) -> Any:
    sock = make_socket(address.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


class _Race:
    """Attempts under way; closed, it leaves none behind but the winner's."""

    def __init__(
        self,
        addresses: Sequence[Address],
        make_socket: Callable[[int, int], Any],
        poll: Callable[[], Any],
        stagger: float,
        clock: Callable[[], float],
    ) -> None:
        self._waiting = deque(addresses)
        self._make_socket = make_socket
        self._poll = poll()
        self._stagger = stagger
        self._clock = clock
        self._attempts: dict[int, Any] = {}
        self._failure: OSError = TimeoutError("timed out")

    def run(self, timeout: float | None) -> Any:
        """The first socket that is connected."""
        began = next_at = self._clock()
        while True:
            now = self._clock()
            if self._waiting and (now >= next_at or not self._attempts):
                next_at = now + self._stagger
                if (sock := self._start(self._waiting.popleft())) is not None:
                    return sock
                continue
            if not self._attempts:
                raise self._failure
            left = None if timeout is None else began + timeout - now
            if left is not None and left <= 0:
                raise TimeoutError("timed out")
            if self._waiting:
                left = next_at - now if left is None else min(left, next_at - now)
            winner, failed = self._wait(left)
            if winner is not None:
                return winner
            if failed:
                next_at = now  # whose turn is next need not wait for it

    def _start(self, address: Address) -> Any | None:
        """Begin an attempt; the socket, where it is connected at once."""
        sock = self._make_socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(address.sockaddr)
        except BlockingIOError:
            self._attempts[sock.fileno()] = sock
            self._poll.register(sock.fileno(), _WRITABLE)
            return None
        except OSError as exc:
            sock.close()
            self._failure = exc
            return None
        except BaseException:
            sock.close()
            raise
        return sock

    def _wait(self, seconds: float | None) -> tuple[Any | None, bool]:
        """One look at the attempts: who is connected, and whether one has failed."""
        failed = False
        milliseconds = None if seconds is None else max(0.0, seconds) * 1000
        for number, _events in self._poll.poll(milliseconds):
            sock = self._attempts[number]
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._poll.unregister(number)
            del self._attempts[number]
            if not error:
                return sock, False
            sock.close()
            self._failure = OSError(error, os.strerror(error))
            failed = True
        return None, failed

    def close(self) -> None:
        """Give up all attempts that are still under way."""
        for number, sock in self._attempts.items():
            with contextlib.suppress(KeyError, OSError):
                self._poll.unregister(number)
            sock.close()
        self._attempts.clear()


_WRITABLE: Final = 4  # POLLOUT, the same for every implementation of poll(2)
