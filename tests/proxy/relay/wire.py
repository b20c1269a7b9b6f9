"""Both ends of a relay, on socket pairs: what a browser and a console host would see of it."""

from __future__ import annotations

import gevent
import gevent.socket
from gevent.event import AsyncResult

from mksfilter.proxy.console import control_channel
from mksfilter.proxy.relay.driver import Relay, RelayOptions
from mksfilter.proxy.relay.transport import PlainTransport, Transport, Upstream
from tests.proxy.relay.ends import End

LIMIT = 10  # seconds for which a test waits


class Peer(End):
    """One end, on a socket."""

    def __init__(self, sock, *, client: bool) -> None:
        super().__init__(client=client)
        self.sock = sock
        self.sock.settimeout(LIMIT)
        self.ended = False

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hang_up(self) -> None:
        self.sock.close()

    def step(self) -> None:
        """Wait for one read; fails the test when nothing comes."""
        data = self.sock.recv(65536)
        if not data:
            self.ended = True
            return
        self.hear(data)

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
        client: Transport | None = None,
        on_first_byte=None,
        on_heard=None,
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
            client or PlainTransport(inner),
            Upstream(PlainTransport(outer), early, framing),
            options=RelayOptions(**options),
            on_end=self._on_end,
            lifetime=lifetime,
            on_first_byte=on_first_byte,
            on_heard=on_heard,
        )
        if start:
            self.relay.start()

    def _on_end(self, relay, reason) -> None:
        self.ends += 1
        self._end.set(reason)

    def reason(self):
        """Why the session ended, once it has."""
        reason = self._end.get(timeout=LIMIT)
        gevent.sleep(0)
        assert self.ends == 1
        return reason

    def close(self) -> None:
        self.browser.sock.close()
        self.host.sock.close()
