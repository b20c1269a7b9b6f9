"""A session played through the protocol: both ends, any order, no socket and no waiting.

:class:`Session` drives :class:`RelayProtocol` as a driver has to, with a clock that moves only when
it is told to, and holds it to its side of the contract while it does.
"""

from __future__ import annotations

from collections.abc import Callable

from mksfilter.exceptions import SessionEnded
from mksfilter.proxy.console import control_channel
from mksfilter.proxy.relay.actions import Action, Close, Ended, Pause, Resume, Send
from mksfilter.proxy.relay.options import RelayOptions
from mksfilter.proxy.relay.protocol import Loss, RelayProtocol
from mksfilter.proxy.relay.state import BrowserState, PeerState
from tests.proxy.relay.ends import End

__all__ = ["PlayedEnd", "Session"]

CLOSE_TIMEOUT = 2.0

_room = bytearray(1 << 20)


class PlayedEnd(End):
    """One end of a played session.

    :ivar heard: all bytes that reached it.
    :ivar takes: how many bytes more it takes before it blocks; None: all.
    :ivar unsent: what it did not take.
    :ivar unread: what it sent and the relay has not read.
    :ivar reading: the relay reads from it.
    :ivar closed: the relay has closed the connection.
    """

    def __init__(self, session: Session, state: PeerState, *, client: bool, framed: bool) -> None:
        super().__init__(client=client)
        self.state = state
        self.heard = b""
        self.takes: int | None = None
        self.unsent = b""
        self.unread = b""
        self.reading = False
        self.closing = False
        self.closed = False
        self.lost: Loss | None = None
        self._session = session
        self._framed = framed

    # what the outside does

    def send_raw(self, data: bytes) -> None:
        self.unread += data
        self._session.turn()

    def hang_up(self, how: Loss = Loss.ENDED) -> None:
        if self.lost is None:
            self.lost = how
            if how is Loss.BROKEN and self.unsent and not self.closed:
                self._session.failed(self)
            self._session.turn()

    def block(self, takes: int = 0) -> None:
        """Take *takes* bytes more and then no more."""
        self.takes = takes

    def take(self, size: int | None = None) -> None:
        """Read *size* bytes of what was not taken; by default all of them, and all to come."""
        if size is None:
            size, self.takes = len(self.unsent), None
        if self.unsent and size and not self.closed:
            taken, self.unsent = self.unsent[:size], self.unsent[size:]
            self.arrive(taken)
            self._session.taken(self)

    # what the relay does

    def accept(self, data: bytes) -> bool:
        """A call of ``send``; returns whether all was taken."""
        room = len(data) if self.takes is None else min(self.takes, len(data))
        if self.unsent:
            room = 0
        elif self.takes is not None:
            self.takes -= room
        self.arrive(data[:room])
        self.unsent += data[room:]
        return not self.unsent

    def arrive(self, data: bytes) -> None:
        if self.lost is None:
            self.heard += data
            if self._framed and data:
                self.hear(data)

    # what a test says of it

    def until(self, condition: Callable[[PlayedEnd], object]) -> PlayedEnd:
        """Nothing has to be waited for: *condition* holds."""
        assert condition(self)
        return self

    def expect(self, payload: bytes) -> None:
        assert self.data == payload
        self.data = b""

    def until_closed(self) -> tuple[int, str] | None:
        """The close frame of a connection that is closed."""
        assert self.closed
        return self.close


class Session:
    """A protocol with two ends."""

    def __init__(
        self,
        *,
        framing: str = "websocket",
        early: bytes = b"",
        lifetime: float | None = None,
        control: bool = False,
        start: bool = True,
        **options,
    ) -> None:
        self.now = 1000.0
        self.reasons: list[SessionEnded] = []
        self._closing = False
        options.setdefault("close_timeout", CLOSE_TIMEOUT)
        self.options = RelayOptions(
            end_message=control_channel.end if control else None,
            answer=control_channel.answer,
            **options,
        )
        self.protocol = RelayProtocol(
            options=self.options, framed=framing == "websocket", early=early, lifetime=lifetime
        )
        attached = self.protocol.attach()
        self.browser = PlayedEnd(self, attached, client=True, framed=True)
        framed = framing == "websocket"
        self.host = PlayedEnd(self, self.protocol.host, client=False, framed=framed)
        if start:
            self.start()

    # what happens

    def start(self) -> None:
        self._perform(self.protocol.start(self.now))
        self.turn()

    def turn(self) -> None:
        """Once around the loop, and again as long as there is something to read."""
        while self._read(self.browser) | self._read(self.host):
            pass

    def advance(self, seconds: float) -> None:
        """Let the time pass, and wake the protocol whenever it wants to be woken."""
        until = self.now + seconds
        while self.protocol.wake_at is not None and self.protocol.wake_at <= until:
            before = self.protocol.wake_at
            self.now = max(self.now, before)
            self._perform(self.protocol.wake(self.now))
            assert self.protocol.wake_at != before, "woken for nothing"
        self.now = until

    def send_control(self, text: str) -> None:
        browser = self.browser.state
        assert isinstance(browser, BrowserState)
        self._perform(self.protocol.send_control(browser, text, self.now))

    def close(self, reason: SessionEnded) -> None:
        self._perform(self.protocol.close(reason, self.now))
        self.turn()

    def taken(self, end: PlayedEnd) -> None:
        """*end* took some of what was kept for it."""
        if end.closing and not end.unsent:
            self._perform(self._shut(end))
        else:
            drained = not end.unsent
            self._perform(self.protocol.writable(end.state, self.now, drained=drained))
        self.turn()

    def failed(self, end: PlayedEnd) -> None:
        """What was kept for *end* cannot be sent."""
        if end.closing:
            self._perform(self._shut(end))
        else:
            self._perform(self.protocol.lost(end.state, self.now, Loss.BROKEN))

    def reason(self) -> SessionEnded:
        """Why the session ended, which it has after the closing handshake's time at the latest."""
        if not self.reasons:
            self.advance(self.options.close_timeout)
        assert len(self.reasons) == 1
        assert self.reasons[0] is self.protocol.reason
        return self.reasons[0]

    # as a driver does it

    def _read(self, end: PlayedEnd) -> bool:
        if not end.reading or end.closed:
            return False
        if not end.unread:
            if end.lost is None:
                return False
            self._perform(self.protocol.lost(end.state, self.now, end.lost, "detail"))
            assert not end.reading, "read on from a connection that is lost"
            return True
        size = min(len(end.unread), end.state.read_limit)
        data, end.unread = end.unread[:size], end.unread[size:]
        _room[:size] = data
        view = memoryview(_room)
        other = self.host if end is self.browser else self.browser
        if isinstance(end.state, BrowserState):
            received: bytes | list[Action] | None = self.protocol.receive_from_browser(
                end.state, view, size, self.now
            )
        else:
            received = self.protocol.receive_from_host(view, size, self.now)
        if received is None:
            received = [Send(other.state, view[:size])]
        elif isinstance(received, bytes):
            received = [Send(other.state, received + view[:size])]
        self._perform(received)
        _room[:size] = b"\xee" * size  # whoever kept a view has this
        return True

    def _perform(self, actions: list[Action]) -> None:
        while actions:
            outcomes: list[Callable[[], list[Action]]] = []
            for action in actions:
                assert not self.reasons, f"{action} after the end"
                if isinstance(action, Ended):
                    assert self.browser.closed
                    assert self.host.closed
                    self.reasons.append(action.reason)
                    continue
                end = self.browser if action.peer is self.browser.state else self.host
                outcome = self._do(end, action)
                if outcome is not None:
                    outcomes.append(outcome)
            actions = [action for outcome in outcomes for action in outcome()]
        assert bool(self.reasons) == (self.protocol.wake_at is None)
        if self.protocol.reason is not None and not self._closing:
            self._closing = True
            assert self.reasons or self.protocol.wake_at == self.now + self.options.close_timeout

    def _do(self, end: PlayedEnd, action: Action) -> Callable[[], list[Action]] | None:
        assert not end.closed, f"{action} after Close"
        if isinstance(action, Send):
            assert not end.closing, "data after Close"
            if end.lost is Loss.BROKEN:
                return lambda: self.protocol.lost(end.state, self.now, Loss.BROKEN)
            if not end.accept(bytes(action.data)):
                return lambda: self.protocol.blocked(end.state, self.now)
        elif isinstance(action, Resume):
            assert not end.closing
            end.reading = True
        elif isinstance(action, Pause):
            end.reading = False
        elif isinstance(action, Close):
            end.reading = False
            end.closing = True
            if action.abort or not end.unsent:
                return lambda: self._shut(end)
        return None

    def _shut(self, end: PlayedEnd) -> list[Action]:
        end.closed = True
        end.unsent = b""
        return self.protocol.closed(end.state, self.now)
