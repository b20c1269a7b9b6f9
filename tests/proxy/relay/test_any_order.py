"""Whatever the two ends, the clock and the owner of a session do, and in whatever order: each end
hears a valid stream of what the other said, and the session ends once and in time."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mksfilter import exceptions
from mksfilter.proxy.relay.frames import BINARY, PING, FrameTracker, Violation, frame
from mksfilter.proxy.relay.protocol import Loss
from tests.proxy.relay.session import CLOSE_TIMEOUT, PlayedEnd, Session
from tests.proxy.relay.test_frames import raw_frame

STALL, IDLE, LIFETIME = 60.0, 500.0, 900.0

ends = st.sampled_from(["browser", "host"])
payloads = st.binary(max_size=200) | st.sampled_from([bytes(70_000), bytes(300_000)])


class AnyOrder(RuleBasedStateMachine):
    """A session whose ends keep to RFC 6455, except where a rule says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.session: Session | None = None
        # What each end has begun to say and not finished, and all the payload that it said.
        self.begun = {"browser": b"", "host": b""}
        self.said = {"browser": b"", "host": b""}
        self.fragmented = {"browser": False, "host": False}
        self.clean = True

    @initialize(control=st.booleans(), framed=st.booleans(), pings=st.booleans())
    def begin(self, control, framed, pings):
        self.session = Session(
            control=control,
            framing="websocket" if framed else "bytes",
            stall_timeout=STALL,
            idle_timeout=IDLE,
            lifetime=LIFETIME,
            upstream_ping_interval=20.0 if pings else 0.0,
        )
        self.framed = framed
        self.control = control
        self.hard_end = self.session.now + LIFETIME + CLOSE_TIMEOUT

    def end(self, who: str) -> PlayedEnd:
        return getattr(self.session, who)

    def speaks(self, who: str) -> bool:
        end = self.end(who)
        return end.lost is None and end.close is None

    def finish(self, who: str) -> None:
        rest, self.begun[who] = self.begun[who], b""
        if rest:
            self.end(who).send_raw(rest)

    # --- the ends ---

    @rule(who=ends, payload=payloads, cut=st.integers(0, 20))
    def message(self, who, payload, cut):
        if not self.speaks(who):
            return
        self.finish(who)
        self.said[who] += payload
        if who == "host" and not self.framed:
            if payload:
                self.end(who).send_raw(payload)
            return
        opcode = 0 if self.fragmented[who] else BINARY
        self.fragmented[who] = False
        self._frame(who, opcode, payload, cut, fin=True)

    @rule(who=ends, payload=st.binary(max_size=50), cut=st.integers(0, 20))
    def fragment(self, who, payload, cut):
        if not self.speaks(who) or (who == "host" and not self.framed):
            return
        self.finish(who)
        self.said[who] += payload
        opcode = 0 if self.fragmented[who] else BINARY
        self.fragmented[who] = True
        self._frame(who, opcode, payload, cut, fin=False)

    def _frame(self, who, opcode, payload, cut, *, fin):
        data = raw_frame(opcode, payload, masked=who == "browser", fin=fin)
        split = len(data) - min(cut, len(data))
        self.begun[who] = data[split:]
        self.end(who).send_raw(data[:split])

    @rule(who=ends)
    def rest(self, who):
        if self.speaks(who):
            self.finish(who)

    @rule(who=ends, payload=st.binary(max_size=10))
    def ping(self, who, payload):
        if self.speaks(who) and (who == "browser" or self.framed):
            self.finish(who)
            self.end(who).send_raw(frame(PING, payload, masked=who == "browser"))

    @rule(who=ends)
    def pong(self, who):
        if self.speaks(who) and self.end(who).pings:
            self.finish(who)
            self.end(who).send_pong(self.end(who).pings.pop())

    @rule(who=ends, code=st.sampled_from([1000, 1001, 4000]))
    def closing(self, who, code):
        end = self.end(who)
        if end.lost is None and (who == "browser" or self.framed):
            self.finish(who)
            end.send_close(code)
            self.clean = False

    @rule(who=ends, how=st.sampled_from(Loss))
    def hang_up(self, who, how):
        if self.end(who).lost is None:
            self.end(who).hang_up(how)
            self.clean = False

    @rule(who=ends)
    def violate(self, who):
        if self.speaks(who) and (who == "browser" or self.framed):
            self.finish(who)
            self.end(who).send_raw(b"\xf0\x00")
            self.clean = False

    @rule(who=ends, takes=st.integers(0, 500))
    def block(self, who, takes):
        self.end(who).block(takes)

    @rule(who=ends, size=st.none() | st.integers(1, 100_000))
    def take(self, who, size):
        self.end(who).take(size)

    # --- the owner and the clock ---

    @rule(seconds=st.sampled_from([0.5, 5.0, 29.0, 61.0, 400.0]))
    def time_passes(self, seconds):
        self.session.advance(seconds)

    @rule()
    def notice(self):
        self.session.send_control('{"type": "notice"}')

    @rule()
    def close(self):
        self.session.close(exceptions.ServerDraining("drain"))
        self.clean = False

    # --- what holds ---

    @invariant()
    def each_end_hears_a_part_of_what_the_other_said(self):
        if self.session is None:
            return
        assert self.said["host"].startswith(self.session.browser.data)
        heard = self.session.host.data if self.framed else self.session.host.heard
        assert self.said["browser"].startswith(heard)

    @invariant()
    def each_end_hears_a_valid_stream(self):
        if self.session is None:
            return
        for end in (self.session.browser, self.session.host):
            if end is self.session.browser or self.framed:
                heard = end.heard
                pieces = FrameTracker(masked=not end.client).feed(heard, len(heard))
                assert not any(isinstance(piece, Violation) for piece in pieces or ())
        assert self.control or not self.session.browser.texts

    @invariant()
    def all_is_passed_on_while_nobody_ends_it(self):
        if self.session is None or self.session.protocol.reason is not None:
            return
        browser, host = self.session.browser, self.session.host
        if not self.clean:
            # The relay has not come to read of it, since the other end takes nothing.
            assert browser.unsent or host.unsent
            return
        waits = (browser.unsent, host.unsent, browser.unread, host.unread)
        if not any((*self.begun.values(), *waits)):
            assert browser.data == self.said["host"]
            assert (host.data if self.framed else host.heard) == self.said["browser"]

    @invariant()
    def who_takes_nothing_is_sent_no_more_than_one_read_and_what_was_kept(self):
        if self.session is not None:
            assert len(self.session.browser.unsent) <= 300 * 1024
            assert len(self.session.host.unsent) <= 300 * 1024

    @invariant()
    def the_session_ends_in_time(self):
        if self.session is None:
            return
        session = self.session
        assert session.now < self.hard_end or session.reasons
        if session.protocol.reason is not None and not session.reasons:
            assert session.protocol.wake_at <= session.now + CLOSE_TIMEOUT

    @precondition(lambda self: self.session is not None and self.session.reasons)
    @invariant()
    def an_end_is_final(self):
        assert len(self.session.reasons) == 1
        assert self.session.browser.closed
        assert self.session.host.closed

    def teardown(self):
        if self.session is not None:
            self.session.close(exceptions.ServerDraining("drain"))
            self.session.advance(CLOSE_TIMEOUT)
            assert len(self.session.reasons) == 1


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = pytest.mark.timeout(300)(AnyOrder.TestCase)
