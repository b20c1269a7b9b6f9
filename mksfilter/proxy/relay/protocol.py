"""A session as a protocol without I/O: events in, actions out.

Like :mod:`h11` it is given what happened and says what follows; the driver owns the sockets, the
event loop and the clock, and performs the actions in their order. It holds one
:class:`HostState` and a :class:`BrowserState` for each browser attached (today: one), and each
direction of each connection goes through three states:

* *open*: data frames pass as the bytes they are, the browser's masks included (RFC 6455 section
  5.3); the tracker of the peer that sends has judged each header before a byte of it passes.
* *close sent* / *close received*: a close frame passes as it is and so does its answer (5.5.1).
  Whatever else ends one side, the other gets a close frame of ours where one may stand: control
  frames between two frames (5.4), text of the control channel between two messages (5.6). Where a
  peer's stream stops inside a frame no such place comes any more, and it is *cut* (7.1.7).
* *closed*: both close frames went (7.1.4), or the peer was lost, or its time is over.

The session begins to close with the first reason and ends when all connections are closed. A ping
passes to the other side and so does its pong (5.5.2, 5.5.3); our own pings are known by their
payload, and the pong that repeats it goes no further. A peer that takes no more bytes is
*stalled*, and the peer that sends to it is not read until it takes them.

No object is made for bytes that go on unchanged: :meth:`RelayProtocol.receive_from_browser` and
:meth:`RelayProtocol.receive_from_host` return :data:`PASS` for them.
"""

from __future__ import annotations

import enum
import os
from typing import Final, TypeAlias, cast

from mksfilter.exceptions import (
    ClientLost,
    ClientViolation,
    RFBViolation,
    SessionEnded,
    UpstreamLost,
    UpstreamViolation,
)
from mksfilter.proxy.relay import deadlines
from mksfilter.proxy.relay.actions import Action, Close, Ended, Pause, Resume, Send
from mksfilter.proxy.relay.decoder import ClientDecoder
from mksfilter.proxy.relay.frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    ControlFrame,
    Gap,
    Piece,
    Violation,
    close_frame,
    first_payload,
    frame,
    server_header,
)
from mksfilter.proxy.relay.options import RelayOptions
from mksfilter.proxy.relay.state import (
    SMALL_READ,
    BrowserState,
    HostState,
    PeerState,
    is_decoded,
)

__all__ = ["PASS", "Loss", "RelayProtocol"]

PASS: Final = None
"""All of the bytes go to the other side as they are."""

Buffer: TypeAlias = "bytes | bytearray | memoryview"

_CONTROL_LIMIT: Final = 200  # pings and pongs of one peer in a second
_KEPT_LIMIT: Final = 64 * 1024  # bytes of the host while an RFB handshake is played
_MAX_MISSED: Final = 2
# Between events: there is nothing that could be done.
_NO_ACTIONS: Final = cast("list[Action]", ())
_PING_MARK: Final = b"mksfilter"
# Registered close codes (RFC 6455 section 7.4.1).
_GOING_AWAY: Final = 1001
_PROTOCOL_ERROR: Final = 1002
_UNSUPPORTED_DATA: Final = 1003
_POLICY_VIOLATION: Final = 1008


class Loss(enum.Enum):
    """How the connection of a peer was lost."""

    ENDED = enum.auto()
    """It closed its side."""
    BROKEN = enum.auto()
    """TCP reported an error."""
    TLS = enum.auto()
    """TLS reported an error: the peer's fault, or the connection is tampered with."""


class RelayProtocol:
    """One session on one connection to a host.

    Each event takes the time *now*, in seconds on a clock that never goes back, and returns
    actions. They are to be performed before the next event; whatever comes of them (a peer that
    does not take all, is lost, or is closed) is then the next event.

    :param options: see :class:`RelayOptions`.
    :param framed: whether the host speaks WebSocket; bytes without messages otherwise.
    :param early: what the host has sent already.
    :param lifetime: seconds after which the session ends whatever happens; None: never.
    :ivar host: the host's connection.
    :ivar browsers: those that are attached.
    :ivar reason: why the session ends, once it does.
    :ivar wake_at: when to call :meth:`wake`; None: never. Look at it after each event that
        returned actions.
    """

    __slots__ = (
        "_actions",
        "_close_by",
        "_code",
        "_ended",
        "_expires",
        "_now",
        "_options",
        "browsers",
        "host",
        "reason",
        "wake_at",
    )

    def __init__(
        self,
        *,
        options: RelayOptions,
        framed: bool = True,
        early: bytes = b"",
        lifetime: float | None = None,
    ) -> None:
        decoded = is_decoded(options, framed=framed)
        # With a control channel text could be taken for ours.
        text = options.end_message is None and not decoded
        self.host = HostState(framed=framed, early=early, text=text)
        self.browsers: tuple[BrowserState, ...] = ()
        self.reason: SessionEnded | None = None
        self.wake_at: float | None = None
        self._options = options
        self._expires = lifetime
        self._close_by = 0.0
        self._code = 0
        self._ended = False
        self._now = 0.0
        self._actions = _NO_ACTIONS  # of the event that is dealt with

    # --- who takes part ---

    def attach(self) -> BrowserState:
        """A browser joins, before the session starts.

        :returns: what names it in events and actions.
        :raises RuntimeError: one is attached already, which is all that there may be today.
        """
        if self.browsers:
            raise RuntimeError("a second browser cannot be attached to one host connection")
        framed = self.host.tracker is not None
        decoded = is_decoded(self._options, framed=framed)
        browser = BrowserState(self._options, framed=framed, decoded=decoded)
        self.browsers = (browser,)
        return browser

    def detach(self, browser: BrowserState) -> None:
        """Forget *browser*: nothing is passed to it or from it any more.

        Its end is the end of the session today (:meth:`_lost` and :meth:`_close_frame` say so), and
        :meth:`closed` calls this when it is over; the host's connection does not depend on it.
        """
        if not browser.between_frames:
            self.host.broken = True
        browser.closed = browser.close_sent = True
        browser.passes = False
        browser.decoder = None
        self.browsers = tuple(other for other in self.browsers if other is not browser)
        self._mark_passing()

    # --- events ---

    def start(self, now: float) -> list[Action]:
        """The session begins; called once, after :meth:`attach`."""
        self._begin(now)
        options, host = self._options, self.host
        if self._expires is not None:
            self._expires += now
        for browser in self.browsers:
            if browser.decoder is not None:
                browser.settle_by = now + options.stall_timeout
        for peer in self._peers():
            peer.seen = peer.pinged_at = now
            self._resume(peer)
        self.wake_at = self._next_look(now)
        if options.rfb_handshake == "missing":
            for browser in self.browsers:
                if browser.decoder is not None:
                    self._play(browser, browser.decoder, browser.decoder.play(missing=True))
        actions = self._done()
        if host.early:
            early, host.early = host.early, b""
            actions += self.receive(host, early, now)
        return actions

    # Two methods with as many lines in common: each sees objects of one class only, which is what
    # the interpreter is fast with.

    def receive_from_browser(
        self, browser: BrowserState, data: Buffer, size: int, now: float
    ) -> list[Action] | None:
        """*browser* sent the first *size* bytes of *data*.

        :returns: :data:`PASS` when they go to the host as they are; otherwise actions, which may
            hold views of *data*.
        """
        browser.received += size
        pieces = browser.tracker.feed(data, size)
        if pieces is None:
            browser.seen = now
            if browser.passes:
                return PASS
            pieces = [memoryview(data)[:size]]
        return self._take(browser, pieces, now)

    def receive_from_host(self, data: Buffer, size: int, now: float) -> bytes | list[Action] | None:
        """The host sent the first *size* bytes of *data*.

        :returns: :data:`PASS` when they go to each browser as they are; bytes when they do so
            behind these, which are the header of a frame; otherwise actions, which may hold views
            of *data*.
        """
        host = self.host
        host.received += size
        tracker = host.tracker
        if tracker is None:
            # Bytes of a host that knows no frames become one message.
            host.seen = now
            if host.passes:
                return server_header(size)
            return self._take(host, [memoryview(data)[:size]], now)
        pieces = tracker.feed(data, size)
        if tracker.flooded:
            host.read_limit = SMALL_READ
        if pieces is None:
            host.seen = now
            if host.passes:
                return PASS
            pieces = [memoryview(data)[:size]]
        return self._take(host, pieces, now)

    def receive(self, peer: PeerState, data: bytes, now: float) -> list[Action]:
        """*peer* sent *data*; as actions always, for a driver that needs no fast path."""
        if isinstance(peer, BrowserState):
            received: bytes | list[Action] | None = self.receive_from_browser(
                peer, data, len(data), now
            )
        else:
            received = self.receive_from_host(data, len(data), now)
        if received is None:
            return [Send(other, data) for other in self._others(peer)]
        if isinstance(received, bytes):
            return [Send(other, received + data) for other in self._others(peer)]
        return received

    def blocked(self, peer: PeerState, now: float) -> list[Action]:
        """*peer* did not take all that was sent to it; the driver keeps the rest."""
        self._begin(now)
        if not peer.closed:
            if peer.stalled_at is None:
                peer.stalled_at = now
            if not peer.close_sent:  # else its close frame is all that it has to say, or to hear
                for source in self._others(peer):
                    self._pause(source)
        return self._done()

    def writable(self, peer: PeerState, now: float, *, drained: bool) -> list[Action]:
        """A peer that was blocked took bytes again.

        :param drained: whether it took all of them.
        """
        self._begin(now)
        if not peer.closed:
            peer.stalled_at = None if drained else now
            if drained:
                for source in self._others(peer):
                    self._read_again(source)
        return self._done()

    def lost(
        self, peer: PeerState, now: float, how: Loss = Loss.ENDED, detail: str = ""
    ) -> list[Action]:
        """Nothing more comes from *peer*, or nothing more reaches it.

        :param detail: what TLS said.
        """
        self._begin(now)
        if not peer.closed:
            self._lost(peer, how, detail)
        return self._done()

    def closed(self, peer: PeerState, now: float) -> list[Action]:
        """The connection is closed, as :class:`Close` said."""
        self._begin(now)
        peer.gone = True
        if isinstance(peer, BrowserState):
            self.detach(peer)
        if self.host.gone and not self.browsers and self.reason is not None and not self._ended:
            self._ended = True
            self.wake_at = None
            self._actions.append(Ended(self.reason))
        return self._done()

    def wake(self, now: float) -> list[Action]:
        """The time of :attr:`wake_at` has come; sooner or later is harmless."""
        self._begin(now)
        if self.reason is None:
            reason = self._overdue(now) or self._keep_alive(now)
            if reason is None:
                self.wake_at = self._next_look(now)
            else:
                self._finish(reason)
        elif now >= self._close_by and not self._ended:
            peers = self._peers()
            for peer in peers:
                self._send_close(peer)
            for peer in peers:
                self._close(peer, abort=True)
        return self._done()

    def send_control(self, browser: BrowserState, text: str, now: float) -> list[Action]:
        """Send a message of the control channel as soon as one may stand; ignored without one."""
        self._begin(now)
        if self._options.end_message is not None and self.reason is None:
            self._inject(browser, frame(TEXT, text.encode("utf-8"), masked=False))
        return self._done()

    def close(self, reason: SessionEnded, now: float) -> list[Action]:
        """End the session; it is over within the close timeout. Harmless when it ends already."""
        self._begin(now)
        self._finish(reason)
        return self._done()

    # --- around each event ---

    def _begin(self, now: float) -> None:
        self._now = now
        self._actions = []

    def _done(self) -> list[Action]:
        self._mark_passing()
        actions, self._actions = self._actions, _NO_ACTIONS
        return actions

    def _mark_passing(self) -> None:
        """Note, for the common way of bytes, who of the peers needs nothing but it."""
        host = self.host
        # Bytes for a browser that hears nothing more, or nothing yet, do not pass.
        host.passes = bool(self.browsers) and not host.closed
        for browser in self.browsers:
            if browser.decoder is None:
                browser.passes = not (host.close_sent or browser.closed)
                if browser.close_sent:
                    host.passes = False
            else:
                browser.passes = False
                if browser.close_sent or not browser.settled or browser.listens:
                    host.passes = False

    # --- pieces of a stream ---

    def _take(self, source: PeerState, pieces: list[Piece], now: float) -> list[Action]:
        self._begin(now)
        if not source.closed:
            self._sort(source, pieces)
        return self._done()

    def _sort(self, source: PeerState, pieces: list[Piece]) -> None:
        # Pings and pongs that pass are collected: each by itself would be a TLS record and a
        # system call, and a peer that sends hundreds at once would hold up the loop.
        passing: list[bytes] = []
        for piece in pieces:
            if isinstance(piece, ControlFrame) and piece.opcode != CLOSE:
                if self._too_many(source):
                    self._violated(source, "a flood of pings or pongs", _POLICY_VIOLATION)
                    return
                if self._control(source, piece):
                    passing.append(piece.raw)
                continue
            if passing:
                self._forward(source, b"".join(passing))
                passing.clear()
            if isinstance(piece, ControlFrame):
                self._close_frame(source, piece)
            elif isinstance(piece, Violation):
                self._violated(source, piece.text, piece.code)
            elif isinstance(piece, Gap):
                self._fill_gap()
            elif source.closed:
                return
            else:
                source.seen = self._now
                self._pass(source, piece)
        if passing:
            self._forward(source, b"".join(passing))

    def _too_many(self, source: PeerState) -> bool:
        """Count a control frame. No keep-alive needs hundreds in a second."""
        if source.heard != self._now:
            source.heard = self._now
            source.controls = 0
        source.controls += 1
        return source.controls > _CONTROL_LIMIT

    def _forward(self, source: PeerState, data: bytes) -> None:
        for sink in self._others(source):
            self._send(sink, data)

    def _pass(self, source: PeerState, data: bytes | memoryview) -> None:
        """Pass data frames on, or what is made of them."""
        if not isinstance(source, BrowserState):
            for browser in self.browsers:
                if not browser.close_sent:
                    self._pass_to(browser, data)
        elif not self.host.close_sent:
            if source.decoder is None:
                self._send(self.host, data)
            else:
                self._decode(source, source.decoder, bytes(data))

    def _pass_to(self, browser: BrowserState, data: bytes | memoryview) -> None:
        decoder = browser.decoder
        if decoder is None or not decoder.listens:
            self._tell(browser, data)
            return
        decoder.hear(bytes(data))
        self._tell(browser, data)
        if decoder.listens and not browser.closed:
            self._decode(browser, decoder, b"")

    def _tell(self, browser: BrowserState, data: bytes | memoryview) -> None:
        decoder = browser.decoder
        if decoder is None or browser.settled:
            if self.host.tracker is None:
                data = server_header(len(data)) + bytes(data)
            self._send(browser, data)
            return
        self._keep(browser, data)
        if decoder.undecided:
            framed = self.host.tracker is not None
            start = first_payload(browser.kept, 4) if framed else browser.kept[:4]
            messages = decoder.decide(start)
            if messages is not None:
                self._play(browser, decoder, messages)

    def _control(self, source: PeerState, control: ControlFrame) -> bool:
        """Deal with a ping or pong; returns whether it is for the other side."""
        if control.opcode == PONG and source.ping and control.payload == source.ping:
            source.ping = b""
            return False
        if control.opcode == TEXT and isinstance(source, BrowserState):
            self._answer(source, control.payload)
            return False
        if self.host.tracker is not None:
            return True
        if control.opcode == PING and isinstance(source, BrowserState):
            self._inject(source, frame(PONG, control.payload, masked=False))
        return False

    def _answer(self, browser: BrowserState, message: bytes) -> None:
        """What a page says on the control channel is for us, and no sign of its user."""
        answer = self._options.answer(message)
        if answer is None:
            self._violated(browser, "text message", _UNSUPPORTED_DATA)
        elif self.reason is None:
            self._inject(browser, frame(TEXT, answer.encode("utf-8"), masked=False))

    # --- decoding ---

    def _decode(self, browser: BrowserState, decoder: ClientDecoder, data: bytes) -> None:
        try:
            messages, answers = decoder.feed(data)
        except RFBViolation as exc:
            self._violated(browser, str(exc), exc.close_code)
            return
        except UpstreamViolation as exc:
            self._violated(self.host, str(exc), _PROTOCOL_ERROR)
            return
        for answer in answers:
            self._send(browser, server_header(len(answer)) + answer)
        if messages and not self.host.close_sent:
            self._send(self.host, b"".join(messages))
        if browser.kept and browser.settled:
            self._release(browser)

    def _keep(self, browser: BrowserState, data: bytes | memoryview) -> None:
        """Keep what the host says until the browser has been through the handshake."""
        browser.kept += bytes(data)
        if len(browser.kept) > _KEPT_LIMIT:
            self._pause(self.host)

    def _play(self, browser: BrowserState, decoder: ClientDecoder, messages: list[bytes]) -> None:
        for message in messages:
            self._send(browser, server_header(len(message)) + message)
        self._decode(browser, decoder, b"")

    def _release(self, browser: BrowserState) -> None:
        kept, browser.kept = browser.kept, b""
        if kept and self.host.tracker is None:
            kept = server_header(len(kept)) + kept
        if kept:
            self._send(browser, kept)
        self._read_again(self.host)

    # --- sending ---

    def _send(self, sink: PeerState, data: bytes | memoryview) -> None:
        if not sink.close_sent:
            self._actions.append(Send(sink, data))

    def _inject(self, browser: BrowserState, data: bytes) -> None:
        """Send a frame of ours to the browser between two messages of the host's."""
        tracker = self.host.tracker
        if (
            tracker is None
            or self._unseen(browser)
            or (not browser.outbox and tracker.between_messages)
        ):
            self._send(browser, data)
            return
        if browser.outbox is None:
            browser.outbox = []
        browser.outbox.append(data)
        tracker.want_gap(message=True)

    @staticmethod
    def _unseen(browser: BrowserState) -> bool:
        """Whether *browser* has seen nothing of the host's yet, so that no frame of ours cuts it.

        Also true of one that broke the rules with the last byte of a handshake that was played:
        what is kept for it is never released.
        """
        return bool(browser.kept) or not browser.settled

    def _fill_gap(self) -> None:
        closing = False
        for browser in self.browsers:
            outbox, browser.outbox = browser.outbox, None
            for data in outbox or ():
                self._send(browser, data)
            if browser.pending_ping:
                ping, browser.pending_ping = browser.pending_ping, b""
                self._send(browser, ping)
            if browser.close_waits:
                browser.close_waits = False
                self._send_close(browser)
                closing = True
        if closing:
            self._send_close(self.host, _GOING_AWAY)
            self._settle()

    # --- reading ---

    def _pause(self, peer: PeerState) -> None:
        if peer.reading:
            peer.reading = False
            self._actions.append(Pause(peer))

    def _resume(self, peer: PeerState) -> None:
        if not peer.reading and not peer.closed:
            peer.reading = True
            self._actions.append(Resume(peer))

    def _read_again(self, source: PeerState) -> None:
        """Read from *source* unless it is kept back by another."""
        if any(sink.stalled_at is not None for sink in self._others(source)):
            return
        if source is self.host and any(
            browser.decoder is not None
            and browser.decoder.playing
            and len(browser.kept) > _KEPT_LIMIT
            for browser in self.browsers
        ):
            return
        self._resume(source)

    # --- the end ---

    def _finish(self, reason: SessionEnded, *, code: int = 0) -> None:
        """Tell all peers that it is over, as far as they can be told."""
        if self.reason is not None:
            return
        self._begin_closing(reason, code or reason.close_code)
        for browser in self.browsers:
            self._say_why(browser, reason)
            self._send_close(browser)
        # A host that hears of the end stops in the middle of the frame that ours has to follow.
        if not any(browser.close_waits for browser in self.browsers):
            self._send_close(self.host, _GOING_AWAY)
        self._settle()

    def _close_frame(self, source: PeerState, control: ControlFrame) -> None:
        """A close frame passes as it is; the session ends when it is answered."""
        source.close_received = True
        if self.reason is None:
            if source is not self.host:
                reason = SessionEnded(f"closed by the browser with code {control.code}")
                self._begin_closing(reason, control.code)
            else:
                reason = UpstreamLost(f"closed by the console host with code {control.code}")
                self._begin_closing(reason, control.code)
                for browser in self.browsers:
                    self._say_why(browser, reason)
        for sink in self._others(source):
            if sink.tracker is None:
                self._send_close(sink)
            elif not sink.close_sent:
                self._send(sink, control.raw)
                sink.close_sent = True
            if sink.closed or sink.close_received:
                self._send_close(source)
        self._settle()

    def _lost(self, peer: PeerState, how: Loss, detail: str = "") -> None:
        """The connection of *peer* is over, by its own doing or by an error."""
        self._close(peer, abort=True)
        if peer is not self.host:
            self._finish(ClientLost("the browser went away without a close frame"))
        elif how is Loss.TLS:
            self._finish(UpstreamViolation(f"the console host broke TLS: {detail}"))
        else:
            self._finish(UpstreamLost("the console host went away without a close frame"))
        for other in self._others(peer):
            self._send_close(other)
        self._settle()

    def _violated(self, peer: PeerState, text: str, code: int) -> None:
        if self.reason is not None:
            self._lost(peer, Loss.BROKEN)
        elif peer is not self.host:
            self._finish(ClientViolation(f"the browser broke the protocol: {text}"), code=code)
        else:
            self._send_close(peer, code)
            self._finish(UpstreamViolation(f"the console host broke the protocol: {text}"))

    def _begin_closing(self, reason: SessionEnded, code: int) -> None:
        self.reason = reason
        self._code = code
        self._close_by = self.wake_at = self._now + self._options.close_timeout

    def _say_why(self, browser: BrowserState, reason: SessionEnded) -> None:
        if self._options.end_message is not None:
            text = self._options.end_message(reason).encode("utf-8")
            self._inject(browser, frame(TEXT, text, masked=False))

    def _send_close(self, peer: PeerState, code: int = 0) -> None:
        """Send a close frame now, or at the next place for one, or never when none will come."""
        if peer.close_sent:
            return
        if isinstance(peer, BrowserState):
            self._send_close_to_browser(peer, code or self._code)
        elif peer.tracker is None:
            peer.close_sent = peer.close_received = True  # a stream of bytes has no close frame
        elif self.host.broken or not all(browser.between_frames for browser in self.browsers):
            peer.cut = True
        else:
            self._send(peer, close_frame(code or self._code, masked=True))
            peer.close_sent = True

    def _send_close_to_browser(self, browser: BrowserState, code: int) -> None:
        tracker = self.host.tracker
        uncut = self._unseen(browser) or tracker is None or tracker.between_frames
        last = tracker is None or self.host.closed or tracker.closed
        if uncut and (last or not browser.outbox):
            slug = self.reason.reason if self.reason is not None else ""
            self._send(browser, close_frame(code, slug, masked=False))
            browser.close_sent = True
        elif last or tracker is None:
            browser.cut = True
        else:
            browser.close_waits = True
            tracker.want_gap(message=bool(browser.outbox))

    def _settle(self) -> None:
        """Close what has nothing more to say or to hear."""
        if self.reason is None:
            return
        for peer in self._peers():
            if peer.closed:
                continue
            if peer.cut or (peer.close_sent and peer.close_received):
                self._close(peer, abort=False)
                continue
            for other in self._others(peer):
                if not other.close_sent:
                    break
            else:
                # Only to see its close frame: data goes nowhere any more.
                self._resume(peer)

    def _close(self, peer: PeerState, *, abort: bool) -> None:
        """Close the connection; nothing more is said to it or heard from it."""
        if not peer.gone and (abort or not peer.closed):
            peer.closed = peer.close_sent = True
            peer.reading = False
            peer.stalled_at = None
            self._actions.append(Close(peer, abort))

    # --- clocks ---

    def _overdue(self, now: float) -> SessionEnded | None:
        return deadlines.overdue(now, self._options, self.browsers, self.host, self._expires)

    def _next_look(self, now: float) -> float:
        return deadlines.next_look(now, self._options, self.browsers, self.host, self._expires)

    def _keep_alive(self, now: float) -> SessionEnded | None:
        """Send the pings that are due; returns why the session has to end, if a peer is silent."""
        for peer, interval in deadlines.pinged(self._options, self.browsers, self.host):
            if now < peer.pinged_at + interval:
                continue
            # Whatever came since the last ping is a sign of life, be it a pong or not. The clock
            # is coarse: what came within its tick counts as after the ping.
            silent = peer.ping and max(peer.seen, peer.heard) < peer.pinged_at
            peer.missed = peer.missed + 1 if silent else 0
            if peer.missed >= _MAX_MISSED:
                if peer is not self.host:
                    return ClientLost("the browser does not answer pings")
                return UpstreamLost("the console host does not answer pings")
            peer.pinged_at = now
            if peer.stalled_at is not None:
                continue  # the ping would wait behind what it does not read
            self._ping(peer)
        return None

    def _ping(self, peer: PeerState) -> None:
        payload = _PING_MARK + os.urandom(4)
        peer.ping = payload
        data = frame(PING, payload, masked=peer is self.host)
        if isinstance(peer, BrowserState):
            tracker = self.host.tracker
            if tracker is None or tracker.between_frames:
                self._send(peer, data)
            else:
                peer.pending_ping = data
                tracker.want_gap(message=False)
        elif all(browser.between_frames for browser in self.browsers):
            self._send(peer, data)

    # --- helpers ---

    def _peers(self) -> tuple[PeerState, ...]:
        return (*self.browsers, self.host)

    def _others(self, peer: PeerState) -> tuple[PeerState, ...]:
        return self.browsers if peer is self.host else (self.host,)
