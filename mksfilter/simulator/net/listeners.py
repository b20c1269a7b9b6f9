"""Sockets to listen on, and the servers behind them."""

from __future__ import annotations

import contextlib
import socket as stdsocket

from gevent import socket
from gevent.server import StreamServer

from mksfilter.exceptions import OperationError
from mksfilter.simulator.net.sockets import Handler, PeerAddress, Socket

__all__ = ["Listeners", "own_loopback", "reachable"]

_BACKLOG = 1024
_ATTEMPTS = 20


class Listeners:
    """Starts servers and stops them together."""

    def __init__(self) -> None:
        self._servers: list[StreamServer] = []

    def serve(self, address: str, port: int, handle: Handler) -> int:
        """Serve connections.

        :param port: 0 for any; returns the one it is.
        :raises OperationError: the address or port cannot be had.
        """
        listener = _listen(address, port)
        self._start(listener, handle)
        return int(listener.getsockname()[1])

    def serve_both(self, address: str, handle: Handler) -> tuple[int, str]:
        """Serve on any port of *address* and, where there is IPv6, on the same port of ``::1``.

        :returns: the port, and ``::1`` or nothing.
        """
        for _ in range(_ATTEMPTS):
            listener = _listen(address, 0)
            port = listener.getsockname()[1]
            try:
                second = _listen("::1", port)
            except OperationError:
                listener.close()
                continue
            self._start(listener, handle)
            self._start(second, handle)
            return int(port), "::1"
        return self.serve(address, 0, handle), ""

    def stop(self) -> None:
        for server in self._servers:
            server.stop(timeout=0)
        self._servers.clear()

    def _start(self, listener: socket.socket, handle: Handler) -> None:
        def handle_promptly(sock: Socket, peer: PeerAddress) -> None:
            # Consoles and calls are small messages both ways: never wait to make them larger.
            sock.setsockopt(stdsocket.IPPROTO_TCP, stdsocket.TCP_NODELAY, 1)
            handle(sock, peer)

        server = StreamServer(listener, handle_promptly)
        server.start()
        self._servers.append(server)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(stdsocket.SOL_SOCKET, stdsocket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as exc:
        with contextlib.suppress(UnboundLocalError):
            listener.close()
        reason = getattr(exc, "strerror", None) or str(exc)
        raise OperationError(
            f"cannot listen on {address} port {port}: {reason}; choose another with --host, "
            "--port or --control-port"
        ) from exc
    return listener


def reachable(address: str) -> str:
    """The address under which others reach what listens on *address*."""
    if address in ("0.0.0.0", "::"):  # noqa: S104
        return stdsocket.gethostbyname(stdsocket.gethostname())
    return address


def own_loopback(number: int) -> str:
    """A loopback address for a host of its own, where the system has more than one."""
    address = f"127.0.0.{2 + number % 250}"
    with stdsocket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return "127.0.0.1"
    return address
