"""What the worker and the application of one process share, however deep a paste pipeline hides
the application: deadlines, live sessions, and whether the process is being taken out of service.
"""

from __future__ import annotations

import logging
from typing import Protocol

__all__ = ["NODE", "Node", "Resident"]

LOG = logging.getLogger(__name__)


class Resident(Protocol):
    """An application as its worker sees it. Nothing here may block."""

    @property
    def handshake_timeout(self) -> float:
        """Seconds for a client to send a whole request."""

    @property
    def sessions(self) -> int:
        """Live sessions."""

    def proxy_header_from(self, peer: str) -> bool:
        """Does a connection from this address start with a PROXY header?"""

    def start(self) -> None:
        """Called once in each worker, after the fork and after gevent's patches."""

    def drain(self, seconds: float) -> None:
        """End all sessions within so many seconds."""

    def close(self) -> None:
        """End all sessions now."""

    def refused(self, reason: str) -> None:
        """Count a request that was refused before it reached the application."""


class Node:
    """One worker process.

    :ivar draining: no new sessions are accepted.
    """

    def __init__(self) -> None:
        self.draining = False
        self._resident: Resident | None = None

    def attach(self, resident: Resident) -> None:
        """*resident* is the application of this process."""
        self._resident = resident

    def start(self) -> None:
        """A worker begins to serve."""
        if self._resident is not None:
            self._resident.start()

    def drain(self, seconds: float) -> None:
        """No new sessions; the live ones end within *seconds*."""
        if self.draining:
            return
        self.draining = True
        LOG.info("draining sessions=%d seconds=%.0f", self.sessions, seconds)
        if self._resident is not None:
            self._resident.drain(seconds)

    def close(self) -> None:
        """All sessions end now."""
        self.draining = True
        if self._resident is not None:
            self._resident.close()

    def refused(self, reason: str) -> None:
        """A request was refused before it reached the application."""
        if self._resident is not None:
            self._resident.refused(reason)

    @property
    def sessions(self) -> int:
        """Live sessions of this process."""
        return 0 if self._resident is None else self._resident.sessions

    @property
    def handshake_timeout(self) -> float:
        """Seconds for a client to send a whole request."""
        return 10.0 if self._resident is None else self._resident.handshake_timeout

    def proxy_header_from(self, peer: str) -> bool:
        """Does a connection from this address start with a PROXY header?"""
        return self._resident is not None and self._resident.proxy_header_from(peer)


#: This process's node. Made before the fork, it holds nothing that a fork could break.
NODE = Node()
