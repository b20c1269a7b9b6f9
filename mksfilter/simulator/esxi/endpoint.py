"""What the console endpoints of a host have in common, and the server's side of TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import cast

import gevent
from gevent.event import Event

from mksfilter.simulator.esxi.stream import HANDSHAKE_TIMEOUT, abort
from mksfilter.simulator.model.inventory import VM, Host
from mksfilter.simulator.net.certificates import Certificate
from mksfilter.simulator.net.sockets import Socket

__all__ = ["HANDSHAKE_TIMEOUT", "Endpoint", "hold", "secure"]


class Endpoint:
    """The state of one host as its endpoints see it.

    :ivar released: set when connections that were met with silence are to be dropped.
    """

    def __init__(self, host: Host, right: Certificate, wrong: Certificate) -> None:
        self.host = host
        self.released = Event()
        self._right = right
        self._wrong = wrong

    @property
    def context(self) -> ssl.SSLContext:
        """Presents the host's certificate, or the wrong one while it is told to."""
        return self.presents(self._wrong if self.host.state.wrong_certificate else self._right)

    def presents(self, certificate: Certificate) -> ssl.SSLContext:
        """A context for *certificate* as the host's TLS profile has it."""
        return certificate.strict if self.host.strict else certificate.context

    def held(self, sock: Socket) -> bool:
        """Whether the connection was met with silence, and is over."""
        if self.host.state.silent:
            hold(sock, self.released)
            return True
        return False

    def serves(self, vm: VM) -> bool:
        """Whether a ticket for *vm* opens a console here and now."""
        return (
            vm.host is self.host and vm.state.power == "on" and not self.host.state.refuse_tickets
        )


def secure(sock: Socket, context: ssl.SSLContext) -> Socket | None:
    """The server's side of TLS; ``None`` when the client thinks better of it."""
    try:
        with gevent.Timeout(HANDSHAKE_TIMEOUT):
            # gevent's context wants gevent's socket, which is no socket.socket to a type checker.
            tls: Socket = context.wrap_socket(cast(socket.socket, sock), server_side=True)
            return tls
    except (OSError, gevent.Timeout):
        sock.close()
        return None


def hold(sock: Socket, until: Event) -> None:
    """Read and say nothing, until told to drop the connection or the client goes."""

    def drop() -> None:
        until.wait()
        abort(sock)

    waiting = gevent.spawn(drop)
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass
    waiting.kill()
