"""The browser's frames on their way to a byte-stream console or through a viewer's filter."""

from __future__ import annotations

from itertools import pairwise

from websockets.utils import apply_mask

from mksfilter.exceptions import RFBViolation, UpstreamViolation
from mksfilter.proxy.relay.decoder import ClientDecoder
from mksfilter.proxy.relay.frames import GAP, ControlFrame, FrameTracker, Violation, server_header
from tests.fuzz.rfb import HOSTS, check_viewer

__all__ = ["TestOneInput"]

_SERVER_INIT = b"\x04\x00\x03\x00"


def TestOneInput(data: bytes) -> None:
    """A byte of options, four of cuts, and the browser's stream."""
    options, cuts, stream = (data[:1] or b"\0")[0], data[1:5], data[5:]
    edges = sorted({cut % (len(stream) + 1) for cut in cuts})
    said, over = _heard(stream, [], options)
    assert _heard(stream, edges, options) == (said, over)
    if len(stream) < 300:
        assert _heard(stream, [*range(len(stream))], options) == (said, over)


def _heard(stream: bytes, edges: list[int], options: int) -> tuple[bytes, bool]:
    """What the console host hears, and whether the session ended."""
    framed, view_only = bool(options & 1), bool(options & 2)
    handshake = ("full", "missing", "auto", "auto")[options >> 2 & 3]
    tracker = FrameTracker(masked=True, text=False)
    decoder = ClientDecoder(framed=framed, view_only=view_only, handshake=handshake)
    host = _SERVER_INIT if options >> 4 & 1 else HOSTS[(0, 1, 2, 3)[options >> 5 & 3]]
    said = server_header(len(host)) + host if framed else host
    if options >> 7 and handshake == "full" and decoder.listens:
        decoder.hear(said)
    if handshake == "missing":
        assert decoder.play(missing=True)
    heard: list[bytes] = []
    try:
        for start, end in pairwise([0, *edges, len(stream)]):
            chunk = stream[start:end]
            pieces = tracker.feed(chunk, len(chunk))
            for piece in [chunk] if pieces is None else pieces:
                if isinstance(piece, Violation):
                    return b"", True
                if piece is not GAP and not isinstance(piece, ControlFrame):
                    heard += decoder.feed(bytes(piece))[0]
        # The host speaks last: what was said before counts now.
        if decoder.listens:
            decoder.hear(said)
        if decoder.undecided:
            decoder.decide(host[:4])
        heard += decoder.feed(b"")[0]
    except (RFBViolation, UpstreamViolation):
        return b"", True
    messages = [_payload(message) for message in heard] if framed else heard
    if view_only:
        played = handshake == "missing" or (handshake == "auto" and bool(options >> 4 & 1))
        check_viewer(messages, None if played else host)
    return b"".join(messages), False


def _payload(message: bytes) -> bytes:
    """The payload of one whole binary message of a client."""
    pieces = FrameTracker(masked=True, text=False).feed(message, len(message))
    assert pieces is None, "not a frame that a console host takes"
    length = message[1] & 0x7F
    start = 2 + {126: 2, 127: 8}.get(length, 0)
    return apply_mask(message[start + 4 :], message[start : start + 4])
