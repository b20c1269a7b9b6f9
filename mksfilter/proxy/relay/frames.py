"""Where WebSocket frames begin and end in a stream that is passed on as it is (RFC 6455 section 5).

A tracker reads headers and skips payloads by arithmetic, so that megabytes cost it a subtraction.
No byte of a frame passes before the frame's header was found valid, and control frames pass only
when they are whole: what a receiver gets is a stream without violations, up to where it ends.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.utils import apply_mask

__all__ = [
    "BINARY",
    "CLOSE",
    "GAP",
    "MAX_HEADER",
    "PING",
    "PONG",
    "TEXT",
    "ControlFrame",
    "FrameTracker",
    "Gap",
    "Piece",
    "Violation",
    "close_frame",
    "first_payload",
    "frame",
    "server_header",
]

TEXT, BINARY = int(Opcode.TEXT), int(Opcode.BINARY)
CLOSE, PING, PONG = int(Opcode.CLOSE), int(Opcode.PING), int(Opcode.PONG)

MAX_HEADER: Final = 14
_MANY_FRAMES: Final = 4096
_MAX_LENGTH: Final = (1 << 63) - 1

_two_words = Struct("!HH").unpack_from
_long_header = Struct("!HQ")
_short_header = Struct("!HH")


class ControlFrame(NamedTuple):
    """A whole ping, pong or close frame, or a short text message that is for us.

    :param payload: at most 125 bytes, the mask undone.
    :param raw: the frame as it came, to be passed on.
    :param code: for a close frame with a code, that code; 1005 for one without.
    """

    opcode: int
    payload: bytes
    raw: bytes
    code: int = 0


class Violation(NamedTuple):
    """The stream breaks RFC 6455 here; nothing after it counts.

    :param code: the close code that names it (section 7.4.1): 1002, 1003, 1007 or 1009.
    """

    code: int
    text: str


class Gap:
    """A place between two frames, where one of ours may stand."""


GAP: Final = Gap()

Piece: TypeAlias = "memoryview | bytes | ControlFrame | Violation | Gap"


class FrameTracker:
    """Follows the frames of one direction of one connection.

    :param masked: True for frames from a client, which must be masked; False for a server's, which
        must not be (section 5.1).
    :param text: whether text messages are allowed; 1003 otherwise.
    :param asides: whether text messages of one frame of at most 125 bytes are taken out whole, as
        control frames are; other text is 1003 then.
    :param max_frame: greatest payload length allowed, in bytes; 1009 beyond it.
    :ivar flooded: one call brought thousands of frames that are no whole messages, which no console
        does. Each takes a microsecond, so from then on the caller feeds small portions.
    """

    __slots__ = (
        "_asides",
        "_base",
        "_closed",
        "_extra",
        "_fragmented",
        "_gap",
        "_held",
        "_left",
        "_max_frame",
        "_slow",
        "_text",
        "flooded",
    )

    def __init__(
        self,
        *,
        masked: bool,
        text: bool = True,
        asides: bool = False,
        max_frame: int = _MAX_LENGTH,
    ) -> None:
        # First two bytes of a whole binary message without length, and bytes of mask key.
        self._base = 0x8280 if masked else 0x8200
        self._extra = 4 if masked else 0
        self._text = text
        self._asides = asides
        self._max_frame = max_frame
        self._left = 0
        self._held = b""
        self._fragmented = False
        self._gap = 0
        self._closed = False
        self._slow = max_frame < 0xFFFF
        self.flooded = False

    @property
    def between_frames(self) -> bool:
        """Whether what passed so far ends with a frame: a control frame of ours may follow."""
        return self._left == 0

    @property
    def between_messages(self) -> bool:
        """Whether what passed so far ends with a message: a data frame of ours may follow."""
        return self._left == 0 and not self._fragmented

    @property
    def closed(self) -> bool:
        """Whether a close frame or a violation has ended the stream."""
        return self._closed

    def want_gap(self, *, message: bool) -> None:
        """Ask :meth:`feed` to mark the next place between frames (or between messages)."""
        self._gap = 2 if message or self._gap == 2 else 1
        self._slow = True

    def feed(self, data: bytearray | bytes | memoryview, size: int) -> list[Piece] | None:
        """Take the next *size* bytes, which stand at the start of *data*.

        :returns: None when all of them pass on as they are, which is the common case. Otherwise
            pieces in their order: bytes to pass on (views of *data*, or bytes kept from an earlier
            call), control frames, at most one :data:`GAP`, at most one :class:`Violation`, which
            is then the last. What is missing is kept until its frame is known to be valid: at most
            13 bytes of a header, or 130 of a control frame.
        """
        position = self._left
        if size < position:
            self._left = position - size
            return None
        if self._slow:
            return self._sort(data, size, position)
        # Whole binary messages of less than 64 KiB, which is what consoles send, one after another.
        base = self._base
        extra = self._extra
        last = size - 4
        while position <= last:
            head, length = _two_words(data, position)
            short = head - base
            if short == 126 and length > 125:
                position += 4 + extra + length
            elif 0 <= short < 126:
                position += 2 + extra + short
            else:
                return self._sort(data, size, position)
        if position < size:
            return self._sort(data, size, position)
        self._left = position - size
        return None

    def _sort(
        self, data: bytearray | bytes | memoryview, size: int, position: int
    ) -> list[Piece] | None:
        """The general case; *position* is where the next frame begins."""
        if self._closed:
            return []
        pieces: list[Piece] = []
        whole = True
        if self._held:
            data = self._held + bytes(memoryview(data)[:size])
            size = len(data)
            self._held = b""
            whole = False
        view = memoryview(data)
        start = 0
        frames = 0
        while position < size:
            frames += 1
            if self._gap and (self._gap == 1 or not self._fragmented):
                if position > start:
                    pieces.append(view[start:position])
                    start = position
                pieces.append(GAP)
                self._gap = 0
                whole = False
            found = self._header(view[position : min(size, position + MAX_HEADER)])
            if isinstance(found, Violation):
                pieces.append(view[start:position])
                pieces.append(found)
                self._closed = True
                break
            header, length = found
            opcode = data[position] & 0x0F
            if header and opcode < 8 and not (self._asides and opcode == TEXT):
                self._fragmented = not data[position] & 0x80
                position += header + length
                continue
            end = position + header + length
            if position > start:
                pieces.append(view[start:position])
            whole = False
            if not header or end > size:
                self._held = bytes(view[position:size])
                start = position = size
                break
            control = self._control(opcode, bytes(view[position:end]), header)
            pieces.append(control)
            start = position = end
            if isinstance(control, Violation) or opcode == CLOSE:
                self._closed = True
                break
        self._left = 0 if self._closed else position - size
        if frames > _MANY_FRAMES:
            self.flooded = True
        if start < size and not self._closed and not whole:
            pieces.append(view[start:size])
        if (
            self._gap
            and not (self._left or self._closed)
            and (self._gap == 1 or not self._fragmented)
        ):
            if whole:
                pieces.append(view[:size])
                whole = False
            pieces.append(GAP)
            self._gap = 0
        self._slow = (
            self._closed
            or self._fragmented
            or bool(self._gap or self._held)
            or self._max_frame < 0xFFFF
        )
        if whole and not self._closed:
            return None
        return [piece for piece in pieces if not isinstance(piece, memoryview) or piece.nbytes]

    def _header(self, data: memoryview) -> tuple[int, int] | Violation:
        """Judge the start of a frame as far as it is there.

        :returns: length of the header with its mask key, and of the payload; both 0 while the
            lengths are not yet known.
        """
        first = data[0]
        opcode = first & 0x0F
        if first & 0x70:
            return Violation(1002, "reserved bits are set")
        if opcode > 10 or 2 < opcode < 8:
            return Violation(1002, "unknown opcode")
        if opcode >= 8:
            if not first & 0x80:
                return Violation(1002, "fragmented control frame")
        elif opcode == 0:
            if not self._fragmented:
                return Violation(1002, "continuation of nothing")
        elif self._fragmented:
            return Violation(1002, "message begins within another")
        elif opcode == TEXT and not (self._text or (self._asides and first & 0x80)):
            return Violation(1003, "text message")
        size = len(data)
        if size < 2:
            return 0, 0
        second = data[1]
        if second & 0x80 != self._base & 0x80:
            return Violation(1002, "unmasked" if self._extra else "masked")
        length = second & 0x7F
        if opcode >= 8 and length > 125:
            return Violation(1002, "control frame longer than 125 bytes")
        if opcode == TEXT and self._asides and length > 125:
            return Violation(1003, "text message")
        header = 2
        if length == 126:
            if size < 4:
                return 0, 0
            header = 4
            length = int.from_bytes(data[2:4], "big")
            if length < 126:
                return Violation(1002, "length not in its shortest form")
        elif length == 127:
            if size < 10:
                return 0, 0
            header = 10
            length = int.from_bytes(data[2:10], "big")
            if length < 0x10000:
                return Violation(1002, "length not in its shortest form")
            if length > _MAX_LENGTH:
                return Violation(1002, "length of 2^63 or more")
        if length > self._max_frame:
            return Violation(1009, f"frame of {length} bytes")
        return header + self._extra, length

    def _control(self, opcode: int, raw: bytes, header: int) -> ControlFrame | Violation:
        payload = raw[header:]
        if self._extra:
            payload = apply_mask(payload, raw[header - 4 : header])
        if opcode != CLOSE:
            return ControlFrame(opcode, payload, raw)
        try:
            return ControlFrame(opcode, payload, raw, int(Close.parse(payload).code))
        except UnicodeDecodeError:
            return Violation(1007, "close reason is not UTF-8")
        except ProtocolError as exc:
            return Violation(1002, str(exc))


def frame(opcode: int, payload: bytes, *, masked: bool) -> bytes:
    """One whole frame; *masked* with a fresh random key for frames that we send as a client."""
    return Frame(Opcode(opcode), payload).serialize(mask=masked)


def close_frame(code: int, reason: str = "", *, masked: bool) -> bytes:
    """A close frame; 1005, which must not be on the wire (section 7.4.1), gives one without code.

    :param reason: cut to 123 bytes of UTF-8.
    """
    if code == 1005:
        return frame(CLOSE, b"", masked=masked)
    text = reason.encode("utf-8")[:123].decode("utf-8", "ignore")
    return frame(CLOSE, Close(code, text).serialize(), masked=masked)


def server_header(length: int) -> bytes:
    """The header of an unmasked binary message of *length* bytes."""
    if length < 126:
        return bytes((0x82, length))
    if length < 0x10000:
        return _short_header.pack(0x827E, length)
    return _long_header.pack(0x827F, length)


def first_payload(stream: bytes, size: int) -> bytes:
    """The first *size* bytes of payload in a server's *stream* of valid data frames, or fewer."""
    payload = b""
    position = 0
    while position + 2 <= len(stream) and len(payload) < size:
        length = stream[position + 1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        start = position + 2 + extended
        if extended:
            if start > len(stream):
                break
            length = int.from_bytes(stream[position + 2 : start], "big")
        payload += stream[start : min(start + length, start + size - len(payload))]
        position = start + length
    return payload
