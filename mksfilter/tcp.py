"""TCP towards a peer that may vanish without a word, and addresses as operators write them.

A machine that loses its power or its network sends no reset, and by itself the kernel waits for two
hours before it asks whether an idle peer is there, and for a quarter of one before it gives up data
that nobody acknowledges. Two socket options shorten both (tcp(7)):

* ``SO_KEEPALIVE`` with its three times: an idle peer is asked several times within *seconds*;
* ``TCP_USER_TIMEOUT`` (RFC 5482): data that was not acknowledged for *seconds* ends the connection.
  It also ends one whose peer acknowledges and takes nothing for so long (a closed window), so that
  a peer that may be slow to read gets more of it.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from mksfilter.exceptions import ConfigurationError

__all__ = [
    "VANISHED_AFTER",
    "host_and_port",
    "send_all",
    "split_address",
    "unbracketed",
    "watch_peer",
]

#: Seconds after which a peer that acknowledges nothing is taken for gone, where no option says.
VANISHED_AFTER: Final = 25

_PROBES: Final = 5
# Not in every platform's ``socket``; the numbers are Linux's (linux/tcp.h).
_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", 18)


def send_all(sock: Any, data: bytes) -> None:
    """As ``sock.sendall`` of a gevent socket, whose bookkeeping takes longer than the system call;
    nearly always one ``send`` is enough.

    :raises OSError: the connection is lost, or the socket's time-out is over.
    """
    sent = sock.send(data)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def watch_peer(sock: Any, seconds: int, *, unread: float = 0) -> None:
    """Have the kernel end the connection when its peer has vanished.

    :param sock: connected, of any make; one that is not TCP is left alone.
    :param seconds: without an acknowledgement, whether there is anything to acknowledge or not; 0:
        the kernel's own times, hours.
    :param unread: seconds for which the peer may leave its window closed, where that is more.
    :raises OSError: the connection is lost already.
    """
    if not seconds or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    between = max(1, seconds // _PROBES)
    idle = max(1, seconds - (_PROBES - 2) * between)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, between)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    timeout = max(seconds, unread)
    sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(timeout * 1000))


def unbracketed(host: str) -> str:
    """*host* as sockets and certificates know it: ``[::1]`` is the address ``::1``."""
    text = host.strip()
    if text.startswith("[") and text.endswith("]") and ":" in text:
        return text[1:-1]
    return text


def host_and_port(host: str, port: int) -> str:
    """``HOST:PORT`` as URLs and people write it, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(text: str, option: str) -> tuple[str, int]:
    """``HOST:PORT``, or ``[HOST]:PORT``, as host and port.

    :param option: for the words of an error.
    :raises ConfigurationError: it is not of that form.
    """
    name, colon, port = text.strip().rpartition(":")
    host = unbracketed(name)
    if (
        not colon
        or not host.strip("[]")
        or "[" in host
        or "]" in host
        or not port.isascii()
        or not port.isdigit()
        or int(port) > 65535
    ):
        raise ConfigurationError(f"{option} {text}: not of the form HOST:PORT")
    return host, int(port)
