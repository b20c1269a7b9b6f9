"""The relay: two connections, and callbacks of the event loop between them.

No greenlet belongs to a session, since a suspended one costs more memory than all of the rest. Each
connection has a watcher for reading; when it fires, one bounded read is taken, its frames are
followed, and it is sent to the other side as the bytes they are. What the other side does not take
at once is kept, and nothing more is read until it is gone. One read per callback makes the loop's
own order the fairness between sessions.

Rules of the stream (RFC 6455):

* Frames of data pass as they are; the browser's masks are good for the host.
* A close frame passes as it is, and the answer passes back. Whatever else ends one side, the other
  gets a close frame of ours at the next place where one may stand. Both are shut after their
  closing handshake or a short deadline, whichever is first.
* Pings of the host pass to the browser and its pongs back. Our own pings are known by their
  payload, and the pong that repeats it goes no further; all other pongs pass.
* Text frames of the control channel stand between messages, never inside one.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import ssl
from collections.abc import Callable
from typing import Any, Final

import gevent

from mksfilter.exceptions import (
    ClientLost,
    ClientViolation,
    IdleTimeout,
    LifetimeReached,
    RelayFailed,
    SessionEnded,
    SlowReader,
    UpstreamLost,
    UpstreamViolation,
)
from mksfilter.proxy import control as control_channel
from mksfilter.proxy.decoding import ClientDecoder
from mksfilter.proxy.frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    ControlFrame,
    FrameTracker,
    Gap,
    Piece,
    Violation,
    close_frame,
    first_payload,
    frame,
    server_header,
)
from mksfilter.proxy.rfb import RFBViolation
from mksfilter.proxy.timers import shared_wheel
from mksfilter.proxy.transport import BUFFER_SIZE, ROOM, Transport
from mksfilter.proxy.upstream import Upstream

__all__ = ["Relay", "RelayOptions"]

_log = logging.getLogger(__name__)

_READ: Final = 1
_WRITE: Final = 2
_HEADROOM: Final = 16  # for the header of a frame made around what was read
_CLIENT_LIMIT: Final = 8 * 1024  # bounds the time that a flood of tiny frames takes
_CONTROL_LIMIT: Final = 200  # pings and pongs of one side in a second
_EARLY_LIMIT: Final = 64 * 1024
_GOING_AWAY: Final = 1001
_MAX_MISSED: Final = 2
_PING_MARK: Final = b"mksfilter"

_buffer = bytearray(_HEADROOM + ROOM)
_room = memoryview(_buffer)[_HEADROOM:]
_views = memoryview(_buffer)


@dataclasses.dataclass(frozen=True)
class RelayOptions:
    """What is the same for many sessions; share one object among them.

    :param view_only: keys, pointer and clipboard of the browser do not pass.
    :param control: the browser speaks ``mks.v1``.
    :param rfb_handshake: of the display stream: ``full``, ``missing``, or ``auto``.
    :param stall_timeout: seconds for which a peer may refuse to read.
    :param idle_timeout: seconds without data from the browser; 0: no limit.
    :param ping_interval: seconds between pings to the browser; 0: none.
    :param upstream_ping_interval: the same towards the host.
    :param close_timeout: seconds for the closing handshake.
    """

    view_only: bool = False
    control: bool = False
    rfb_handshake: str = "full"
    stall_timeout: float = 60.0
    idle_timeout: float = 0.0
    ping_interval: float = 30.0
    upstream_ping_interval: float = 0.0
    close_timeout: float = 2.0


class _Side:
    """One of the two connections, and what it has said and heard."""

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
        self.tracker = tracker  # of the frames this side sends; None for a stream of bytes
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

    def tracker_between_frames(self) -> bool:
        """Whether all that this side sent, and that was passed on, are whole frames."""
        return self.tracker is None or self.tracker.between_frames


class Relay:
    """One session, from :meth:`start` to *on_end*.

    :param client: the browser's connection, its WebSocket handshake done.
    :param upstream: the host's, with what it has sent already.
    :param options: see :class:`RelayOptions`.
    :param on_end: called once, in a greenlet of its own, when both connections are closed.
    :param lifetime: seconds after which the session ends whatever happens; None: never.
    """

    __slots__ = (
        "__weakref__",
        "_client",
        "_code",
        "_deadline",
        "_decoder",
        "_early",
        "_expires",
        "_farewell",
        "_on_end",
        "_options",
        "_outbox",
        "_ping",
        "_upstream",
        "_wheel",
        "reason",
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
    ) -> None:
        framed = upstream.framing == "websocket"
        self.slot = 0
        self.reason: SessionEnded | None = None
        self._options = options
        self._on_end: Callable[[Relay, SessionEnded], object] | None = on_end
        self._wheel = shared_wheel()
        self._expires = lifetime
        self._deadline = 0.0
        self._outbox: list[bytes] | None = None
        self._ping = b""  # one of ours that waits for a gap
        self._farewell = False  # a close frame to the browser waits for a gap
        self._code = 0
        self._early = upstream.early
        self._decoder: ClientDecoder | None = None
        if options.view_only or not framed or options.rfb_handshake != "full":
            self._decoder = ClientDecoder(
                framed=framed, view_only=options.view_only, handshake=options.rfb_handshake
            )
        # With a control channel a text frame from the host could pass for one of ours.
        text = not options.control and self._decoder is None
        self._client = _Side(client, FrameTracker(masked=True, text=text), _CLIENT_LIMIT)
        tracker = FrameTracker(masked=False, text=text) if framed else None
        self._upstream = _Side(upstream.transport, tracker, BUFFER_SIZE)

    # --- what its owner may do and see ---

    @property
    def bytes_in(self) -> int:
        """Bytes received from the browser, frame headers included."""
        return self._client.received

    @property
    def bytes_out(self) -> int:
        """Bytes received from the console host for the browser."""
        return self._upstream.received

    @property
    def last_activity(self) -> float:
        """Monotonic time of the last data from the browser, to the second."""
        return self._client.seen

    def start(self) -> None:
        """Begin; called once, in a greenlet or in the hub."""
        wheel = self._wheel
        wheel.schedule(self, 0)
        now = wheel.now
        options = self._options
        self._deadline = now + options.stall_timeout  # for the decoder to know what it is in
        if self._expires is not None:
            self._expires += now
        for side, _ in self._sides():
            side.seen = side.pinged_at = now
        wheel.schedule(self, self._next_due(now))
        try:
            for side, other in self._sides():
                self._resume(side, other)
            if self._decoder is not None and options.rfb_handshake == "missing":
                self._play(self._decoder.play(missing=True))
            if self._early:
                early, self._early = self._early, b""
                self._take(self._upstream, self._client, early, len(early))
        except Exception as exc:
            self._fail(exc)

    def send_control(self, text: str) -> None:
        """Send a message of the control channel as soon as one may stand; ignored without one."""
        if self._options.control and self.reason is None:
            self._inject(frame(TEXT, text.encode("utf-8"), masked=False))

    def close(self, reason: SessionEnded) -> None:
        """End the session; *on_end* follows within the close timeout. Harmless when it is over."""
        try:
            self._finish(reason)
        except Exception as exc:
            self._fail(exc)

    # --- events ---

    def _readable(self, source: _Side, sink: _Side) -> None:
        try:
            try:
                size = source.transport.receive(_room, source.limit)
            except OSError as exc:
                self._lost(source, exc)
                return
            if size > 0:
                self._take(source, sink, _room, size)
            if (size == 0 or source.transport.ended) and not source.shut:
                self._lost(source, None)
        except Exception as exc:
            self._fail(exc)

    def _take(self, source: _Side, sink: _Side, data: bytes | memoryview, size: int) -> None:
        """Deal with *size* bytes of *data* from *source*."""
        source.received += size
        tracker = source.tracker
        if tracker is None:
            self._take_stream(data, size)
            return
        pieces = tracker.feed(data, size)
        if pieces is not None:
            self._sort(source, sink, pieces)
            return
        source.seen = self._wheel.now
        if self._decoder is None and not sink.close_sent:
            try:
                if not sink.transport.send(data[:size]):
                    self._hold(source, sink)
            except OSError as exc:
                self._lost(sink, exc)
        else:
            self._sort(source, sink, [memoryview(data)[:size]])

    def _writable(self, sink: _Side, source: _Side) -> None:
        try:
            try:
                drained = sink.transport.flush()
            except OSError as exc:
                self._lost(sink, exc)
                return
            sink.stalled_at = self._wheel.now
            if drained:
                sink.writer.stop()
                sink.stalled_at = 0.0
                if not source.shut and not self._held_back(source):
                    self._resume(source, sink)
                if self.reason is not None:
                    self._settle()
        except Exception as exc:
            self._fail(exc)

    def on_timer(self, now: float) -> float | None:
        """Called by the wheel."""
        try:
            return self._check_clocks(now)
        except Exception as exc:
            self._fail(exc)
            return None

    # --- pieces of a stream ---

    def _sort(self, source: _Side, sink: _Side, pieces: list[Piece]) -> None:
        # Pings and pongs that pass are collected: each by itself would be a TLS record and a
        # system call, and whoever sends hundreds at once would have the loop for himself.
        passing: list[bytes] = []
        for piece in pieces:
            if isinstance(piece, ControlFrame) and piece.opcode != CLOSE:
                if self._too_many(source):
                    self._violated(source, "a flood of pings or pongs", 1008)
                    return
                if self._control(source, sink, piece):
                    passing.append(piece.raw)
                continue
            if passing:
                self._send(sink, b"".join(passing))
                passing.clear()
            if isinstance(piece, ControlFrame):
                self._closed(source, sink, piece)
            elif isinstance(piece, Violation):
                self._violated(source, piece.text, piece.code)
            elif isinstance(piece, Gap):
                self._fill_gap()
            elif source.shut:
                return
            else:
                source.seen = self._wheel.now
                self._pass(source, sink, piece)
        if passing:
            self._send(sink, b"".join(passing))

    def _too_many(self, source: _Side) -> bool:
        """Count a control frame. Nobody's keep-alive needs hundreds in a second."""
        now = self._wheel.now
        if source.heard != now:
            source.heard = now
            source.controls = 0
        source.controls += 1
        return source.controls > _CONTROL_LIMIT

    def _pass(self, source: _Side, sink: _Side, data: bytes | memoryview) -> None:
        """Pass data frames on, or what is made of them."""
        if sink.close_sent:
            return
        decoder = self._decoder
        if decoder is None or (source is self._upstream and not decoder.undecided):
            if decoder is not None and decoder.playing:
                self._keep(data)
            else:
                self._send(sink, data)
        elif source is self._upstream:
            self._keep(data)
            start = first_payload(self._early, 4)
            self._decide(decoder, start)
        else:
            self._decode(decoder, bytes(data))

    def _take_stream(self, data: bytes | memoryview, size: int) -> None:
        """Bytes of a host that knows no frames become one message."""
        self._upstream.seen = self._wheel.now
        decoder = self._decoder
        if decoder is None or self._client.close_sent:
            return
        if decoder.undecided or decoder.playing:
            self._keep(memoryview(data)[:size])
            if decoder.undecided:
                self._decide(decoder, self._early[:4])
            return
        header = server_header(size)
        if data is _room:
            start = _HEADROOM - len(header)
            _views[start:_HEADROOM] = header
            self._send(self._client, _views[start : _HEADROOM + size])
        else:
            self._send(self._client, header + bytes(memoryview(data)[:size]))

    def _control(self, source: _Side, sink: _Side, control: ControlFrame) -> bool:
        """Deal with a ping or pong; returns whether it is for the other side."""
        if control.opcode == PONG and source.ping and control.payload == source.ping:
            source.ping = b""
            return False
        if sink.tracker is None and control.opcode == PING:
            self._inject(frame(PONG, control.payload, masked=False))
        return sink.tracker is not None

    # --- decoding ---

    def _decode(self, decoder: ClientDecoder, data: bytes) -> None:
        try:
            messages, answers = decoder.feed(data)
        except RFBViolation as exc:
            self._violated(self._client, str(exc), 1009 if "more than" in str(exc) else 1008)
            return
        for answer in answers:
            self._send(self._client, server_header(len(answer)) + answer)
        if messages and not self._upstream.close_sent:
            self._send(self._upstream, b"".join(messages))
        settled = not (decoder.playing or decoder.undecided)
        if settled and (self._early or not self._upstream.reading):
            self._release()

    def _keep(self, data: bytes | memoryview) -> None:
        """Keep what the host says until the browser has been through the handshake."""
        self._early += bytes(data)
        decoder = self._decoder
        if len(self._early) > _EARLY_LIMIT or (decoder is not None and decoder.playing):
            self._pause(self._upstream)

    def _decide(self, decoder: ClientDecoder, start: bytes) -> None:
        messages = decoder.decide(start)
        if messages is not None:
            self._play(messages)

    def _play(self, messages: list[bytes]) -> None:
        decoder = self._decoder
        assert decoder is not None
        if decoder.playing:
            self._pause(self._upstream)
        for message in messages:
            self._send(self._client, server_header(len(message)) + message)
        self._decode(decoder, b"")

    def _release(self) -> None:
        kept, self._early = self._early, b""
        if kept and self._upstream.tracker is None:
            kept = server_header(len(kept)) + kept
        if kept:
            self._send(self._client, kept)
        if not self._client.stalled_at:
            self._resume(self._upstream, self._client)

    def _held_back(self, side: _Side) -> bool:
        """Whether *side* is not to be read although the other one reads."""
        decoder = self._decoder
        return side is self._upstream and decoder is not None and decoder.playing

    # --- sending ---

    def _send(self, sink: _Side, data: bytes | memoryview) -> None:
        if sink.close_sent:
            return
        try:
            if not sink.transport.send(data):
                self._hold(self._other(sink), sink)
        except OSError as exc:
            self._lost(sink, exc)

    def _hold(self, source: _Side, sink: _Side) -> None:
        """*sink* does not take more: read no more from *source* until it does."""
        self._pause(source)
        if sink.stalled_at:
            return
        if sink.writer is None:
            sink.writer = gevent.get_hub().loop.io(sink.transport.fd, _WRITE)
        sink.writer.start(self._writable, sink, source)
        sink.stalled_at = self._wheel.now

    def _pause(self, side: _Side) -> None:
        if side.reading:
            side.reading = False
            side.reader.stop()

    def _resume(self, side: _Side, other: _Side) -> None:
        if not side.reading and not side.shut:
            if side.reader is None:
                side.reader = gevent.get_hub().loop.io(side.transport.fd, _READ)
            side.reading = True
            side.reader.start(self._readable, side, other)

    def _inject(self, data: bytes) -> None:
        """Send a frame of ours to the browser between two messages of the host's."""
        tracker = self._upstream.tracker
        if tracker is None or (not self._outbox and tracker.between_messages):
            self._send(self._client, data)
            return
        if self._outbox is None:
            self._outbox = []
        self._outbox.append(data)
        tracker.want_gap(message=True)

    def _fill_gap(self) -> None:
        outbox, self._outbox = self._outbox, None
        for data in outbox or ():
            self._send(self._client, data)
        if self._ping:
            ping, self._ping = self._ping, b""
            self._send(self._client, ping)
        if self._farewell:
            self._farewell = False
            self._send_close(self._client)
            self._send_close(self._upstream, _GOING_AWAY)
            self._settle()

    # --- the end ---

    def _finish(self, reason: SessionEnded, *, code: int = 0) -> None:
        """Tell both sides that it is over, as far as they can be told."""
        if self.reason is not None:
            return
        self._begin_closing(reason, code or reason.close_code)
        self._say_why(reason)
        self._send_close(self._client)
        # A host that hears of the end stops in the middle of the frame that ours has to follow.
        if not self._farewell:
            self._send_close(self._upstream, _GOING_AWAY)
        self._settle()

    def _closed(self, source: _Side, sink: _Side, control: ControlFrame) -> None:
        """A close frame passes as it is; the session ends when it is answered."""
        source.close_received = True
        if self.reason is None:
            if source is self._client:
                reason = SessionEnded(f"closed by the browser with code {control.code}")
                self._begin_closing(reason, control.code)
            else:
                reason = UpstreamLost(f"closed by the console host with code {control.code}")
                self._begin_closing(reason, control.code)
                self._say_why(reason)
        if sink.tracker is None:
            self._send_close(sink)
        elif not sink.close_sent:
            self._send(sink, control.raw)
            sink.close_sent = True
        if sink.shut or sink.close_received:
            self._send_close(source)
        self._settle()

    def _lost(self, side: _Side, exc: OSError | None) -> None:
        """The connection of *side* is over, by its own doing or by an error."""
        self._shut(side)
        if side is self._client:
            self._finish(ClientLost("the browser went away without a close frame"))
        elif isinstance(exc, ssl.SSLError):
            self._finish(UpstreamViolation(f"the console host broke TLS: {exc.reason or exc}"))
        else:
            self._finish(UpstreamLost("the console host went away without a close frame"))
        self._send_close(self._other(side))
        self._settle()

    def _violated(self, side: _Side, text: str, code: int) -> None:
        if self.reason is not None:
            self._lost(side, None)
        elif side is self._client:
            self._finish(ClientViolation(f"the browser broke the protocol: {text}"), code=code)
        else:
            self._send_close(side, code)
            self._finish(UpstreamViolation(f"the console host broke the protocol: {text}"))

    def _fail(self, exc: Exception) -> None:
        """A fault of ours: the session ends, the others do not notice."""
        # Logging may wait for a lock, which the hub must not.
        gevent.spawn(_log.error, "event=relay-failed", exc_info=exc)
        if self.reason is None:
            self.reason = RelayFailed(f"{type(exc).__name__} in the relay")
        self._cut()

    def _begin_closing(self, reason: SessionEnded, code: int) -> None:
        self.reason = reason
        self._code = code
        self._deadline = self._wheel.now + self._options.close_timeout
        self._wheel.schedule(self, self._deadline)

    def _say_why(self, reason: SessionEnded) -> None:
        if self._options.control:
            text = control_channel.end(reason).encode("utf-8")
            self._inject(frame(TEXT, text, masked=False))

    def _send_close(self, side: _Side, code: int = 0) -> None:
        """Send a close frame now, or at the next place for one, or never when none will come."""
        if side.close_sent:
            return
        if side.tracker is None:
            side.close_sent = side.close_received = True  # a stream of bytes has no goodbye
            return
        code = code or self._code
        if side is self._upstream:
            if self._decoder is not None or self._client.tracker_between_frames():
                self._send(side, close_frame(code, masked=True))
                side.close_sent = True
            else:
                side.cut = True
            return
        upstream = self._upstream
        decoder, tracker = self._decoder, upstream.tracker
        unseen = decoder is not None and (decoder.undecided or decoder.playing)
        last = tracker is None or upstream.shut or tracker.closed
        if (unseen or tracker is None or tracker.between_frames) and (last or not self._outbox):
            slug = self.reason.reason if self.reason is not None and code != 1005 else ""
            self._send(side, close_frame(code, slug, masked=False))
            side.close_sent = True
        elif last or tracker is None:
            side.cut = True
        else:
            self._farewell = True
            tracker.want_gap(message=bool(self._outbox))

    def _settle(self) -> None:
        """Close what has nothing more to say or to hear."""
        if self.reason is None:
            return
        for side, other in self._sides():
            if side.shut:
                continue
            done = side.cut or (side.close_sent and side.close_received)
            if done and not side.transport.unsent:
                self._shut(side)
            elif other.close_sent:
                self._resume(side, other)  # to see its close frame; data goes nowhere
        if self._client.shut and self._upstream.shut:
            self._over()

    def _shut(self, side: _Side) -> None:
        if side.shut:
            return
        side.shut = side.close_sent = True  # nothing more is sent there
        side.reading = False
        for watcher in (side.reader, side.writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        side.reader = side.writer = None
        side.stalled_at = 0.0
        side.transport.close()

    def _cut(self) -> None:
        """Close both connections now."""
        for side, _ in self._sides():
            self._shut(side)
        self._over()

    def _over(self) -> None:
        self._wheel.cancel(self)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            assert self.reason is not None
            self._decoder = None
            gevent.spawn(on_end, self, self.reason)

    # --- clocks ---

    def _check_clocks(self, now: float) -> float | None:
        if self.reason is None:
            reason = self._overdue(now) or self._keep_alive(now)
            if reason is None:
                return self._next_due(now)
            self._finish(reason)
        elif now >= self._deadline:
            for side, _ in self._sides():
                self._send_close(side)
            self._cut()
            return None
        return self._deadline

    def _overdue(self, now: float) -> SessionEnded | None:
        """Why the session has to end now, if it has to."""
        options, client, upstream = self._options, self._client, self._upstream
        patience = options.stall_timeout
        if self._expires is not None and now >= self._expires:
            return LifetimeReached("the session reached the end of its lifetime")
        if client.stalled_at and now - client.stalled_at >= patience:
            return SlowReader(f"the browser read nothing for {patience:g} s")
        if upstream.stalled_at and now - upstream.stalled_at >= patience:
            return UpstreamLost(f"the console host read nothing for {patience:g} s")
        if options.idle_timeout and now - client.seen >= options.idle_timeout:
            return IdleTimeout(f"no data from the browser for {options.idle_timeout:g} s")
        decoder = self._decoder
        if decoder is not None and now >= self._deadline:
            if decoder.undecided:
                return UpstreamLost(f"the console host said nothing for {patience:g} s")
            if decoder.playing:
                return ClientLost(f"the browser did not shake hands for {patience:g} s")
        return None

    def _keep_alive(self, now: float) -> SessionEnded | None:
        """Send the pings that are due; returns why the session has to end, if nobody answers."""
        for side, interval in self._pinged():
            if now < side.pinged_at + interval:
                continue
            # Whatever came since the last ping is a sign of life, be it a pong or not. The clock
            # is coarse: what came within its tick counts as after the ping.
            silent = side.ping and max(side.seen, side.heard) < side.pinged_at
            side.missed = side.missed + 1 if silent else 0
            if side.missed >= _MAX_MISSED:
                if side is self._client:
                    return ClientLost("the browser does not answer pings")
                return UpstreamLost("the console host does not answer pings")
            side.pinged_at = now
            if side.stalled_at:
                continue  # the ping would wait behind what it does not read
            payload = _PING_MARK + os.urandom(4)
            side.ping = payload
            data = frame(PING, payload, masked=side is self._upstream)
            if side is self._client:
                tracker = self._upstream.tracker
                if tracker is None or tracker.between_frames:
                    self._send(side, data)
                else:
                    self._ping = data
                    tracker.want_gap(message=False)
            elif self._decoder is not None or self._client.tracker_between_frames():
                self._send(side, data)
        return None

    def _pinged(self) -> list[tuple[_Side, float]]:
        options = self._options
        pinged = [(self._client, options.ping_interval)] if options.ping_interval else []
        if options.upstream_ping_interval and self._upstream.tracker is not None:
            pinged.append((self._upstream, options.upstream_ping_interval))
        return pinged

    def _next_due(self, now: float) -> float:
        # A stall that begins after this look is seen in time: nothing waits longer than its limit.
        due = now + self._options.stall_timeout
        for side, _ in self._sides():
            if side.stalled_at:
                due = min(due, side.stalled_at + self._options.stall_timeout)
        if self._expires is not None:
            due = min(due, self._expires)
        if self._options.idle_timeout:
            due = min(due, self._client.seen + self._options.idle_timeout)
        for side, interval in self._pinged():
            due = min(due, side.pinged_at + interval)
        return due

    # --- helpers ---

    def _sides(self) -> tuple[tuple[_Side, _Side], tuple[_Side, _Side]]:
        return (self._client, self._upstream), (self._upstream, self._client)

    def _other(self, side: _Side) -> _Side:
        return self._upstream if side is self._client else self._client
