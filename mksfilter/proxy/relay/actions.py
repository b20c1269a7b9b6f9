"""What the protocol wants done, in this order, by its driver."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from mksfilter.exceptions import SessionEnded
from mksfilter.proxy.relay.state import PeerState

__all__ = ["Action", "Close", "Ended", "Pause", "Resume", "Send"]


class Send(NamedTuple):
    """Send all of *data*, now or later; a view is good until the next bytes are read."""

    peer: PeerState
    data: bytes | memoryview


class Pause(NamedTuple):
    """Read no more from *peer* for now."""

    peer: PeerState


class Resume(NamedTuple):
    """Read from *peer*; harmless when that is so."""

    peer: PeerState


class Close(NamedTuple):
    """Close the connection: when all that was sent is gone out, or at once with *abort*.

    Nothing is read from it any more. :meth:`RelayProtocol.closed` is the answer to it.
    """

    peer: PeerState
    abort: bool


class Ended(NamedTuple):
    """All connections are closed; the last action of a session."""

    reason: SessionEnded


Action: TypeAlias = Send | Pause | Resume | Close | Ended
