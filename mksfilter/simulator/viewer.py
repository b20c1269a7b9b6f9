"""A small VNC viewer over a WebSocket: what a browser would see, for the demo and for tests.

RFB 3.8 with security type None (RFC 6143), Raw encoding, 32 bits per pixel.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urljoin, urlsplit, urlunsplit

import websockets.exceptions
import websockets.sync.client

from mksfilter.exceptions import OperationError

if TYPE_CHECKING:
    import ssl

    from PIL.Image import Image

__all__ = ["Viewer", "ViewerError", "socket_url"]

# RFC 6143 section 7.4: 32 bits, depth 24, little-endian, true colour, 8 bits each at 16, 8, 0.
PIXEL_FORMAT = struct.pack("!BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
RAW = 0
KEYSYMS = {"\n": 0xFF0D, "\b": 0xFF08, "\t": 0xFF09}
SHIFT, SHIFTED = 0xFFE1, '~!@#$%^&*()_+{}|:"<>?'


class ViewerError(OperationError):
    """The other side is not the RFB server this viewer understands; one line says why."""


def socket_url(page_url: str) -> tuple[str, str]:
    """The WebSocket URL and the token that a console page's URL stands for."""
    parts = urlsplit(page_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    tokens = parse_qs(parts.query).get("token", [])
    if not tokens:
        raise ViewerError(f"no token in the query of {parts.scheme}://{parts.netloc}{parts.path}")
    path = urljoin(parts.path or "/", "websockify")
    return urlunsplit((scheme, parts.netloc, path, "", "")), tokens[-1]


class Viewer:
    """An open console; a context manager.

    :param url: ``ws://`` or ``wss://`` URL.
    :param subprotocols: offered in this order.
    :param origin: value of the Origin header, as a browser would send it.
    :param timeout: seconds for each step.
    """

    def __init__(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = ("binary",),
        origin: str | None = None,
        timeout: float = 15.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = timeout
        self._buffer = bytearray()
        self.notes: list[str] = []
        with contextlib.ExitStack() as stack:
            self._socket = stack.enter_context(
                websockets.sync.client.connect(
                    url,
                    subprotocols=[websockets.Subprotocol(name) for name in subprotocols],
                    origin=websockets.Origin(origin) if origin else None,
                    open_timeout=timeout,
                    compression=None,
                    max_size=None,
                    ssl=ssl_context,
                    proxy=None,
                )
            )
            self.subprotocol = self._socket.subprotocol
            self.width, self.height, self.name = self._handshake()
            self._stack = stack.pop_all()

    @classmethod
    def open_page(cls, page_url: str, *, timeout: float = 15.0) -> Viewer:
        """Connect as the console page at *page_url* would, without its control channel."""
        url, token = socket_url(page_url)
        parts = urlsplit(page_url)
        return cls(
            url,
            subprotocols=("binary", f"mks.token.{token}"),
            origin=f"{parts.scheme}://{parts.netloc}",
            timeout=timeout,
        )

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the WebSocket."""
        self._stack.close()

    @property
    def close_code(self) -> int | None:
        """The peer's close code once the connection is closed (RFC 6455 section 7.1.5)."""
        return self._socket.close_code

    def framebuffer(self) -> Image:
        """One whole framebuffer, asked for and received."""
        from PIL import Image

        self._send(struct.pack("!BBHHHH", 3, 0, 0, 0, self.width, self.height))
        image = Image.new("RGB", (self.width, self.height))
        missing = self.width * self.height
        while missing > 0:
            for x, y, width, height, pixels in self._update():
                part = Image.frombytes("RGB", (width, height), pixels, "raw", "BGRX")
                image.paste(part, (x, y))
                missing -= width * height
        return image

    def type(self, text: str) -> None:
        """Press and release the keys of each character, as on a US keyboard (RFC 6143, 7.5.4)."""
        for char in text:
            keys = [KEYSYMS.get(char, ord(char))]
            if char.isupper() or char in SHIFTED:
                keys.insert(0, SHIFT)
            for key in keys:
                self._key(key, down=True)
            for key in reversed(keys):
                self._key(key, down=False)

    def _key(self, keysym: int, *, down: bool) -> None:
        self._send(struct.pack("!BBxxI", 4, down, keysym))

    def listen(self, seconds: float) -> None:
        """Take the next message that comes within so many seconds, if one does."""
        with contextlib.suppress(TimeoutError):
            self._take(seconds)

    def until_closed(self) -> int | None:
        """Read whatever comes until the peer closes; its close code."""
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            while True:
                self._buffer.clear()
                self._read(1)
        return self.close_code

    def _handshake(self) -> tuple[int, int, str]:
        version = self._read(12)
        if not version.startswith(b"RFB 003."):
            raise ViewerError(f"expected an RFB version, got {version[:12]!r}")
        self._send(b"RFB 003.008\n")
        count = self._read(1)[0]
        if count == 0:
            length = struct.unpack("!I", self._read(4))[0]
            raise ViewerError(f"refused: {self._read(min(length, 200))!r}")
        kinds = self._read(count)
        if 1 not in kinds:
            raise ViewerError(f"security types offered: {list(kinds)}; None (1) is needed")
        self._send(b"\x01")
        if self._read(4) != b"\0\0\0\0":
            raise ViewerError("the security handshake failed")
        self._send(b"\x01")  # ClientInit: shared
        width, height = struct.unpack("!HH16x", self._read(20))
        name = self._read(struct.unpack("!I", self._read(4))[0]).decode("utf-8", "replace")
        self._send(b"\0\0\0\0" + PIXEL_FORMAT)
        self._send(struct.pack("!BxHi", 2, 1, RAW))
        return width, height, name

    def _update(self) -> list[tuple[int, int, int, int, bytes]]:
        while True:
            kind = self._read(1)[0]
            if kind == 0:
                break
            if kind == 3:  # ServerCutText
                self._read(struct.unpack("!3xI", self._read(7))[0])
            elif kind != 2:  # Bell
                raise ViewerError(f"unexpected RFB message {kind}")
        rectangles = []
        for _ in range(struct.unpack("!xH", self._read(3))[0]):
            x, y, width, height, encoding = struct.unpack("!HHHHi", self._read(12))
            if encoding != RAW:
                raise ViewerError(f"encoding {encoding} was not asked for")
            rectangles.append((x, y, width, height, self._read(width * height * 4)))
        return rectangles

    def _send(self, data: bytes) -> None:
        self._socket.send(data)

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._take(self._timeout)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _take(self, seconds: float) -> None:
        message = self._socket.recv(timeout=seconds)
        if isinstance(message, str):
            self.notes.append(message)
        else:
            self._buffer += message
