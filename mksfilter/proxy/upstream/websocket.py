"""The WebSocket opening handshake towards a console host (RFC 6455 section 4.1). No I/O.

The rules are the library's that :mod:`mksfilter.proxy.console.handshake` uses too. Its client
object serves whole connections, of which only the handshake is needed here; it takes longer than
all other Python code of a dial.
"""

from __future__ import annotations

import re
from typing import Final

from websockets.exceptions import InvalidHeader
from websockets.headers import build_host, parse_connection, parse_upgrade
from websockets.utils import accept_key, generate_key

from mksfilter.proxy import http_head

__all__ = ["SUBPROTOCOL", "AnswerError", "check", "request", "status"]

#: ESXi speaks to nobody who does not offer this, and something else to who offers more.
SUBPROTOCOL: Final = "binary"

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")


class AnswerError(ValueError):
    """What came is not the answer of a WebSocket server to this request."""


def request(host: str, port: int, resource: str, *, tls: bool) -> tuple[str, bytes]:
    """A request for *resource*, which is a path and a query that hold nothing but ASCII.

    :returns: its key, by which :func:`check` knows the answer, and its bytes.
    """
    key = generate_key()
    lines = (
        f"GET {resource} HTTP/1.1",
        f"Host: {build_host(host, port, tls)}",
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

    :raises AnswerError: it is no HTTP/1.1.
    """
    match = _STATUS_LINE.fullmatch(answer.partition(b"\r\n")[0])
    if match is None:
        raise AnswerError("no HTTP/1.1 status line")
    return int(match[1])


def check(answer: bytes, key: str) -> None:
    """Check the headers of a ``101``.

    :param answer: from its status line to its empty line.
    :raises AnswerError: it does not accept the request with this *key*, or accepts what was not
        asked for.
    """
    sent: dict[bytes, list[str]] = {}
    try:
        for name, value in http_head.fields(answer.partition(b"\r\n")[2]):
            sent.setdefault(name.lower(), []).append(value.decode("latin-1"))
        options = [word for each in sent.get(b"connection", ()) for word in parse_connection(each)]
        upgrades = [name for each in sent.get(b"upgrade", ()) for name in parse_upgrade(each)]
    except (http_head.HeadError, InvalidHeader):
        # The library's message quotes the header, in which a host may repeat what it was asked for.
        raise AnswerError("malformed headers") from None
    if "upgrade" not in [option.lower() for option in options]:
        raise AnswerError("the Connection header lacks 'Upgrade'")
    if [name.lower() for name in upgrades] != ["websocket"]:
        raise AnswerError("no upgrade to websocket")
    if sent.get(b"sec-websocket-accept") != [accept_key(key)]:
        raise AnswerError("Sec-WebSocket-Accept is not the answer to this request's key")
    if b"sec-websocket-extensions" in sent:
        raise AnswerError("an extension that was not asked for")
    if sent.get(b"sec-websocket-protocol", [SUBPROTOCOL]) != [SUBPROTOCOL]:
        raise AnswerError("a subprotocol that was not asked for")
