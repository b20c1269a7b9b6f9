"""RFB 3.8 from the server's side: messages in, messages out. No I/O, no pixels.

Source: RFC 6143, and the rfbproto community specification for TightPNG. VMware's messages, of
type 127, are not published; what is known of them was read in VMware's own client.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Generator
from typing import TypeAlias

__all__ = [
    "ENCODING_RAW",
    "ENCODING_TIGHT_PNG",
    "ENCODING_VMWARE_CAPABILITIES",
    "ENCODING_VMWARE_LIGHTS",
    "SECURITY_NONE",
    "SECURITY_RESULT_OK",
    "VERSION",
    "Event",
    "KeyEvent",
    "PixelFormat",
    "RFBError",
    "RFBReader",
    "Rectangle",
    "ScanCode",
    "SetEncodings",
    "UpdateRequest",
    "lights_rectangle",
    "png_rectangle",
    "raw_rectangle",
    "server_init",
    "update_header",
    "vmware_capabilities",
]

VERSION = b"RFB 003.008\n"
SECURITY_NONE = b"\x01\x01"
SECURITY_RESULT_OK = bytes(4)
ENCODING_RAW = 0
ENCODING_TIGHT_PNG = -260
#: By these a client asks which of VMware's messages the host takes, and for the keyboard's lights.
ENCODING_VMWARE_CAPABILITIES = 0x574D567A
ENCODING_VMWARE_LIGHTS = 0x574D5668

_VMWARE = 127
_VMWARE_CAPABILITIES = _VMWARE_KEY = 0
_CAPABILITY_KEYS = 2

_MAX_CUT_TEXT = 1 << 20


class RFBError(ValueError):
    """The client broke RFB, or asks for something this server does not have."""


@dataclasses.dataclass(frozen=True)
class PixelFormat:
    """RFC 6143 section 7.4, true colour with 8 bits a channel in 32."""

    big_endian: bool = False
    red_shift: int = 16
    green_shift: int = 8
    blue_shift: int = 0

    def pack(self) -> bytes:
        shifts = (self.red_shift, self.green_shift, self.blue_shift)
        return struct.pack(">4B3H3B3x", 32, 24, self.big_endian, 1, 255, 255, 255, *shifts)

    @classmethod
    def unpack(cls, data: bytes) -> PixelFormat:
        """Read a client's wish.

        :raises RFBError: it is not 32 bits of true colour with 8 bits a channel.
        """
        bits, _, big_endian, true_colour, *rest = struct.unpack(">4B3H3B3x", data)
        maxima, shifts = rest[:3], rest[3:]
        if bits != 32 or not true_colour or maxima != [255] * 3 or any(s % 8 for s in shifts):
            raise RFBError("this screen has 32 bits of true colour only")
        return cls(bool(big_endian), *shifts)

    @property
    def channels(self) -> str:
        """The order of a pixel's four bytes, such as ``BGRX``."""
        order = ["X"] * 4
        for name, shift in zip(
            "RGB", (self.red_shift, self.green_shift, self.blue_shift), strict=True
        ):
            position = shift // 8
            order[3 - position if self.big_endian else position] = name
        return "".join(order)


@dataclasses.dataclass(frozen=True)
class Rectangle:
    """A part of the screen, in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class SetEncodings:
    encodings: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class UpdateRequest:
    incremental: bool
    area: Rectangle


@dataclasses.dataclass(frozen=True)
class KeyEvent:
    down: bool
    keysym: int


@dataclasses.dataclass(frozen=True)
class ScanCode:
    """VMware's key message. ``code`` is of set 1; bit 8 stands for the prefix E0."""

    down: bool
    code: int


Event: TypeAlias = PixelFormat | SetEncodings | UpdateRequest | KeyEvent | ScanCode


class RFBReader:
    """What a client sends, as events.

    :param handshake: whether version, security type and ClientInit come first. After the version
        and after the security type the caller has to answer: :attr:`replies` collects what.
    """

    def __init__(self, *, handshake: bool = True) -> None:
        self.replies: list[bytes] = []
        self.ready = not handshake
        self._buffer = bytearray()
        self._events: list[Event] = []
        self._parser = self._parse(handshake)
        self._wanted = next(self._parser)

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes and return the events that they complete.

        :raises RFBError: the client broke the protocol.
        """
        self._buffer += data
        while len(self._buffer) >= self._wanted:
            piece = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            self._wanted = self._parser.send(piece)
        events, self._events = self._events, []
        return events

    def _parse(self, handshake: bool) -> Generator[int, bytes, None]:
        if handshake:
            if (yield 12) != VERSION:
                raise RFBError("the client does not speak RFB 3.8")
            self.replies.append(SECURITY_NONE)
            if (yield 1) != b"\x01":
                raise RFBError("the client chose a security type that was not offered")
            self.replies.append(SECURITY_RESULT_OK)
            yield 1  # ClientInit: every screen is shared
            self.ready = True
        while True:
            kind = (yield 1)[0]
            if kind == 0:
                self._events.append(PixelFormat.unpack((yield 19)[3:]))
            elif kind == 2:
                (count,) = struct.unpack(">xH", (yield 3))
                encodings = struct.unpack(f">{count}i", (yield 4 * count)) if count else ()
                self._events.append(SetEncodings(encodings))
            elif kind == 3:
                incremental, *area = struct.unpack(">B4H", (yield 9))
                self._events.append(UpdateRequest(bool(incremental), Rectangle(*area)))
            elif kind == 4:
                down, keysym = struct.unpack(">B2xI", (yield 7))
                self._events.append(KeyEvent(bool(down), keysym))
            elif kind == 5:
                yield 5  # PointerEvent: a text console has no use for it
            elif kind == 6:
                (length,) = struct.unpack(">3xi", (yield 7))
                if abs(length) > _MAX_CUT_TEXT:  # negative: the extended clipboard
                    raise RFBError("the clipboard is too long")
                if length:
                    yield abs(length)
            elif kind == _VMWARE:
                # VMware's own messages: type, sub-type, whole length.
                subtype, length = struct.unpack(">BH", (yield 3))
                body = (yield length - 4) if length > 4 else b""
                if subtype == _VMWARE_KEY and len(body) == 4:
                    code, down = struct.unpack(">HBx", body)
                    self._events.append(ScanCode(bool(down), code))
            else:
                raise RFBError(f"unknown message type {kind}")


def server_init(width: int, height: int, name: str, pixels: PixelFormat) -> bytes:
    """ServerInit (RFC 6143 section 7.3.2)."""
    title = name.encode()
    return struct.pack(">HH", width, height) + pixels.pack() + struct.pack(">I", len(title)) + title


def update_header(rectangles: int) -> bytes:
    """The start of a FramebufferUpdate (RFC 6143 section 7.6.1)."""
    return struct.pack(">BxH", 0, rectangles)


def vmware_capabilities() -> bytes:
    """VMware's message that the host takes keys as scan codes."""
    return struct.pack(">BBHI", _VMWARE, _VMWARE_CAPABILITIES, 8, _CAPABILITY_KEYS)


def lights_rectangle(lights: int) -> bytes:
    """VMware's pseudo-rectangle of the keyboard's lights: Scroll 1, Num 2, Caps Lock 4."""
    return _rectangle(Rectangle(0, 0, 0, 0), ENCODING_VMWARE_LIGHTS) + struct.pack(">I", lights)


def raw_rectangle(area: Rectangle, pixels: bytes) -> bytes:
    """A rectangle in Raw encoding."""
    return _rectangle(area, ENCODING_RAW) + pixels


def png_rectangle(area: Rectangle, png: bytes) -> bytes:
    """A rectangle in TightPNG encoding, which Tight's compact length precedes."""
    length = len(png)
    compact = bytearray([length & 0x7F])
    if length > 0x7F:
        compact[0] |= 0x80
        compact.append(length >> 7 & 0x7F)
        if length > 0x3FFF:
            compact[1] |= 0x80
            compact.append(length >> 14 & 0xFF)
    return _rectangle(area, ENCODING_TIGHT_PNG) + b"\xa0" + compact + png


def _rectangle(area: Rectangle, encoding: int) -> bytes:
    return struct.pack(">4Hi", area.x, area.y, area.width, area.height, encoding)
