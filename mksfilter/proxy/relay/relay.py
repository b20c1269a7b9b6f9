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

import logging
import os
import ssl
from collections.abc import Callable
from typing import Final

import gevent

from mksfilter.exceptions import (
    ClientLost,
    ClientViolation,
    RelayFailed,
    SessionEnded,
    UpstreamLost,
    UpstreamViolation,
)
from mksfilter.proxy.console import control_channel as control_channel
from mksfilter.proxy.relay import deadlines
from mksfilter.proxy.relay.decoder import ClientDecoder
from mksfilter.proxy.relay.frames import (
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
from mksfilter.proxy.relay.options import RelayOptions
from mksfilter.proxy.relay.peer import Side
from mksfilter.proxy.relay.rfb import RFBViolation
from mksfilter.proxy.relay.timers import shared_wheel
from mksfilter.proxy.relay.transport import BUFFER_SIZE, ROOM, Transport, Upstream

__all__ = ["Relay", "RelayOptions"]

_log = logging.getLogger(__name__)

_HEADROOM: Final = 16  # for the header of a frame made around what was read
_SMALL_READ: Final = 8 * 1024  # bounds the time that a flood of tiny frames takes
_CONTROL_LIMIT: Final = 200  # pings and pongs of one side in a second
_EARLY_LIMIT: Final = 64 * 1024
_GOING_AWAY: Final = 1001
_MAX_MISSED: Final = 2
_PING_MARK: Final = b"mksfilter"

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
        self._client = Side(client, FrameTracker(masked=True, text=text), _SMALL_READ)
        tracker = FrameTracker(masked=False, text=text) if framed else None
        self._upstream = Side(upstream.transport, tracker, BUFFER_SIZE)

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
        wheel.schedule(self, self._next_look(now))
        try:
            for side, other in self._sides():
                side.resume(self._readable, side, other)
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

    def _readable(self, source: Side, sink: Side) -> None:
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

    def _take(self, source: Side, sink: Side, data: bytes | memoryview, size: int) -> None:
        """Deal with *size* bytes of *data* from *source*."""
        source.received += size
        tracker = source.tracker
        if tracker is None:
            self._take_stream(data, size)
            return
        pieces = tracker.feed(data, size)
        if tracker.crowded:
            source.limit = _SMALL_READ
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

    def _writable(self, sink: Side, source: Side) -> None:
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
                    source.resume(self._readable, source, sink)
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

    def _sort(self, source: Side, sink: Side, pieces: list[Piece]) -> None:
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

    def _too_many(self, source: Side) -> bool:
        """Count a control frame. Nobody's keep-alive needs hundreds in a second."""
        now = self._wheel.now
        if source.heard != now:
            source.heard = now
            source.controls = 0
        source.controls += 1
        return source.controls > _CONTROL_LIMIT

    def _pass(self, source: Side, sink: Side, data: bytes | memoryview) -> None:
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

    def _control(self, source: Side, sink: Side, control: ControlFrame) -> bool:
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
        if len(self._early) > _EARLY_LIMIT:
            self._upstream.pause()

    def _decide(self, decoder: ClientDecoder, start: bytes) -> None:
        messages = decoder.decide(start)
        if messages is not None:
            self._play(messages)

    def _play(self, messages: list[bytes]) -> None:
        decoder = self._decoder
        assert decoder is not None
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
            self._upstream.resume(self._readable, self._upstream, self._client)

    def _held_back(self, side: Side) -> bool:
        """Whether *side* is not to be read although the other one reads."""
        decoder = self._decoder
        playing = decoder is not None and decoder.playing
        return side is self._upstream and playing and len(self._early) > _EARLY_LIMIT

    # --- sending ---

    def _send(self, sink: Side, data: bytes | memoryview) -> None:
        if sink.close_sent:
            return
        try:
            if not sink.transport.send(data):
                self._hold(self._other(sink), sink)
        except OSError as exc:
            self._lost(sink, exc)

    def _hold(self, source: Side, sink: Side) -> None:
        """*sink* does not take more: read no more from *source* until it does."""
        source.pause()
        sink.stall(self._wheel.now, self._writable, sink, source)

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

    def _closed(self, source: Side, sink: Side, control: ControlFrame) -> None:
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

    def _lost(self, side: Side, exc: OSError | None) -> None:
        """The connection of *side* is over, by its own doing or by an error."""
        side.shut_down()
        if side is self._client:
            self._finish(ClientLost("the browser went away without a close frame"))
        elif isinstance(exc, ssl.SSLError):
            self._finish(UpstreamViolation(f"the console host broke TLS: {exc.reason or exc}"))
        else:
            self._finish(UpstreamLost("the console host went away without a close frame"))
        self._send_close(self._other(side))
        self._settle()

    def _violated(self, side: Side, text: str, code: int) -> None:
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

    def _send_close(self, side: Side, code: int = 0) -> None:
        """Send a close frame now, or at the next place for one, or never when none will come."""
        if side.close_sent:
            return
        if side.tracker is None:
            side.close_sent = side.close_received = True  # a stream of bytes has no goodbye
            return
        code = code or self._code
        if side is self._upstream:
            if self._decoder is not None or self._client.between_frames:
                self._send(side, close_frame(code, masked=True))
                side.close_sent = True
            else:
                side.cut = True
            return
        upstream = self._upstream
        decoder, tracker = self._decoder, upstream.tracker
        # What is kept has not begun to be seen: nothing of the host's is cut by a frame of ours.
        unseen = self._early or (decoder is not None and (decoder.undecided or decoder.playing))
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
                side.shut_down()
            elif other.close_sent:
                # Only to see its close frame: data goes nowhere any more.
                side.resume(self._readable, side, other)
        if self._client.shut and self._upstream.shut:
            self._over()

    def _cut(self) -> None:
        """Close both connections now."""
        for side, _ in self._sides():
            side.shut_down()
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
                return self._next_look(now)
            self._finish(reason)
        elif now >= self._deadline:
            for side, _ in self._sides():
                self._send_close(side)
            self._cut()
            return None
        return self._deadline

    def _overdue(self, now: float) -> SessionEnded | None:
        if self._decoder is not None and now >= self._deadline:
            reason = deadlines.unsettled(self._decoder, self._options.stall_timeout)
            if reason is not None:
                return reason
        return deadlines.overdue(now, self._options, self._client, self._upstream, self._expires)

    def _next_look(self, now: float) -> float:
        return deadlines.next_look(now, self._options, self._client, self._upstream, self._expires)

    def _keep_alive(self, now: float) -> SessionEnded | None:
        """Send the pings that are due; returns why the session has to end, if nobody answers."""
        for side, interval in deadlines.pinged(self._options, self._client, self._upstream):
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
            elif self._decoder is not None or self._client.between_frames:
                self._send(side, data)
        return None

    # --- helpers ---

    def _sides(self) -> tuple[tuple[Side, Side], tuple[Side, Side]]:
        return (self._client, self._upstream), (self._upstream, self._client)

    def _other(self, side: Side) -> Side:
        return self._upstream if side is self._client else self._client
