"""RFB 3.8 from the viewer's side, as little of it as the tests need."""

from __future__ import annotations

import struct

__all__ = ["Viewer", "handshake"]


def handshake(console):
    """Play version, security and ClientInit over a WebSocket, message by message."""
    assert console.recv(timeout=5) == b"RFB 003.008\n"
    console.send(b"RFB 003.008\n")
    assert console.recv(timeout=5) == b"\x01\x01"
    console.send(b"\x01")
    assert console.recv(timeout=5) == bytes(4)
    console.send(b"\x01")


class Viewer:
    """Reads a display stream from ServerInit on, whatever carries it.

    :param recv: returns the next bytes; :param send: sends some.
    """

    def __init__(self, recv, send):
        self._recv = recv
        self._send = send
        self._buffer = b""
        self.width, self.height, length = struct.unpack(">HH16xI", self.read(24))
        self.name = self.read(length).decode()

    @classmethod
    def of(cls, console):
        """After a whole handshake over a WebSocket."""
        handshake(console)
        return cls(lambda: console.recv(timeout=5), console.send)

    def read(self, count):
        while len(self._buffer) < count:
            piece = self._recv()
            assert piece, "the console ended"
            self._buffer += piece
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def encodings(self, *encodings):
        self._send(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))

    def pixel_format(self, pixels):
        self._send(b"\x00\x00\x00\x00" + pixels.pack())

    def request(self, *, incremental=False):
        self._send(struct.pack(">BB4H", 3, incremental, 0, 0, self.width, self.height))

    def type(self, text):
        for character in text:
            keysym = 0xFF0D if character == "\n" else ord(character)
            self._send(struct.pack(">BB2xI", 4, 1, keysym) + struct.pack(">BB2xI", 4, 0, keysym))

    def update(self):
        """The next update's one rectangle: ``(x, y, width, height), encoding, bytes``."""
        kind, count = struct.unpack(">BxH", self.read(4))
        assert (kind, count) == (0, 1)
        *area, encoding = struct.unpack(">4Hi", self.read(12))
        if encoding == 0:
            return tuple(area), encoding, self.read(area[2] * area[3] * 4)
        assert (encoding, self.read(1)) == (-260, b"\xa0")
        length = shift = 0
        while True:
            (byte,) = self.read(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 or shift > 14:
                break
        return tuple(area), encoding, self.read(length)
