"""What all workers of one node share: the board, and the socket of the management listener.

Made in gunicorn's master with the first worker, before the fork. The master may know nothing of
our configuration, which with a paste file only the workers load. So the socket is made without an
address; the first worker that knows the address binds it, and as all workers have the same socket
by inheritance it is then bound for all of them. A connection goes to whichever worker is free to
accept it, so a worker that is stuck answers no probe in the others' place.
"""

from __future__ import annotations

import errno
import functools
import socket

from mksfilter.exceptions import OperationError
from mksfilter.proxy.server.board import Board
from mksfilter.tcp import host_and_port, split_address

__all__ = ["ManagementSocket", "Node", "listener_address", "shared"]

_BACKLOG = 128


class Node:
    """See above.

    :ivar board: what the workers tell each other.
    :ivar management: the socket.
    """

    def __init__(self) -> None:
        self.board = Board()
        self.management = ManagementSocket()


@functools.lru_cache(maxsize=1)
def shared() -> Node:
    """The node of this process; its own and its parent's, if it is a worker."""
    return Node()


class ManagementSocket:
    """A listening socket without an address at first."""

    def __init__(self) -> None:
        families = [socket.AF_INET, *([socket.AF_INET6] if socket.has_ipv6 else [])]
        self._sockets = {}
        for family in families:
            try:
                self._sockets[family] = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                continue  # a kernel without IPv6
            self._sockets[family].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def listen(self, bind: str) -> socket.socket:
        """The socket, listening at *bind*; harmless when repeated, by whichever worker.

        :raises ConfigurationError: *bind* is not of the form ``HOST:PORT``.
        :raises OperationError: it cannot be listened on, or this node listens elsewhere.
        """
        host, port = split_address(bind, "management_bind")
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = self._sockets[family]
            bound = self._bound()
            if bound is None:
                try:
                    listener.bind(address)
                except OSError as exc:
                    # EINVAL: it has an address; a sibling was faster.
                    if exc.errno != errno.EINVAL or not listener.getsockname()[1]:
                        raise
            elif bound is not listener or not _is_at(bound, address):
                raise OperationError(
                    f"management_bind {bind}: this node listens at {listener_address(bound)} until "
                    f"it is stopped and started; a reload does not move it"
                )
            listener.listen(_BACKLOG)
        except KeyError:
            raise OperationError(
                f"management_bind {bind}: no such addresses on this machine"
            ) from None
        except OSError as exc:
            raise OperationError(
                f"management_bind {bind}: {exc.strerror or exc}; another program, or another node "
                f"on this machine, may be listening there already"
            ) from exc
        return listener

    def close(self) -> None:
        """Give the address up, as far as this process has it."""
        for sock in self._sockets.values():
            sock.close()

    def _bound(self) -> socket.socket | None:
        for sock in self._sockets.values():
            if sock.getsockname()[1]:
                return sock
        return None


def _is_at(sock: socket.socket, address: tuple[object, ...]) -> bool:
    host, port = sock.getsockname()[:2]
    return bool(host == address[0] and address[1] in (0, port))


def listener_address(sock: socket.socket) -> str:
    """``HOST:PORT`` of a listening socket, with brackets around an IPv6 address."""
    return host_and_port(*sock.getsockname()[:2])
