"""What the servers ask of a socket: gevent's classes have no types that a checker can follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Handler", "PeerAddress", "Socket"]

PeerAddress = tuple[str, int] | tuple[str, int, int, int]
"""What ``accept()`` says of a peer: its address comes first (IPv4, IPv6)."""


class Socket(Protocol):
    """A connected TCP or TLS socket whose calls give way to other greenlets."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def fileno(self) -> int: ...
    def detach(self) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


Handler = Callable[[Socket, PeerAddress], None]
"""Serves one connection until it ends."""
