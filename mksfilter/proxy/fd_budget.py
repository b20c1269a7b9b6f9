"""How the file descriptors of a process are divided, so that it never runs out of them.

A process without descriptors cannot even accept a connection to say that it is full.
"""

from __future__ import annotations

import resource

__all__ = ["limit", "needed", "sessions", "waiting"]

_MOST_WAITING = 10_000  # connections; each costs about three kilobytes
_OTHERS = 100  # listeners, logs, vCenters, and consoles that are being opened
_PER_SESSION = 2


def limit() -> int:
    """Descriptors that this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def waiting(limit: int) -> int:
    """Connections without a session: a quarter of all may be in the hands of strangers."""
    return min(_MOST_WAITING, max(64, limit // 4))


def sessions(limit: int) -> int:
    """Sessions for which there is room beside them."""
    return max(1, (limit - waiting(limit) - _OTHERS) // _PER_SESSION)


def needed(wanted: int) -> int:
    """The limit under which so many sessions have room."""
    without = _PER_SESSION * wanted + _OTHERS
    return min(without + _MOST_WAITING, max(without + 64, -(-without * 4 // 3)))
