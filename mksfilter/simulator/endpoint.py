"""What the console endpoints of a host have in common, and the server's side of TLS."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import gevent
from gevent.event import Event

from mksfilter.simulator.inventory import Host, Machine
from mksfilter.simulator.stream import HANDSHAKE_TIMEOUT, abort

__all__ = ["HANDSHAKE_TIMEOUT", "Endpoint", "hold", "secure"]


class Endpoint:
    """The state of one host as its endpoints see it.

    :ivar released: set when connections that were met with silence are to be dropped.
    """

    def __init__(self, host: Host, right: ssl.SSLContext, wrong: ssl.SSLContext) -> None:
        self.host = host
        self.released = Event()
        self._right = right
        self._wrong = wrong

    @property
    def context(self) -> ssl.SSLContext:
        """Presents the host's certificate, or the wrong one while it is told to."""
        return self._wrong if self.host.state.wrong_certificate else self._right

    def held(self, sock: Any) -> bool:
        """Whether the connection was met with silence, and is over."""
        if self.host.state.silent:
            hold(sock, self.released)
            return True
        return False

    def serves(self, machine: Machine) -> bool:
        """Whether a ticket for *machine* opens a console here and now."""
        return (
            machine.host is self.host
            and machine.state.power == "on"
            and not self.host.state.refuse_tickets
        )


def secure(sock: Any, context: ssl.SSLContext) -> Any | None:
    """The server's side of TLS; ``None`` when the client thinks better of it."""
    try:
        with gevent.Timeout(HANDSHAKE_TIMEOUT):
            return context.wrap_socket(sock, server_side=True)
    except (OSError, gevent.Timeout):
        sock.close()
        return None


def hold(sock: Any, until: Event) -> None:
    """Read and say nothing, until told to drop the connection or the client goes."""

    def drop() -> None:
        until.wait()
        abort(sock)

    waiting = gevent.spawn(drop)
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass
    waiting.kill()
