"""The frame tracker: RFC 6455 section by section, and wsproto as a second opinion."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

from mksfilter.proxy.relay.frames import (
    BINARY,
    CLOSE,
    GAP,
    PING,
    PONG,
    TEXT,
    ControlFrame,
    FrameTracker,
    Violation,
    close_frame,
    first_payload,
    frame,
    server_header,
)

KEY = b"\x37\xfa\x21\x3d"


def raw_frame(
    opcode, payload=b"", *, masked=False, fin=True, rsv=0, length=None, form=None, key=KEY
) -> bytes:
    """A frame with any fault one likes; *length* is what it claims, *form* how it is written."""
    length = len(payload) if length is None else length
    if form is None:
        form = 7 if length < 126 else 16 if length < 0x10000 else 64
    mask_bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    if form == 7:
        head += bytes([mask_bit | length])
    elif form == 16:
        head += bytes([mask_bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", length)
    if masked:
        head += key
        mask = (key * (len(payload) // 4 + 1))[: len(payload)]
        masked_value = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
        payload = masked_value.to_bytes(len(payload), "big")
    return head + payload


class Seen:
    """What a relay would make of the pieces."""

    def __init__(self) -> None:
        self.passed = bytearray()
        self.controls: list[ControlFrame] = []
        self.violation: Violation | None = None

    def take(self, tracker: FrameTracker, chunk: bytes) -> None:
        buffer = bytearray(chunk) + b"stale bytes of an earlier read"
        pieces = tracker.feed(buffer, len(chunk))
        for piece in [chunk] if pieces is None else pieces:
            if isinstance(piece, ControlFrame):
                self.controls.append(piece)
                self.passed += piece.raw
            elif isinstance(piece, Violation):
                assert self.violation is None
                self.violation = piece
            elif piece is not GAP:
                self.passed += piece


def track(stream: bytes, *, masked: bool = False, cuts=(), **options) -> Seen:
    seen, tracker = Seen(), FrameTracker(masked=masked, **options)
    edges = [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        seen.take(tracker, stream[start:end])
    return seen


def every_way(stream: bytes, **options) -> Seen:
    """In one piece, one byte at a time, and cut in two at every place: all must agree."""
    reference = track(stream, **options)
    others = [track(stream, cuts=range(1, len(stream)), **options)]
    others += [track(stream, cuts=[cut], **options) for cut in range(1, len(stream))]
    for other in others:
        assert other.passed == reference.passed
        assert other.controls == reference.controls
        assert other.violation == reference.violation
    return reference


VIOLATIONS = {
    "5.1 unmasked client frame": (raw_frame(BINARY, b"x"), True, 1002),
    "5.1 masked server frame": (raw_frame(BINARY, b"x", masked=True), False, 1002),
    "5.2 rsv1": (raw_frame(BINARY, b"x", rsv=0x40), False, 1002),
    "5.2 rsv2": (raw_frame(BINARY, b"x", rsv=0x20), False, 1002),
    "5.2 rsv3": (raw_frame(PING, b"x", rsv=0x10), False, 1002),
    "5.2 opcode 3": (raw_frame(3, b"x"), False, 1002),
    "5.2 opcode 7": (raw_frame(7, b"x", masked=True), True, 1002),
    "5.2 opcode 11": (raw_frame(11), False, 1002),
    "5.2 opcode 15": (raw_frame(15), False, 1002),
    "5.2 16 bits where 7 do": (raw_frame(BINARY, b"x" * 125, form=16), False, 1002),
    "5.2 64 bits where 16 do": (raw_frame(BINARY, b"x" * 200, form=64), False, 1002),
    "5.2 64 bits where 7 do": (raw_frame(BINARY, b"x", form=64, masked=True), True, 1002),
    "5.2 length 2^63": (raw_frame(BINARY, length=1 << 63), False, 1002),
    "5.2 length 2^64-1": (raw_frame(BINARY, masked=True, length=(1 << 64) - 1), True, 1002),
    "5.4 continuation of nothing": (raw_frame(0, b"x"), False, 1002),
    "5.4 message within a message": (
        raw_frame(BINARY, b"a", fin=False) + raw_frame(BINARY, b"b"),
        False,
        1002,
    ),
    "5.5 fragmented ping": (raw_frame(PING, b"x", fin=False), False, 1002),
    "5.5 fragmented close": (raw_frame(CLOSE, b"\x03\xe8", fin=False), False, 1002),
    "5.5 ping of 126 bytes": (raw_frame(PING, b"x" * 126), False, 1002),
    "5.5 close of 126 bytes": (raw_frame(CLOSE, b"\x03\xe8" + b"x" * 124), False, 1002),
    "5.5 pong of 126 bytes": (raw_frame(PONG, b"x" * 126, masked=True), True, 1002),
    "5.5 close of 70000 bytes": (raw_frame(CLOSE, masked=True, length=70000), True, 1002),
    "5.5 ping of 70000 bytes": (raw_frame(PING, length=70000), False, 1002),
    "5.5.1 close with one byte": (raw_frame(CLOSE, b"x"), False, 1002),
    "7.1.6 close reason not UTF-8": (raw_frame(CLOSE, b"\x03\xe8\xff"), False, 1007),
    "7.4.1 close code 1005": (raw_frame(CLOSE, b"\x03\xed"), False, 1002),
    "7.4.1 close code 1006": (raw_frame(CLOSE, b"\x03\xee"), False, 1002),
    "7.4.2 close code 999": (raw_frame(CLOSE, b"\x03\xe7"), False, 1002),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_violation_is_named_at_every_byte_boundary_and_does_not_pass(case):
    stream, masked, code = VIOLATIONS[case]
    good = raw_frame(BINARY, b"good", masked=masked)
    seen = every_way(good + stream + good, masked=masked)
    assert seen.violation is not None
    assert seen.violation.code == code
    fragments = raw_frame(BINARY, b"a", fin=False) if "within" in case else b""
    assert seen.passed == good + fragments


def test_frames_pass_untouched_whatever_their_length():
    for length in (0, 1, 2, 3, 125, 126, 127, 1000, 65535, 65536, 70000):
        for masked in (False, True):
            stream = raw_frame(BINARY, bytes(length), masked=masked)
            seen = track(stream * 3, masked=masked, cuts=[1, len(stream) + 3, len(stream) + 9])
            assert seen.passed == stream * 3
            assert seen.violation is None


@pytest.mark.parametrize("masked", [False, True])
def test_whole_messages_of_less_than_64_kib_take_the_short_way(masked, monkeypatch):
    lengths = [0, 1, 124, 125, 126, 127, 128, 65534, 65535]
    stream = b"".join(raw_frame(BINARY, bytes(length), masked=masked) for length in lengths)
    tracker = FrameTracker(masked=masked)
    monkeypatch.setattr(FrameTracker, "_sort", None)  # the long one, which takes anything
    assert tracker.feed(stream, len(stream)) is None
    assert tracker.between_messages


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536])
def test_the_frame_after_one_of_any_length_is_found(length, masked):
    first = raw_frame(BINARY, bytes(length), masked=masked)
    tracker, seen = FrameTracker(masked=masked), Seen()
    seen.take(tracker, first[:-1] if length else first[:1])
    assert not tracker.between_frames or not length
    seen.take(tracker, first[-1:] if length else first[1:])
    assert tracker.between_frames
    seen.take(tracker, raw_frame(PING, b"here", masked=masked))
    assert [control.payload for control in seen.controls] == [b"here"]
    assert seen.violation is None


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("size", [1, 4, 70_000])
def test_the_first_payload_of_a_stream_is_found_in_frames_of_any_form(length, size):
    payload = bytes(range(1, 252)) * 270
    stream = frame(BINARY, payload[:length], masked=False)
    stream += frame(BINARY, payload[length : length + 3], masked=False)
    assert first_payload(stream, size) == payload[: min(size, length + 3)]
    for end in range(12):
        assert payload.startswith(first_payload(stream[:end], size))


def test_a_frame_is_skipped_by_arithmetic_even_when_it_has_no_end():
    tracker = FrameTracker(masked=False)
    chunk = bytes(256)
    tracker.feed(raw_frame(BINARY, length=(1 << 63) - 1), 10)
    assert tracker.feed(chunk, 256) is None
    assert not tracker.between_frames


def test_a_cap_on_frames_is_answered_with_message_too_big():
    fits = raw_frame(BINARY, b"x" * 1000)
    seen = every_way(fits + raw_frame(BINARY, b"x" * 1001), max_frame=1000)
    assert seen.violation == Violation(1009, "frame of 1001 bytes")
    assert seen.passed == fits


def test_text_is_refused_where_only_binary_is_spoken():
    stream = raw_frame(TEXT, b'{"type": "end"}')
    assert every_way(stream).passed == stream
    seen = every_way(stream, text=False)
    assert seen.violation is not None
    assert seen.violation.code == 1003
    assert not seen.passed


def test_asides_are_taken_out_whole_and_other_text_is_refused():
    data = raw_frame(BINARY, b"data")
    seen = every_way(data + raw_frame(TEXT, b"aside") + data, text=False, asides=True)
    assert seen.violation is None
    assert [(control.opcode, control.payload) for control in seen.controls] == [(TEXT, b"aside")]
    for text in (raw_frame(TEXT, b"x" * 126), raw_frame(TEXT, b"x", fin=False)):
        seen = every_way(data + text, text=False, asides=True)
        assert seen.violation is not None
        assert seen.violation.code == 1003
        assert seen.passed == data


def test_control_frames_are_told_whole_with_their_mask_undone():
    stream = (
        raw_frame(BINARY, b"a", fin=False, masked=True)
        + raw_frame(PING, b"are you there", masked=True)
        + raw_frame(0, b"b", masked=True)
        + raw_frame(PONG, masked=True)
    )
    seen = every_way(stream, masked=True)
    assert [(control.opcode, control.payload) for control in seen.controls] == [
        (PING, b"are you there"),
        (PONG, b""),
    ]
    assert seen.passed == stream


def test_nothing_after_a_close_frame_counts():
    close = close_frame(4404, "gone", masked=True)
    seen = track(close + raw_frame(BINARY, b"late"), masked=True)
    assert seen.passed == close
    assert seen.controls[0].code == 4404
    assert seen.controls[0].payload == struct.pack("!H", 4404) + b"gone"
    assert every_way(close_frame(1005, masked=False)).controls[0].code == 1005


def test_our_frames_may_stand_between_frames_and_nowhere_else():
    tracker = FrameTracker(masked=False)
    assert tracker.between_messages
    tracker.feed(raw_frame(BINARY, b"abc", fin=False), 4)
    assert not tracker.between_frames
    tracker.feed(b"c", 1)
    assert tracker.between_frames
    assert not tracker.between_messages
    tracker.feed(raw_frame(0, b""), 2)
    assert tracker.between_messages


def test_a_gap_between_messages_is_waited_for_though_one_between_frames_is_asked_for_too():
    tracker = FrameTracker(masked=False)
    tracker.feed(raw_frame(BINARY, b"a", fin=False), 3)
    tracker.want_gap(message=True)
    tracker.want_gap(message=False)
    assert GAP not in (tracker.feed(raw_frame(0, b"b", fin=False), 3) or [])
    assert (tracker.feed(raw_frame(0, b"c"), 3) or []).count(GAP) == 1


def test_a_gap_between_messages_is_not_inside_the_last_fragment():
    tracker = FrameTracker(masked=False)
    tracker.feed(raw_frame(BINARY, b"a", fin=False), 3)
    tracker.want_gap(message=True)
    last = raw_frame(0, b"bc")
    assert GAP not in (tracker.feed(last, 3) or [])
    assert (tracker.feed(last[3:], 1) or []).count(GAP) == 1


@pytest.mark.parametrize("message", [False, True])
def test_a_gap_is_told_once(message):
    tracker = FrameTracker(masked=False)
    one = raw_frame(BINARY, b"x")
    tracker.feed(one[:2], 2)
    tracker.want_gap(message=message)
    assert tracker.feed(one[2:], 1) == [one[2:], GAP]
    assert tracker.feed(one * 3, 9) is None


def test_a_gap_is_found_inside_a_stream_that_never_pauses_there():
    one = raw_frame(BINARY, b"x" * 1000)
    stream = one * 3
    for start in range(4, len(one)):
        tracker = FrameTracker(masked=False)
        tracker.feed(stream, start)
        tracker.want_gap(message=False)
        pieces = tracker.feed(stream[start : start + len(one)], len(one))
        before = pieces[: pieces.index(GAP)]
        assert sum(len(piece) for piece in before) == len(one) - start
        assert (
            b"".join(piece for piece in pieces if piece is not GAP)
            == stream[start : start + len(one)]
        )
        # Asked once, told once.
        assert tracker.feed(one[start:], len(one) - start) is None


def test_a_gap_between_messages_is_not_between_fragments():
    tracker = FrameTracker(masked=False)
    first, last = raw_frame(BINARY, b"a", fin=False), raw_frame(0, b"b")
    tracker.feed(first, len(first))
    tracker.want_gap(message=True)
    pieces = tracker.feed(last + first, len(last + first))
    assert pieces[:2] == [last, GAP]


def test_a_gap_at_the_end_of_what_came_is_told_at_once():
    tracker = FrameTracker(masked=False)
    stream = raw_frame(BINARY, b"abc")
    tracker.feed(stream, 3)
    tracker.want_gap(message=True)
    assert tracker.feed(stream[3:], 2) == [stream[3:], GAP]


def test_frames_of_ours_are_what_the_other_side_expects():
    seen = track(
        frame(TEXT, b"{}", masked=False) + close_frame(1012, "x" * 200, masked=False), masked=False
    )
    assert seen.violation is None
    assert len(seen.controls[0].payload) == 125
    for length in (0, 125, 126, 65535, 65536):
        assert server_header(length) == raw_frame(BINARY, length=length)


# --- wsproto, fed the same bytes -----------------------------------------------------------------


def payloads():
    return st.one_of(
        st.binary(max_size=20),
        st.integers(0, 300).map(bytes),
        st.sampled_from([125, 126, 127, 65535, 65536, 66000]).map(bytes),
    )


@st.composite
def streams(draw):
    """Mostly valid frames, with faults of every kind thrown in."""
    masked = draw(st.booleans())
    stream, open_message = bytearray(), False
    for _ in range(draw(st.integers(1, 8))):
        faulty = draw(st.integers(0, 9)) == 0
        if faulty:
            stream += raw_frame(
                draw(st.integers(0, 15)),
                draw(payloads()),
                masked=draw(st.booleans()),
                fin=draw(st.booleans()),
                rsv=draw(st.sampled_from([0, 0x10, 0x20, 0x40])),
                form=draw(st.sampled_from([64])),
            )
            continue
        if draw(st.integers(0, 3)) == 0:
            opcode = draw(st.sampled_from([PING, PONG, PING, PONG, CLOSE]))
            if opcode == CLOSE:
                # 1014 came after wsproto: it is the one code the two judge differently.
                code = draw(st.integers(900, 5100).filter(lambda code: code != 1014))
                payload = draw(
                    st.one_of(
                        st.binary(max_size=3),
                        st.text(max_size=20).map(
                            lambda text, code=code: struct.pack("!H", code) + text.encode()
                        ),
                    )
                )
                if payload[:2] == struct.pack("!H", 1014):
                    payload = b""
            else:
                payload = draw(st.binary(max_size=125))
            stream += raw_frame(opcode, payload, masked=masked)
            continue
        fin = draw(st.booleans())
        opcode = 0 if open_message else BINARY
        open_message = not fin
        stream += raw_frame(opcode, draw(payloads()), masked=masked, fin=fin)
    truncated = draw(st.integers(0, 3)) == 0
    if truncated:
        del stream[draw(st.integers(0, len(stream))) :]
    return masked, bytes(stream), truncated


def judge(stream: bytes, masked: bool):
    """wsproto's opinion: payload bytes, control frames, and whether it was a violation."""
    oracle = Connection(ConnectionType.SERVER if masked else ConnectionType.CLIENT)
    data, controls, violated = bytearray(), [], False
    oracle.receive_data(stream)
    events = oracle.events()
    while True:
        try:
            event = next(events)
        except StopIteration:
            break
        except RemoteProtocolError:
            violated = True
            break
        if isinstance(event, BytesMessage):
            data += event.data
        elif isinstance(event, TextMessage):
            data += event.data.encode()
        elif isinstance(event, Ping):
            controls.append((PING, bytes(event.payload)))
        elif isinstance(event, Pong):
            controls.append((PONG, bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            # The oracle answers a violation with the same event, but then nothing was closed.
            violated = oracle.state is ConnectionState.OPEN
            if not violated:
                controls.append((CLOSE, event.code))
            break
    return bytes(data), controls, violated


def decode(passed: bytes, masked: bool) -> bytes:
    return judge(passed, masked)[0]


@settings(max_examples=400, deadline=None)
@given(streams(), st.data())
def test_the_tracker_and_wsproto_agree(case, data):
    masked, stream, truncated = case
    expected_data, expected_controls, violated = judge(stream, masked)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    ways = [track(stream, masked=masked), track(stream, masked=masked, cuts=cuts)]
    if len(stream) < 2000:
        ways.append(track(stream, masked=masked, cuts=range(1, len(stream))))
    for seen in ways:
        # The oracle waits for a whole header; the tracker sees a fault in its first byte.
        assert (seen.violation is not None) == violated or (truncated and not violated)
        controls = [
            (control.opcode, control.code if control.opcode == CLOSE else control.payload)
            for control in seen.controls
        ]
        assert controls == expected_controls
        assert decode(bytes(seen.passed), masked) == expected_data
