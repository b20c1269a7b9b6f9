"""A whole session, told anything by both ends, its owner and the clock in any order: it ends once,
in time and by no fault of its own, and what either side hears is a valid stream.

No socket is in it: the protocol is played.
"""

from __future__ import annotations

import json

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage
from wsproto.utilities import RemoteProtocolError

from mksfilter.exceptions import SessionEnded
from mksfilter.proxy.relay.frames import CLOSE, ControlFrame, FrameTracker, Violation
from mksfilter.proxy.relay.protocol import Loss
from tests.proxy.relay.session import PlayedEnd, Session

__all__ = ["TestOneInput"]

_HANDSHAKES = ("full", "missing", "auto", "full")
_NOTICE = '{"type": "notice"}'
_LOSSES = tuple(Loss)


class _Listener(PlayedEnd):
    """An end that only notes what it hears: the other end may have said anything."""

    def hear(self, data: bytes) -> None:
        pass


def _session(options: int) -> Session:
    session = Session(
        framing="websocket" if options & 1 else "bytes",
        control=bool(options & 2),
        view_only=bool(options & 4),
        rfb_handshake=_HANDSHAKES[options >> 3 & 3],
        upstream_ping_interval=20.0 if options & 32 else 0.0,
        idle_timeout=200.0 if options & 64 else 0.0,
        lifetime=600.0 if options & 128 else None,
        start=False,
    )
    for end in (session.browser, session.host):
        end.__class__ = _Listener
    session.start()
    return session


def _act(session: Session, what: int, size: int) -> None:
    """What happens beside bytes; *size* says how much of it, or what of four."""
    if what == 0:
        _one_of_four(session, size & 3)
    elif what < 3:
        _end(session, what).block(size)
    elif what < 5:
        _end(session, what).take(size or None)
    elif what < 7:
        _end(session, what).hang_up(_LOSSES[size % len(_LOSSES)])
    else:
        session.advance(float(size))


def _one_of_four(session: Session, what: int) -> None:
    if what == 0:
        session.browser.hang_up()
    elif what == 1:
        session.host.hang_up()
    elif what == 2:
        session.close(SessionEnded("enough"))
    else:
        session.send_control(_NOTICE)


def _end(session: Session, what: int) -> PlayedEnd:
    return session.browser if what & 1 else session.host


def TestOneInput(data: bytes) -> None:
    """A byte of options; then a byte of what happens, one of how much, and as many.

    What happens: with 7 in the low bits something else than bytes, named by the high four. Else
    bit 0 is for the browser's bytes, and with bit 3 they wait for what happens next.
    """
    session = _session((data[:1] or b"\0")[0])
    position = 1
    while position + 1 < len(data):
        what, size = data[position], data[position + 1]
        position += 2
        if what & 7 == 7:
            _act(session, what >> 4 & 7, size)
        else:
            _end(session, what).unread += data[position : position + size]
            position += size
        if not what & 8:
            session.turn()
    session.turn()
    for end in (session.browser, session.host):
        end.take()
        end.hang_up()
    session.reason()
    _check_stream(session.browser.heard, masked=False)
    _check_browser(session.browser.heard, control=session.options.end_message is not None)
    if session.protocol.host.tracker is not None:
        _check_stream(session.host.heard, masked=True)


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
    text = ""
    try:
        oracle.receive_data(heard)
        for event in oracle.events():
            if isinstance(event, TextMessage) and control:
                text += event.data
                if event.message_finished:
                    assert "type" in json.loads(text)
                    text = ""
            if isinstance(event, CloseConnection):
                break
    except RemoteProtocolError:
        # The tracker has judged the frames; what is left to the browser is UTF-8.
        assert not control
