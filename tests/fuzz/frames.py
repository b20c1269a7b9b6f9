"""The frame tracker: one opinion, however the bytes arrive; wsproto's; and bounded memory."""

from __future__ import annotations

from itertools import pairwise

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

from mksfilter.proxy.relay.frames import (
    CLOSE,
    GAP,
    PING,
    PONG,
    ControlFrame,
    FrameTracker,
    Violation,
)

__all__ = ["TestOneInput"]

_MAX_HELD = 130  # bytes: the longest control frame (2, 4 of mask, 125), less its last


class _Seen:
    """What a relay would make of the pieces of a stream cut at *edges*."""

    def __init__(self, stream: bytes, edges: list[int], **options: bool | int) -> None:
        self.passed = bytearray()
        self.controls: list[tuple[int, bytes, int]] = []
        self.violation: Violation | None = None
        tracker = FrameTracker(**options)  # type: ignore[arg-type]
        for start, end in pairwise([0, *edges, len(stream)]):
            self._take(tracker, stream[start:end])
            assert len(tracker._held) <= _MAX_HELD, "memory that the peer chooses"

    def _take(self, tracker: FrameTracker, chunk: bytes) -> None:
        pieces = tracker.feed(chunk + b"\x88\x00 of an earlier read", len(chunk))
        for piece in [chunk] if pieces is None else pieces:
            assert self.violation is None, "something passes after a violation"
            if isinstance(piece, ControlFrame):
                assert len(piece.payload) <= 125
                self.controls.append((piece.opcode, piece.payload, piece.code))
                self.passed += piece.raw
            elif isinstance(piece, Violation):
                self.violation = piece
            elif piece is not GAP:
                self.passed += piece


def TestOneInput(data: bytes) -> None:
    """A byte of options, four of cuts, and a stream."""
    options, cuts, stream = data[:1] or b"\0", data[1:5], data[5:]
    masked, text = bool(options[0] & 1), bool(options[0] & 2)
    limit = 1000 if options[0] & 4 else (1 << 63) - 1
    settings = {"masked": masked, "text": text, "max_frame": limit}
    whole = _Seen(stream, [], **settings)
    edges = sorted({cut % (len(stream) + 1) for cut in cuts})
    for other in (
        _Seen(stream, edges, **settings),
        _Seen(stream, [*range(len(stream))], **settings),
    ):
        assert other.passed == whole.passed
        assert other.controls == whole.controls
        assert other.violation == whole.violation
    assert stream.startswith(whole.passed)
    if text and not options[0] & 4:
        _compare(stream, masked, whole)


def _compare(stream: bytes, masked: bool, seen: _Seen) -> None:
    theirs = _judge(stream, masked)
    if any(opcode == CLOSE and code == 1014 for opcode, _, code in seen.controls):
        return  # registered after wsproto's last look at the list
    if seen.violation is not None:
        # The oracle waits for a whole header, the tracker for the byte that is wrong.
        assert (theirs if theirs.fault else _judge(stream + bytes(14), masked)).fault
        return
    # The oracle judges a message's text too, which is for the browser to do.
    assert theirs.fault in (0, 1007)
    if not theirs.fault:
        ours = [(opcode, code if opcode == CLOSE else said) for opcode, said, code in seen.controls]
        assert ours == theirs.controls
        assert _judge(bytes(seen.passed), masked).payload == theirs.payload


class _judge:
    """wsproto's opinion: payload bytes, control frames, and the code of a violation (0: none)."""

    def __init__(self, stream: bytes, masked: bool) -> None:
        self.payload = b""
        self.controls: list[tuple[int, object]] = []
        self.fault = 0
        oracle = Connection(ConnectionType.SERVER if masked else ConnectionType.CLIENT)
        oracle.receive_data(stream)
        try:
            for event in oracle.events():
                if isinstance(event, BytesMessage):
                    self.payload += event.data
                elif isinstance(event, TextMessage):
                    self.payload += event.data.encode()
                elif isinstance(event, Ping):
                    self.controls.append((PING, bytes(event.payload)))
                elif isinstance(event, Pong):
                    self.controls.append((PONG, bytes(event.payload)))
                elif isinstance(event, CloseConnection):
                    if oracle.state is ConnectionState.OPEN:
                        # Its answer to a violation is the same event, but nothing was closed.
                        self.fault = event.code
                    else:
                        self.controls.append((CLOSE, event.code))
                    return
        except RemoteProtocolError:
            self.fault = 1002
