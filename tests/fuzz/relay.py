"""A whole relay, told anything by both sides in any order: it ends once, never by a fault of its
own, and what either side hears is a valid stream."""

from __future__ import annotations

import json
import logging

import gevent
import gevent.socket
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage
from wsproto.utilities import RemoteProtocolError

from mksfilter.exceptions import RelayFailed, SessionEnded
from mksfilter.proxy.console import control_channel
from mksfilter.proxy.relay.driver import Relay, RelayOptions
from mksfilter.proxy.relay.frames import CLOSE, ControlFrame, FrameTracker, Violation
from mksfilter.proxy.relay.transport import PlainTransport, Upstream

__all__ = ["TestOneInput"]

_HANDSHAKES = ("full", "missing", "auto", "full")
_NOTICE = '{"type": "notice"}'
_TURNS = 50

logging.disable(logging.CRITICAL)


class _End:
    """What stands at one end of the relay."""

    def __init__(self, sock: gevent.socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self.heard = b""
        self.over = False

    def say(self, data: bytes) -> None:
        if data and not self.over:
            try:
                self._sock.send(data)
            except OSError:
                self.over = True

    def listen(self) -> None:
        while not self.over:
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.heard += data
            self.over = not data

    def hang_up(self) -> None:
        self.listen()
        self.over = True
        self._sock.close()


class _Table:
    def __init__(self, options: int) -> None:
        browser, client = gevent.socket.socketpair()
        host, upstream = gevent.socket.socketpair()
        self.browser, self.host = _End(browser), _End(host)
        self.framed, self.control = bool(options & 1), bool(options & 2)
        self.reasons: list[SessionEnded] = []
        self.relay = Relay(
            PlainTransport(client),
            Upstream(PlainTransport(upstream), b"", "websocket" if self.framed else "bytes"),
            options=RelayOptions(
                end_message=control_channel.end if self.control else None,
                view_only=bool(options & 4),
                rfb_handshake=_HANDSHAKES[options >> 3 & 3],
            ),
            on_end=lambda _, reason: self.reasons.append(reason),
        )
        self.relay.start()

    def turn(self) -> None:
        gevent.idle()  # unlike sleep(0), after the loop has looked at its sockets
        self.browser.listen()
        self.host.listen()

    def act(self, what: int) -> None:
        if what == 0:
            self.browser.hang_up()
        elif what == 1:
            self.host.hang_up()
        elif what == 2:
            self.relay.close(SessionEnded("enough"))
        else:
            self.relay.send_control(_NOTICE)


def TestOneInput(data: bytes) -> None:
    """A byte of options; then a byte of what happens, one of how much, and as many."""
    table = _Table((data[:1] or b"\0")[0])
    position = 1
    while position + 1 < len(data):
        what, size = data[position], data[position + 1]
        position += 2
        if what & 7 == 7:
            table.act(size & 3)
        else:
            side = table.browser if what & 1 else table.host
            side.say(data[position : position + size])
            position += size
        if not what & 8:
            table.turn()
    table.turn()
    table.browser.hang_up()
    table.host.hang_up()
    for _ in range(_TURNS):
        if table.reasons:
            break
        table.turn()
    gevent.sleep(0)
    assert len(table.reasons) == 1
    assert not isinstance(table.reasons[0], RelayFailed)
    _check_stream(table.browser.heard, masked=False)
    _check_browser(table.browser.heard, control=table.control)
    if table.framed:
        _check_stream(table.host.heard, masked=True)


def _check_stream(heard: bytes, *, masked: bool) -> None:
    """No violation, and nothing behind a close frame."""
    tracker = FrameTracker(masked=masked)
    pieces = tracker.feed(heard, len(heard))
    if pieces is None:
        return
    assert not any(isinstance(piece, Violation) for piece in pieces)
    last = pieces[-1] if pieces else None
    if isinstance(last, ControlFrame) and last.opcode == CLOSE:
        assert heard.endswith(last.raw)
    else:
        assert not tracker.closed


def _check_browser(heard: bytes, *, control: bool) -> None:
    """What wsproto makes of it; and with a control channel, text is ours alone."""
    oracle = Connection(ConnectionType.CLIENT)
    try:
        oracle.receive_data(heard)
        for event in oracle.events():
            if isinstance(event, TextMessage) and control:
                assert "type" in json.loads(event.data)
            if isinstance(event, CloseConnection):
                break
    except RemoteProtocolError:
        # The tracker has judged the frames; what is left to the browser is UTF-8.
        assert not control
