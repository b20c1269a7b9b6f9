"""The WebSocket opening handshake towards a console host (RFC 6455 section 4.1).

:func:`request`, :func:`status` and :func:`check` do no I/O; :func:`open_console` exchanges what
they make and read. The rules are the library's that :mod:`mksfilter.proxy.console.handshake` uses
too. Its client object serves whole connections, of which only the handshake is needed here; it
takes longer than all other Python code of a dial.
"""

from __future__ import annotations

import binascii
import functools
import os
import re
from typing import Final

import gevent.socket
from websockets.exceptions import InvalidHeader
from websockets.headers import build_host, parse_connection, parse_upgrade
from websockets.utils import accept_key

from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import BackendError, RequestError, TicketRefused, UpstreamRefused
from mksfilter.proxy import http_head
from mksfilter.proxy.relay.transport import PlainTransport, Upstream
from mksfilter.proxy.upstream import tls
from mksfilter.proxy.upstream.groups import Groups

__all__ = ["MAX_RESPONSE", "SUBPROTOCOL", "check", "open_console", "request", "status"]

#: ESXi requires exactly this subprotocol.
SUBPROTOCOL: Final = "binary"
#: Bytes of response header that a console host may send.
MAX_RESPONSE: Final = 16 * 1024

_READ: Final = 4096
# It parses an address anew each time.
_host: Final = functools.lru_cache(maxsize=4096)(build_host)
_RESOURCE: Final = re.compile(r"/[!-~]*")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")


def open_console(
    sock: gevent.socket.socket, endpoint: Endpoint, name: str, groups: Groups
) -> Upstream:
    """Ask for the console with the ticket in its URL.

    :param sock: connected to the host; its deadline is the caller's business.
    :param name: of the console host, for errors.
    :param groups: tells which it is offered.
    :raises TicketRefused: the host does not know the ticket, or not any more.
    :raises UpstreamRefused: it does not open a WebSocket.
    :raises CertificateMismatch: the certificate is not the one pinned.
    :raises NoCommonGroup: the host may agree to no group that it was offered.
    :raises OSError: the connection is lost, or TLS failed.
    """
    if not endpoint.tls:
        early = _exchange(sock, endpoint, name)
        return Upstream(PlainTransport(sock), early, "websocket")
    offered = groups.offered_to(endpoint)
    stream = tls.handshake(sock, endpoint, name, endpoint.digests, groups=offered)
    early = _exchange(stream, endpoint, name) + stream.unread()
    tls.remember_session(stream, endpoint)
    return Upstream(stream.detach_transport(), early, "websocket")


def request(host: str, port: int, resource: str, *, secure: bool) -> tuple[str, bytes]:
    """A request for *resource*, which is a path and a query that hold nothing but ASCII.

    :param secure: it goes over TLS.
    :returns: its key, by which :func:`check` knows the answer, and its bytes.
    """
    key = binascii.b2a_base64(os.urandom(16), newline=False).decode("ascii")
    lines = (
        f"GET {resource} HTTP/1.1",
        f"Host: {_host(host, port, secure)}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
        "\r\n",
    )
    return key, "\r\n".join(lines).encode("ascii")


def status(answer: bytes) -> int:
    """The status of an answer whose head is whole.

    :raises UpstreamRefused: it is no HTTP/1.1.
    """
    match = _STATUS_LINE.fullmatch(answer.partition(b"\r\n")[0])
    if match is None:
        raise UpstreamRefused("no HTTP/1.1 status line")
    return int(match[1])


def check(answer: bytes, key: str) -> None:
    """Check the headers of a ``101``.

    :param answer: from its status line to its empty line.
    :raises UpstreamRefused: it does not accept the request with this *key*, or accepts what was not
        asked for.
    """
    sent: dict[bytes, list[str]] = {}
    try:
        for name, value in http_head.fields(answer.partition(b"\r\n")[2]):
            sent.setdefault(name.lower(), []).append(value.decode("latin-1"))
        options: list[str] = []
        for each in sent.get(b"connection", ()):
            options += http_head.elements(each) or parse_connection(each)
        upgrades: list[str] = []
        for each in sent.get(b"upgrade", ()):
            upgrades += http_head.elements(each) or parse_upgrade(each)
    except (RequestError, InvalidHeader):
        # The library's message quotes the header, in which a host may repeat what it was asked for.
        raise UpstreamRefused("malformed headers") from None
    if "upgrade" not in map(str.lower, options):
        raise UpstreamRefused("the Connection header lacks 'Upgrade'")
    if [*map(str.lower, upgrades)] != ["websocket"]:
        raise UpstreamRefused("no upgrade to websocket")
    if sent.get(b"sec-websocket-accept") != [accept_key(key)]:
        raise UpstreamRefused("Sec-WebSocket-Accept is not the answer to this request's key")
    if b"sec-websocket-extensions" in sent:
        raise UpstreamRefused("an extension that was not asked for")
    if sent.get(b"sec-websocket-protocol", [SUBPROTOCOL]) != [SUBPROTOCOL]:
        raise UpstreamRefused("a subprotocol that was not asked for")


def _exchange(stream: tls.Stream, endpoint: Endpoint, name: str) -> bytes:
    """Send the request and read the answer.

    :returns: what followed the answer.
    """
    if not (_RESOURCE.fullmatch(endpoint.resource) and endpoint.host.isascii()):
        raise TicketRefused(
            f"{name}: the console's URL holds characters that no URL has (a name with others than "
            f"ASCII is written in its xn-- form)"
        )
    key, asked = request(endpoint.host, endpoint.port, endpoint.resource, secure=endpoint.tls)
    stream.sendall(asked)
    answer = b""
    while (end := answer.find(b"\r\n\r\n") + 4) < 4:
        if len(answer) > MAX_RESPONSE:
            raise UpstreamRefused(f"{name}: response header of more than {MAX_RESPONSE} bytes")
        data = stream.recv(_READ)
        if not data:
            raise UpstreamRefused(f"{name}: closed the connection instead of opening a WebSocket")
        answer += data
    try:
        code = status(answer)
        if code == 101:
            check(answer[:end], key)
            return answer[end:]
    except UpstreamRefused as exc:
        raise UpstreamRefused(f"{name}: not a WebSocket handshake: {exc}") from None
    raise _refusal(name, code)


def _refusal(name: str, code: int) -> BackendError:
    if code in (401, 403, 404, 410):
        return TicketRefused(
            f"{name}: HTTP status {code}: the console ticket is used up, too old or not for it"
        )
    return UpstreamRefused(f"{name}: HTTP status {code} instead of a WebSocket")
