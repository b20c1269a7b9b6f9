"""What the protocol knows of each end of a session. No I/O.

The objects are the identities of the connections too: events name the peer they are of by its
state, and so do actions.
"""

from __future__ import annotations

from typing import Final

from mksfilter.proxy.relay.decoder import ClientDecoder
from mksfilter.proxy.relay.frames import FrameTracker
from mksfilter.proxy.relay.options import BUFFER_SIZE, RelayOptions

__all__ = [
    "MAX_BROWSER_FRAME",
    "MAX_HOST_FRAME",
    "SMALL_READ",
    "BrowserState",
    "HostState",
    "PeerState",
    "is_decoded",
]

MAX_BROWSER_FRAME: Final = 1 << 20
"""Bytes of a frame's payload. A console client sends keys, and a clipboard in small frames."""

MAX_HOST_FRAME: Final = 1 << 28
"""The same: twice the whole screen of the largest display, 8192 by 4320 pixels, uncompressed."""

SMALL_READ: Final = 8 * 1024
"""Bytes read at once of a peer whose frames may be tiny; bounds the time that a flood takes."""


class PeerState:
    """One connection: what it said, what it was told, and how far it is in closing.

    :ivar tracker: follows the frames that this peer sends; None for a stream of bytes.
    :ivar passes: all that it says goes to the other side as it is, up to the next event that
        returns actions.
    :ivar read_limit: bytes to read from it at once.
    :ivar reading: it is to be read: Resume was the last that was said of it, not Pause.
    :ivar received: bytes that came, frame headers included.
    :ivar seen: time of its last data.
    :ivar heard: time of its last control frame, and in *controls* how many came then.
    :ivar ping: payload of our ping that is not answered yet; sent at *pinged_at*, which is the
        start of the session before the first. After *missed* pings in a row nothing came.
    :ivar stalled_at: since when it takes no more bytes; None while it does.
    :ivar close_sent: nothing more is sent to it; nearly always a close frame was the last.
    :ivar close_received: its close frame came.
    :ivar cut: its stream ends inside a frame, so that no close frame can be sent any more.
    :ivar closed: Close was said, or the browser is detached.
    :ivar gone: the connection is closed.
    """

    __slots__ = (
        "close_received",
        "close_sent",
        "closed",
        "controls",
        "cut",
        "gone",
        "heard",
        "missed",
        "passes",
        "ping",
        "pinged_at",
        "read_limit",
        "reading",
        "received",
        "seen",
        "stalled_at",
        "tracker",
    )

    def __init__(self, tracker: FrameTracker | None, read_limit: int) -> None:
        self.tracker = tracker
        self.passes = False
        self.read_limit = read_limit
        self.reading = False
        self.received = 0
        self.seen = 0.0
        self.heard = 0.0
        self.controls = 0
        self.ping = b""
        self.pinged_at = 0.0
        self.missed = 0
        self.stalled_at: float | None = None
        self.close_sent = False
        self.close_received = False
        self.cut = False
        self.closed = False
        self.gone = False


class HostState(PeerState):
    """The console host.

    :ivar early: bytes that followed its handshake, until the session starts.
    :ivar broken: a browser left in the middle of a frame: no frame may follow on this connection.
    """

    __slots__ = ("broken", "early")

    def __init__(self, *, framed: bool, early: bytes, text: bool) -> None:
        """:param text: text messages pass."""
        tracker = FrameTracker(masked=False, text=text, max_frame=MAX_HOST_FRAME)
        PeerState.__init__(self, tracker if framed else None, BUFFER_SIZE)
        self.early = early
        self.broken = False


class BrowserState(PeerState):
    """One browser, with all that stands between it and the host.

    :ivar decoder: reads its frames; None while they pass as they are.
    :ivar settle_by: when the RFB handshake has to be over, for a decoder to know what it is in.
    :ivar kept: what the host said while an RFB handshake was played, for when it is over.
    :ivar outbox: frames of ours that wait for the end of a message of the host's.
    :ivar pending_ping: a ping of ours that waits for the end of a frame of the host's.
    :ivar close_waits: our close frame waits for the same.
    """

    __slots__ = ("close_waits", "decoder", "kept", "outbox", "pending_ping", "settle_by")

    tracker: FrameTracker

    def __init__(self, options: RelayOptions, *, framed: bool, decoded: bool) -> None:
        """:param decoded: see :func:`is_decoded`."""
        asides = options.end_message is not None
        PeerState.__init__(
            self,
            FrameTracker(
                masked=True,
                text=not (asides or decoded),
                asides=asides,
                max_frame=MAX_BROWSER_FRAME,
            ),
            SMALL_READ,
        )
        self.decoder: ClientDecoder | None = None
        if decoded:
            self.decoder = ClientDecoder(
                framed=framed, view_only=options.view_only, handshake=options.rfb_handshake
            )
        self.settle_by = 0.0
        self.kept = b""
        self.outbox: list[bytes] | None = None
        self.pending_ping = b""
        self.close_waits = False

    @property
    def between_frames(self) -> bool:
        """Whether what went to the host on its behalf ends with a frame (RFC 6455 section 5.4)."""
        return self.decoder is not None or self.tracker.between_frames

    @property
    def settled(self) -> bool:
        """Whether it hears what the host says: no RFB handshake is played or may have to be."""
        decoder = self.decoder
        return decoder is None or not (decoder.undecided or decoder.playing)

    @property
    def listens(self) -> bool:
        """Whether what the host says has to be looked at, to read what the browser says."""
        return self.decoder is not None and self.decoder.listens


def is_decoded(options: RelayOptions, *, framed: bool) -> bool:
    """Whether the browser's frames are read, not passed as they are."""
    return options.view_only or not framed or options.rfb_handshake != "full"
