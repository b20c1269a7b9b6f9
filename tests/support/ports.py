"""Ports of 127.0.0.1 for servers that cannot be handed a socket."""

from __future__ import annotations

import functools
import random
import socket
from pathlib import Path

__all__ = ["free_port"]

# Below them are services that a machine may have.
_FIRST, _LAST = 10_000, 65_535
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_given_out: set[int] = set()


@functools.cache
def _candidates() -> list[int]:
    """Ports that the kernel gives to no connection of its own accord (ip(7)).

    One that it had itself chosen as free it may give away again before the server has come that it
    was chosen for, to whoever connects to anything.
    """
    low, high = map(int, _RANGE.read_text().split())
    apart = [port for port in range(_FIRST, _LAST + 1) if not low <= port <= high]
    return apart or list(range(_FIRST, _LAST + 1))


def free_port() -> int:
    """A port that nobody listens on, and that this process has not given out before."""
    candidates = _candidates()
    # Tests run in several processes side by side.
    while True:
        port = random.choice(candidates)
        if port in _given_out:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given_out.add(port)
        return port
