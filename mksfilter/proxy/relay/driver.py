"""The relay: what :mod:`.protocol` says, done with the event loop's watchers and two transports.

No greenlet belongs to a session, since a suspended one costs more memory than all of the rest. Each
connection has a watcher for reading; when it fires, one bounded read is taken, the protocol is told
of it, and what it answers is done. What a peer does not take at once is kept by its transport. One
read per callback makes the loop's own order the fairness between sessions.
"""

from __future__ import annotations

import functools
import logging
import math
import ssl
from collections.abc import Callable
from typing import Final

import gevent

from mksfilter.exceptions import RelayFailed, SessionEnded
from mksfilter.log import event
from mksfilter.proxy.relay.actions import Action, Close, Ended, Pause, Resume, Send
from mksfilter.proxy.relay.options import RelayOptions
from mksfilter.proxy.relay.peer import Peer
from mksfilter.proxy.relay.protocol import PASS, Loss, RelayProtocol
from mksfilter.proxy.relay.state import BrowserState, HostState, PeerState
from mksfilter.proxy.relay.timers import shared_wheel
from mksfilter.proxy.relay.transport import ROOM, Transport, Upstream

__all__ = ["Relay", "RelayOptions"]

LOG = logging.getLogger(__name__)

_SILENCE: Final = 1.0
_HEADROOM: Final = 16  # for the header of a frame made around what was read

# One buffer for all sessions: a callback uses up what it read before it returns.
_buffer = bytearray(_HEADROOM + ROOM)
_room = memoryview(_buffer)[_HEADROOM:]
_views = memoryview(_buffer)


class Relay:
    """One session, from :meth:`start` to *on_end*.

    :param client: the browser's connection, its WebSocket handshake done.
    :param upstream: the host's, with what it has sent already.
    :param options: see :class:`RelayOptions`.
    :param on_end: called once, in a greenlet of its own, when both connections are closed.
    :param lifetime: seconds after which the session ends whatever happens; None: never.
    :param on_first_byte: called in the hub when the host has sent something; it must not wait.
    :param on_heard: the same, when the browser has.
    """

    __slots__ = (
        "__weakref__",
        "_browser",
        "_failure",
        "_host",
        "_on_end",
        "_on_first_byte",
        "_on_heard",
        "_protocol",
        "_wake_at",
        "_wheel",
        "slot",
    )

    def __init__(
        self,
        client: Transport,
        upstream: Upstream,
        *,
        options: RelayOptions,
        on_end: Callable[[Relay, SessionEnded], object],
        lifetime: float | None = None,
        on_first_byte: Callable[[], object] | None = None,
        on_heard: Callable[[], object] | None = None,
    ) -> None:
        self.slot = 0
        self._failure: SessionEnded | None = None
        self._on_end: Callable[[Relay, SessionEnded], object] | None = on_end
        self._on_first_byte = on_first_byte
        self._on_heard = on_heard
        self._wheel = shared_wheel()
        self._wake_at: float | None = None
        self._protocol = RelayProtocol(
            options=options,
            framed=upstream.framing == "websocket",
            early=upstream.early,
            lifetime=lifetime,
        )
        self._host = Peer(upstream.transport, self._protocol.host)
        self._browser = Peer(client, self._protocol.attach())

    # --- what its owner may do and see ---

    @property
    def reason(self) -> SessionEnded | None:
        """Why the session ends, once it does."""
        return self._failure or self._protocol.reason

    @property
    def bytes_in(self) -> int:
        """Bytes received from the browser, frame headers included."""
        return self._browser.state.received

    @property
    def bytes_out(self) -> int:
        """Bytes received from the console host for the browser."""
        return self._host.state.received

    @property
    def unanswered_at(self) -> float:
        """Monotonic seconds of the browser's last data, where the host had been silent for a second
        before it and has said nothing since; minus infinity: it has.

        Whoever follows a picture asks for the next one at once, so that a browser speaks last as a
        rule; heartbeats and pings do not count.
        """
        spoke, heard = self._browser.state.seen, self._host.state.seen
        return spoke if spoke - heard >= _SILENCE else -math.inf

    def start(self) -> None:
        """Begin; called once, in a greenlet or in the hub."""
        self._wheel.schedule(self, 0)  # a wheel that stood still has an old time
        try:
            self._perform(self._protocol.start(self._wheel.now))
            self._note_first_byte()
        except Exception as exc:
            self._fail(exc)

    def send_control(self, text: str) -> None:
        """Send a message of the control channel as soon as one may stand; ignored without one."""
        try:
            if self.reason is None:
                for browser in self._protocol.browsers:
                    self._perform(self._protocol.send_control(browser, text, self._wheel.now))
        except Exception as exc:
            self._fail(exc)

    def close(self, reason: SessionEnded) -> None:
        """End the session; *on_end* follows within the close timeout. Harmless when it is over."""
        try:
            if self.reason is None:
                self._perform(self._protocol.close(reason, self._wheel.now))
        except Exception as exc:
            self._fail(exc)

    # --- events of the loop ---

    # Two callbacks, as the protocol has two methods: the common way is short, and in each of them
    # every object is of one class. Watchers call them as functions with three arguments: a method
    # that is kept is an object more for each, and a slower call.

    def _browser_readable(self, browser: Peer[BrowserState], host: Peer[HostState]) -> None:
        try:
            transport, state = browser.transport, browser.state
            try:
                size = transport.receive(_room, state.read_limit)
            except OSError as exc:
                self._lost(browser, exc)
                return
            if size > 0:
                actions = self._protocol.receive_from_browser(state, _room, size, self._wheel.now)
                if actions is PASS:
                    try:
                        if not host.transport.send(_room[:size]):
                            self._perform(self._blocked(host))
                    except OSError as exc:
                        self._lost(host, exc)
                else:
                    self._perform(actions)
            if size == 0 or transport.unusual:
                self._beside_data(browser, size)
        except Exception as exc:
            self._fail(exc)

    def _browser_first_readable(self, browser: Peer[BrowserState], host: Peer[HostState]) -> None:
        """Until the browser has sent something."""
        self._browser_readable(browser, host)
        try:
            tell = self._on_heard
            if tell is not None and browser.state.received:
                self._on_heard = None
                browser.call_instead(Relay._browser_readable, self, browser, host)
                tell()
        except Exception as exc:
            self._fail(exc)

    def _host_readable(self, host: Peer[HostState], browser: Peer[BrowserState]) -> None:
        try:
            transport = host.transport
            try:
                size = transport.receive(_room, host.state.read_limit)
            except OSError as exc:
                self._lost(host, exc)
                return
            if size > 0:
                received = self._protocol.receive_from_host(_room, size, self._wheel.now)
                if received is PASS:
                    try:
                        if not browser.transport.send(_room[:size]):
                            self._perform(self._blocked(browser))
                    except OSError as exc:
                        self._lost(browser, exc)
                elif isinstance(received, bytes):
                    # The header of a message goes before what was read, where that lies.
                    begin = _HEADROOM - len(received)
                    _views[begin:_HEADROOM] = received
                    self._perform([Send(browser.state, _views[begin : _HEADROOM + size])])
                else:
                    self._perform(received)
            if size == 0 or transport.unusual:
                self._beside_data(host, size)
        except Exception as exc:
            self._fail(exc)

    def _host_first_readable(self, host: Peer[HostState], browser: Peer[BrowserState]) -> None:
        """Until the host has sent something; the many calls after that are spared the question."""
        self._host_readable(host, browser)
        try:
            self._note_first_byte()
        except Exception as exc:
            self._fail(exc)

    def _note_first_byte(self) -> None:
        tell = self._on_first_byte
        if tell is not None and self._host.state.received:
            self._on_first_byte = None
            self._host.call_instead(Relay._host_readable, self, self._host, self._browser)
            tell()

    def _beside_data(self, peer: Peer[PeerState], size: int) -> None:
        """A read brought something else than data; *size* bytes of that."""
        transport = peer.transport
        if transport.unsent and not (peer.shut or peer.blocked):
            self._perform(self._blocked(peer))
        if (size == 0 or transport.ended) and not peer.shut:
            self._lost(peer, None)

    def _writable(self, sink: Peer[PeerState]) -> None:
        try:
            try:
                drained = sink.transport.flush()
            except OSError as exc:
                if sink.closing:
                    self._perform(self._shut(sink))
                else:
                    self._lost(sink, exc)
                return
            if drained:
                sink.unblock()
                if sink.closing:
                    self._perform(self._shut(sink))
                    return
            now = self._wheel.now
            self._perform(self._protocol.writable(sink.state, now, drained=drained))
        except Exception as exc:
            self._fail(exc)

    def on_timer(self, now: float) -> float | None:
        """Called by the wheel."""
        try:
            self._perform(self._protocol.wake(now))
        except Exception as exc:
            self._fail(exc)
            return None
        return self._protocol.wake_at

    # --- actions of the protocol ---

    def _perform(self, actions: list[Action]) -> None:
        # What becomes of an action is told to the protocol when all of them are done: it gave
        # them in the belief that each would succeed.
        while actions:
            outcomes: list[Callable[[], list[Action]]] = []
            host = self._host
            for action in actions:
                if isinstance(action, Ended):
                    self._over(action.reason)
                    continue
                peer = host if action.peer is host.state else self._browser
                if peer.shut:
                    continue
                outcome = self._do(action, peer)
                if outcome is not None:
                    outcomes.append(outcome)
            actions = []
            for outcome in outcomes:
                actions += outcome()
        wake_at = self._protocol.wake_at
        if wake_at != self._wake_at:
            self._wake_at = wake_at
            if wake_at is not None:
                self._wheel.schedule(self, wake_at)

    def _do(
        self, action: Send | Pause | Resume | Close, peer: Peer[PeerState]
    ) -> Callable[[], list[Action]] | None:
        """Perform one action on *peer*; returns what the protocol is to be told of it."""
        if isinstance(action, Send):
            try:
                if peer.transport.send(action.data):
                    return None
            except OSError as exc:
                return functools.partial(self._loss, peer, exc)
            return functools.partial(self._blocked, peer)
        if isinstance(action, Resume):
            cls = type(self)
            if peer is self._host:
                readable = (
                    cls._host_readable if self._on_first_byte is None else cls._host_first_readable
                )
                peer.resume(readable, self, self._host, self._browser)
            else:
                first = self._on_heard is not None
                said = cls._browser_first_readable if first else cls._browser_readable
                peer.resume(said, self, self._browser, self._host)
        elif isinstance(action, Pause):
            peer.pause()
        else:
            if action.abort or not peer.transport.unsent:
                return functools.partial(self._shut, peer)
            peer.pause()
            peer.closing = True
        return None

    def _blocked(self, peer: Peer[PeerState]) -> list[Action]:
        peer.block(self._writable, peer)
        return self._protocol.blocked(peer.state, self._wheel.now)

    def _shut(self, peer: Peer[PeerState]) -> list[Action]:
        peer.shut_down()
        return self._protocol.closed(peer.state, self._wheel.now)

    def _loss(self, peer: Peer[PeerState], exc: OSError | None) -> list[Action]:
        how = Loss.ENDED if exc is None else Loss.BROKEN
        detail = ""
        if isinstance(exc, ssl.SSLError):
            how, detail = Loss.TLS, str(exc.reason or exc)
        return self._protocol.lost(peer.state, self._wheel.now, how, detail)

    def _lost(self, peer: Peer[PeerState], exc: OSError | None) -> None:
        self._perform(self._loss(peer, exc))

    # --- the end ---

    def _over(self, reason: SessionEnded) -> None:
        self._wheel.cancel(self)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            gevent.spawn(on_end, self, reason)

    def _fail(self, exc: Exception) -> None:
        """A fault of ours: the session ends, the others do not notice."""
        reason = self.reason
        if reason is None:
            reason = self._failure = RelayFailed(f"{type(exc).__name__} in the relay")
            reason.__cause__ = exc  # logged by its owner, which knows whose session it was
        else:
            LOG.error(event("relay-failed", reason=reason.reason), exc_info=exc)
        self._browser.shut_down()
        self._host.shut_down()
        self._over(reason)
