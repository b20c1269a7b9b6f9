"""Consoles that misbehave, for tests of the client: what a proxy must survive.

Faults of the opening handshake are those whose name :func:`spoil` knows, the others follow it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, MutableMapping

import gevent
from websockets.http11 import Request

from mksfilter.simulator.esxi.stream import WebSocketStream
from mksfilter.simulator.screen.rfb import VERSION

__all__ = ["misbehave", "spoil"]

_Headers = MutableMapping[str, str]

_JUNK = bytes(65536)
_POLL = 0.05


def _bad_accept(headers: _Headers) -> None:
    headers["Sec-WebSocket-Accept"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="


def _other_subprotocol(headers: _Headers) -> None:
    headers["Sec-WebSocket-Protocol"] = "vmware-vvc"


_SPOILERS: dict[str, Callable[[_Headers], None]] = {
    "bad-accept": _bad_accept,
    "other-subprotocol": _other_subprotocol,
}


def spoil(kind: str, stream: WebSocketStream, request: Request) -> bool:
    """Break the opening handshake, when *kind* says so.

    :returns: whether it was broken; then the request is answered already.
    """
    if kind == "redirect":
        stream.reject(302, Location="https://127.0.0.1:9/ticket/elsewhere")
        return True
    if kind in _SPOILERS:
        # The headers are made before they are spoilt, so set them anew.
        stream.accept(request, "binary", lambda headers: _replace(headers, _SPOILERS[kind]))
        while stream.recv():
            pass
        stream.close()
        return True
    return False


def _replace(headers: _Headers, edit: Callable[[_Headers], None]) -> None:
    wanted: dict[str, str] = {}
    edit(wanted)
    for name, value in wanted.items():
        del headers[name]
        headers[name] = value


def misbehave(kind: str, stream: WebSocketStream) -> None:
    """Send what no host would, then read until the client has had enough.

    ``masked``: a masked frame. ``rsv``: reserved bits set. ``huge``: a frame that says it is
    2^63 bytes long. ``text``: a text frame. ``long-control``: a ping of 126 bytes. ``reason``: an
    RFB failure whose reason is said to be 4 GiB long (Launchpad 2155052), and junk without end.
    ``deaf``: nothing bad at all, but it never reads.
    """
    binary = struct.pack(">BB", 0x82, len(VERSION)) + VERSION
    if kind == "masked":
        stream.send_raw(struct.pack(">BB4x", 0x82, 0x80 | len(VERSION)) + VERSION)
    elif kind == "rsv":
        stream.send_raw(struct.pack(">BB", 0xC2, len(VERSION)) + VERSION)
    elif kind == "huge":
        stream.send_raw(struct.pack(">BBQ", 0x82, 127, 1 << 63) + _JUNK)
    elif kind == "text":
        stream.send_raw(binary + struct.pack(">BB", 0x81, 5) + b"hello")
    elif kind == "long-control":
        stream.send_raw(binary + struct.pack(">BBH", 0x89, 126, 126) + bytes(126))
    elif kind == "reason":
        stream.send(VERSION)
        stream.recv()
        stream.send(b"\x00" + struct.pack(">I", 0xFFFFFFFF))
        while True:
            stream.send(_JUNK)
    elif kind == "deaf":
        stream.send(VERSION)
        while stream.socket.fileno() >= 0:
            gevent.sleep(_POLL)
    while stream.recv():
        pass
