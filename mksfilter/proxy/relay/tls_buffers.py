"""The two buffers between OpenSSL and the sockets: one pair for all TLS connections of a thread.

An :class:`ssl.MemoryBIO` never becomes smaller than it once was, so that a pair for each connection
costs 2 kB after the handshake, and 44 kB once a picture has gone through it both ways. But OpenSSL
takes what it is given before it asks for more, and no call of it gives way to another greenlet.

The rule that makes one pair enough: **whoever puts something in empties both before another
connection can have its turn**, however the call ends. What OpenSSL has not asked for yet (the rest
of a record, what follows a handshake) is kept by its connection, and what it wants to send is taken
out at once. Bytes left behind would be read, or sent, by whoever comes next.
"""

from __future__ import annotations

import ssl
import weakref
from typing import Any, Final

import gevent

__all__ = ["TLSBuffers", "shared_buffers"]


class TLSBuffers:
    """
    :ivar incoming: what came from a peer, for OpenSSL.
    :ivar outgoing: what OpenSSL has to say to it.
    """

    __slots__ = ("incoming", "outgoing")

    def __init__(self) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()


_of_hubs: Final[weakref.WeakKeyDictionary[Any, TLSBuffers]] = weakref.WeakKeyDictionary()


def shared_buffers() -> TLSBuffers:
    """The buffers of this thread's hub."""
    hub = gevent.get_hub()
    buffers = _of_hubs.get(hub)
    if buffers is None:
        buffers = _of_hubs[hub] = TLSBuffers()
    return buffers
