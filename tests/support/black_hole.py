"""An address that never answers a connection, and a name that leads there among others."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["black_hole", "resolves_to"]


@contextlib.contextmanager
def black_hole(address: str, port: int = 0) -> Iterator[int]:
    """A port of *address* where the kernel drops every SYN, as behind a route that leads nowhere:
    the queue of connections that nobody accepts is full."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        port = listener.getsockname()[1]
        while True:
            filler = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            filler.settimeout(0.2)
            try:
                filler.connect((address, port))
            except TimeoutError:
                break
        yield port


def resolves_to(monkeypatch: pytest.MonkeyPatch, resolver: Any, **names: list[str]) -> None:
    """Have ``resolver.getaddrinfo`` answer a name (dots are underscores) with these addresses."""
    real = resolver.getaddrinfo
    known = {name.replace("_", "."): addresses for name, addresses in names.items()}

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        found = []
        for address in known.get(host, [host]):
            found += real(address, port, *args, **options)
        return found

    monkeypatch.setattr(resolver, "getaddrinfo", getaddrinfo)
