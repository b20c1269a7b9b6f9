"""What stands at either end of a relay: sends frames of its role, and reads what it is told."""

from __future__ import annotations

import abc
import json

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from mksfilter.proxy.relay.frames import BINARY, PING, PONG, TEXT, close_frame, frame

__all__ = ["End"]


class End(abc.ABC):
    """One end; what it hears is read by wsproto, which fails the test on a broken stream.

    :param client: whether it is the browser, whose frames are masked.
    """

    def __init__(self, *, client: bool) -> None:
        self.client = client
        self._wsproto = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self.data = b""
        self.messages: list[bytes] = []
        self.texts: list[dict] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.close: tuple[int, str] | None = None
        self._parts: list[bytes] = []
        self._text = ""

    # sending

    @abc.abstractmethod
    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""

    @abc.abstractmethod
    def hang_up(self) -> None:
        """Close the connection without a word."""

    def send(self, payload: bytes) -> None:
        self.send_raw(frame(BINARY, payload, masked=self.client))

    def send_text(self, text: str) -> None:
        self.send_raw(frame(TEXT, text.encode(), masked=self.client))

    def send_ping(self, payload: bytes) -> None:
        self.send_raw(frame(PING, payload, masked=self.client))

    def send_pong(self, payload: bytes) -> None:
        self.send_raw(frame(PONG, payload, masked=self.client))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.send_raw(close_frame(code, reason, masked=self.client))

    # receiving

    def hear(self, data: bytes) -> None:
        """Read *data* of a WebSocket."""
        self._wsproto.receive_data(data)
        for event in self._wsproto.events():
            if isinstance(event, BytesMessage):
                self.data += event.data
                self._parts.append(bytes(event.data))
                if event.message_finished:
                    self.messages.append(b"".join(self._parts))
                    self._parts = []
            elif isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self.texts.append(json.loads(self._text))
                    self._text = ""
            elif isinstance(event, Ping):
                self.pings.append(bytes(event.payload))
            elif isinstance(event, Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                violated = self._wsproto.state is ConnectionState.OPEN
                bad_gateway = data.rfind(b"\x03\xf6")
                if violated and bad_gateway >= 0:
                    # 1014 was registered after wsproto's last look at the list.
                    self.close = (1014, data[bad_gateway + 2 :].decode())
                    return
                assert not violated, f"the relay broke the protocol: {event.reason}"
                self.close = (event.code, event.reason or "")
