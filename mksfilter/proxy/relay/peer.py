"""What the driver knows of a connection: its transport, its watchers, and its part in a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import gevent

from mksfilter.proxy.relay.state import PeerState
from mksfilter.proxy.relay.transport import Transport

__all__ = ["Peer"]

_State = TypeVar("_State", bound=PeerState, covariant=True)

_READ: Final = 1
_WRITE: Final = 2


class Peer(Generic[_State]):
    """A connection and its watchers.

    :param state: what the protocol knows of it.
    :ivar blocked: it did not take all that was sent, and is watched until it does.
    :ivar closing: to be closed when it has taken all.
    :ivar shut: closed.
    """

    __slots__ = ("_reader", "_writer", "blocked", "closing", "shut", "state", "transport")

    def __init__(self, transport: Transport, state: _State) -> None:
        self.transport = transport
        self.state = state
        self.blocked = False
        self.closing = False
        self.shut = False
        self._reader: Any = None
        self._writer: Any = None

    def resume(self, callback: Callable[..., object], *args: Any) -> None:
        """Call *callback* whenever there is something to read."""
        if self._reader is None:
            self._reader = gevent.get_hub().loop.io(self.transport.fd, _READ)
        self._reader.start(callback, *args)

    def call_instead(self, callback: Callable[..., object], *args: Any) -> None:
        """Call *callback* in place of the one that :meth:`resume` was given, if one is called."""
        if self._reader is not None and self._reader.active:
            self._reader.stop()
            self._reader.start(callback, *args)

    def pause(self) -> None:
        """Read no more for now."""
        if self._reader is not None:
            self._reader.stop()

    def block(self, callback: Callable[..., object], *args: Any) -> None:
        """It does not take more: call *callback* whenever it does."""
        if not self.blocked and not self.shut:
            if self._writer is None:
                self._writer = gevent.get_hub().loop.io(self.transport.fd, _WRITE)
            self._writer.start(callback, *args)
            self.blocked = True

    def unblock(self) -> None:
        """It has taken all."""
        if self.blocked:
            self._writer.stop()
            self.blocked = False

    def shut_down(self) -> None:
        """Close the connection. Its watchers go first: libev ends a process that watches nobody."""
        if self.shut:
            return
        self.shut = True
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reader = self._writer = None
        self.transport.close()
