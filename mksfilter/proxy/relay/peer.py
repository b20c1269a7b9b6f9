"""One of a session's two connections: what it has said and heard, and when it is watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import gevent

from mksfilter.proxy.relay.frames import FrameTracker
from mksfilter.proxy.relay.transport import Transport

__all__ = ["Side"]

_READ: Final = 1
_WRITE: Final = 2


class Side:
    """A connection, its watchers, and its part in pings and closing.

    :param tracker: of the frames this side sends; None for a stream of bytes.
    :param limit: bytes to read from it at once.
    """

    __slots__ = (
        "close_received",
        "close_sent",
        "controls",
        "cut",
        "heard",
        "limit",
        "missed",
        "ping",
        "pinged_at",
        "reader",
        "reading",
        "received",
        "seen",
        "shut",
        "stalled_at",
        "tracker",
        "transport",
        "writer",
    )

    def __init__(self, transport: Transport, tracker: FrameTracker | None, limit: int) -> None:
        self.transport = transport
        self.tracker = tracker
        self.limit = limit
        self.reader: Any = None
        self.writer: Any = None
        self.reading = False
        self.received = 0
        self.seen = 0.0  # when data came last
        self.heard = 0.0  # when a control frame came last
        self.controls = 0  # how many came then
        self.ping = b""  # payload of our ping that is not answered yet
        self.pinged_at = 0.0  # when it went out, or the session began
        self.missed = 0  # how many in a row nothing came after
        self.stalled_at = 0.0  # since when it does not read
        self.close_sent = False
        self.close_received = False
        self.cut = False  # no close frame can be sent any more, in either direction
        self.shut = False

    @property
    def between_frames(self) -> bool:
        """Whether all that this side sent, and that was passed on, are whole frames."""
        return self.tracker is None or self.tracker.between_frames

    def resume(self, callback: Callable[..., object], *args: Any) -> None:
        """Call *callback* whenever there is something to read; harmless when that is so."""
        if not self.reading and not self.shut:
            if self.reader is None:
                self.reader = gevent.get_hub().loop.io(self.transport.fd, _READ)
            self.reading = True
            self.reader.start(callback, *args)

    def pause(self) -> None:
        """Read no more for now."""
        if self.reading:
            self.reading = False
            self.reader.stop()

    def stall(self, now: float, callback: Callable[..., object], *args: Any) -> None:
        """It does not take more: call *callback* when it does."""
        if not self.stalled_at:
            if self.writer is None:
                self.writer = gevent.get_hub().loop.io(self.transport.fd, _WRITE)
            self.writer.start(callback, *args)
            self.stalled_at = now

    def shut_down(self) -> None:
        """Close the connection. Its watchers go first: libev ends a process that watches nobody."""
        if self.shut:
            return
        self.shut = self.close_sent = True  # nothing more is sent there
        self.reading = False
        for watcher in (self.reader, self.writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self.reader = self.writer = None
        self.stalled_at = 0.0
        self.transport.close()
