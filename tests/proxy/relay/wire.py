"""Both ends of a relay, on socket pairs: what a browser and a console host would see of it."""

from __future__ import annotations

import json

import gevent
import gevent.socket
from gevent.event import AsyncResult
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from mksfilter.proxy.console import control_channel
from mksfilter.proxy.relay.driver import Relay, RelayOptions
from mksfilter.proxy.relay.frames import BINARY, PING, PONG, TEXT, close_frame, frame
from mksfilter.proxy.relay.transport import PlainTransport, Upstream

PATIENCE = 10


class Peer:
    """One end: sends frames of its role, and collects what it is told, as wsproto reads it."""

    def __init__(self, sock, *, client: bool) -> None:
        self.sock = sock
        self.client = client
        self._wsproto = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self.sock.settimeout(PATIENCE)
        self.data = b""
        self.messages: list[bytes] = []
        self.texts: list[dict] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.close: tuple[int, str] | None = None
        self.ended = False
        self._parts: list[bytes] = []

    # sending

    def send(self, payload: bytes) -> None:
        self.sock.sendall(frame(BINARY, payload, masked=self.client))

    def send_text(self, text: str) -> None:
        self.sock.sendall(frame(TEXT, text.encode(), masked=self.client))

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_ping(self, payload: bytes) -> None:
        self.sock.sendall(frame(PING, payload, masked=self.client))

    def send_pong(self, payload: bytes) -> None:
        self.sock.sendall(frame(PONG, payload, masked=self.client))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.sock.sendall(close_frame(code, reason, masked=self.client))

    def hang_up(self) -> None:
        self.sock.close()

    # receiving

    def step(self) -> None:
        """Wait for one read; fails the test when nothing comes."""
        data = self.sock.recv(65536)
        if not data:
            self.ended = True
            return
        self._wsproto.receive_data(data)
        for event in self._wsproto.events():
            if isinstance(event, BytesMessage):
                self.data += event.data
                self._parts.append(bytes(event.data))
                if event.message_finished:
                    self.messages.append(b"".join(self._parts))
                    self._parts = []
            elif isinstance(event, TextMessage):
                self.texts.append(json.loads(event.data))
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

    def until(self, condition) -> Peer:
        """Read until *condition* of this peer holds."""
        while not condition(self):
            assert not self.ended, "the connection ended before what was waited for"
            self.step()
        return self

    def expect(self, payload: bytes) -> None:
        self.until(lambda peer: len(peer.data) >= len(payload))
        assert self.data == payload
        self.data = b""

    def until_closed(self) -> tuple[int, str] | None:
        """The close frame, once the connection is closed."""
        while not self.ended:
            try:
                self.step()
            except ConnectionError:
                self.ended = True
        return self.close


class Wire:
    """A relay between two peers."""

    def __init__(
        self,
        *,
        framing: str = "websocket",
        early: bytes = b"",
        lifetime: float | None = None,
        start: bool = True,
        **options,
    ) -> None:
        browser, inner = gevent.socket.socketpair()
        outer, host = gevent.socket.socketpair()
        self.browser = Peer(browser, client=True)
        self.host = Peer(host, client=False)
        self._end: AsyncResult = AsyncResult()
        self.ends = 0
        options.setdefault("close_timeout", 1.0)
        if options.pop("control", False):
            options["end_message"] = control_channel.end
        self.relay = Relay(
            PlainTransport(inner),
            Upstream(PlainTransport(outer), early, framing),
            options=RelayOptions(**options),
            on_end=self._on_end,
            lifetime=lifetime,
        )
        if start:
            self.relay.start()

    def _on_end(self, relay, reason) -> None:
        self.ends += 1
        self._end.set(reason)

    def reason(self):
        """Why the session ended, once it has."""
        reason = self._end.get(timeout=PATIENCE)
        gevent.sleep(0)
        assert self.ends == 1
        return reason

    def close(self) -> None:
        self.browser.sock.close()
        self.host.sock.close()
