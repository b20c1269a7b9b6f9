"""Whole sessions, played through the protocol: what each end hears, and how each of them ends."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import textwrap

import pytest

from mksfilter import exceptions
from mksfilter.proxy.relay.frames import BINARY, CLOSE, PING, close_frame, frame
from mksfilter.proxy.relay.options import RelayOptions
from mksfilter.proxy.relay.protocol import Loss, RelayProtocol
from mksfilter.proxy.relay.state import MAX_BROWSER_FRAME, MAX_HOST_FRAME
from tests.proxy.relay.session import CLOSE_TIMEOUT, Session
from tests.proxy.relay.test_frames import VIOLATIONS, raw_frame

STALL = 60.0  # seconds, of the options' defaults
PING_INTERVAL = 30.0
MOMENT = 0.001


def test_a_session_is_played_without_gevent_sockets_or_tls():
    script = """
        import sys
        from mksfilter.exceptions import ClientLost
        from mksfilter.proxy.relay.actions import Close, Ended, Resume, Send
        from mksfilter.proxy.relay.frames import BINARY, close_frame, frame
        from mksfilter.proxy.relay.options import RelayOptions
        from mksfilter.proxy.relay.protocol import PASS, RelayProtocol

        protocol = RelayProtocol(options=RelayOptions())
        browser, host = protocol.attach(), protocol.host
        assert protocol.start(0.0) == [Resume(browser), Resume(host)]
        hello = frame(BINARY, b"RFB 003.008", masked=False)
        assert protocol.receive_from_host(hello, len(hello), 1.0) is PASS
        key = frame(BINARY, b"key", masked=True)
        assert protocol.receive(browser, key, 2.0) == [Send(host, key)]
        bye = close_frame(1000, masked=True)
        assert protocol.receive(browser, bye, 3.0) == [Send(host, bye)]
        answer = close_frame(1000, masked=False)
        said = protocol.receive(host, answer, 4.0)
        assert said == [Send(browser, answer), Close(browser, False), Close(host, False)]
        assert protocol.closed(browser, 4.0) == []
        assert protocol.closed(host, 4.0) == [Ended(protocol.reason)]
        ours = {name for name in sys.modules if name.startswith("mksfilter.proxy.")}
        print(*sorted(ours), *({"gevent", "ssl"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    modules = ["actions", "deadlines", "decoder", "frames", "options", "protocol", "rfb", "state"]
    room = "mksfilter.proxy.relay"
    assert done.stdout.split() == [room, *(f"{room}.{module}" for module in modules)]


def test_what_is_said_on_one_side_is_heard_on_the_other():
    session = Session()
    session.host.send(b"RFB 003.008\n")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send(b"RFB 003.008\n")
    session.host.expect(b"RFB 003.008\n")
    assert session.browser.state.received == 18
    assert session.host.state.received == 14


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_frames_keep_their_boundaries_and_masks(cut):
    session = Session()
    stream = raw_frame(BINARY, b"a" * 300, masked=True) + raw_frame(BINARY, b"b", masked=True)
    for start in range(0, len(stream), cut):
        session.browser.send_raw(stream[start : start + cut])
    assert session.host.heard == stream
    said = raw_frame(BINARY, b"1", fin=False) + raw_frame(0, b"2") + raw_frame(BINARY, b"3")
    for start in range(0, len(said), cut):
        session.host.send_raw(said[start : start + cut])
    assert session.browser.heard == said
    assert session.browser.messages == [b"12", b"3"]


def test_bytes_that_came_with_the_handshake_are_not_lost():
    session = Session(early=frame(BINARY, b"early", masked=False)[:4])
    session.host.send_raw(frame(BINARY, b"early", masked=False)[4:])
    session.browser.expect(b"early")


# --- back-pressure ---


def test_a_browser_that_does_not_read_stops_the_host_and_nothing_else():
    session = Session()
    session.browser.block(1000)
    session.host.send(bytes(5000))
    assert not session.host.reading
    session.host.send(b"more")
    assert session.browser.heard == raw_frame(BINARY, bytes(5000))[:1000]
    # Keys still get through while the picture is stuck.
    session.browser.send(b"key")
    session.host.expect(b"key")
    session.browser.take(2000)
    assert not session.host.reading
    session.browser.take()
    assert session.host.reading
    assert session.browser.messages == [bytes(5000), b"more"]


def test_a_host_that_does_not_read_stops_the_browser_and_nothing_else():
    session = Session()
    session.host.block()
    session.browser.send(b"key")
    session.browser.send(b"another")
    assert not session.browser.reading
    session.host.send(b"picture")
    session.browser.expect(b"picture")
    session.host.take()
    session.host.expect(b"keyanother")


def test_a_peer_lost_while_it_is_sent_to_is_lost():
    session = Session()
    session.browser.hang_up(Loss.BROKEN)
    assert isinstance(session.reason(), exceptions.ClientLost)
    session = Session()
    session.host.lost = Loss.BROKEN  # found when it is sent to, not when it is read from
    session.browser.send(b"key")
    assert isinstance(session.protocol.reason, exceptions.UpstreamLost)
    assert session.browser.close == (1011, "upstream-lost")


def test_what_is_sent_on_after_a_loss_comes_after_no_close_frame():
    """The answer to the browser and the message to the host stand in one list of actions."""
    session = Session(framing="websocket", rfb_handshake="missing")
    browser = session.browser
    browser.send(b"RFB 003.008\n")
    browser.send(b"\x01")
    browser.lost = Loss.BROKEN
    browser.send(b"\x01" + struct.pack("!BBHHHH", 3, 0, 0, 0, 640, 480))
    assert session.host.messages == [struct.pack("!BBHHHH", 3, 0, 0, 0, 640, 480)]
    assert session.host.close == (1001, "")


# --- closing ---


def test_the_browsers_close_frame_passes_as_it_is_and_the_answer_passes_back():
    session = Session()
    session.browser.send_close(4001, "bye")
    session.host.until(lambda host: host.close is not None)
    assert session.host.close == (4001, "bye")
    session.host.send_close(4001)
    assert session.browser.until_closed() == (4001, "")
    assert session.host.until_closed() == (4001, "bye")
    reason = session.reason()
    assert type(reason) is exceptions.SessionEnded
    assert reason.reason == "ended"


def test_the_hosts_close_frame_passes_as_it_is_and_the_answer_passes_back():
    session = Session(control=True)
    session.host.send_close(1000, "powered off")
    session.browser.until(lambda browser: browser.close is not None)
    assert session.browser.texts[-1]["type"] == "end"
    assert session.browser.texts[-1]["reason"] == "upstream-lost"
    assert session.browser.close == (1000, "powered off")
    session.browser.send_close(1000)
    assert session.host.until_closed() == (1000, "")
    assert isinstance(session.reason(), exceptions.UpstreamLost)


def test_a_browser_that_closes_while_the_picture_streams_is_answered():
    session = Session()
    session.host.send_raw(raw_frame(BINARY, length=100_000) + bytes(50_000))
    session.browser.send_close(1000)
    session.host.until(lambda host: host.close is not None)
    session.host.send_raw(bytes(50_000) + close_frame(1000, masked=False))
    assert session.host.until_closed() == (1000, "")
    assert type(session.reason()) is exceptions.SessionEnded


def test_a_host_that_vanishes_closes_the_browser_with_the_reason():
    session = Session(control=True)
    session.host.hang_up()
    assert session.browser.until(lambda browser: browser.close).close == (1011, "upstream-lost")
    assert session.browser.texts == [
        {
            "type": "end",
            "reason": "upstream-lost",
            "message": exceptions.UpstreamLost.public,
            "retry": "automatic",
        }
    ]
    session.browser.send_close(1011)
    session.browser.until_closed()
    assert isinstance(session.reason(), exceptions.UpstreamLost)


def test_a_host_that_vanishes_inside_a_frame_closes_the_browser_without_a_word():
    session = Session(control=True)
    session.host.send_raw(raw_frame(BINARY, length=1000) + b"part")
    session.host.hang_up()
    assert session.browser.until_closed() is None
    assert isinstance(session.reason(), exceptions.UpstreamLost)


def test_a_browser_that_vanishes_frees_the_console_at_once():
    session = Session()
    session.browser.hang_up()
    assert session.host.until(lambda host: host.close).close == (1001, "")
    session.host.hang_up()
    assert isinstance(session.reason(), exceptions.ClientLost)


def test_a_browser_that_vanishes_inside_a_frame_ends_the_upstream_connection():
    session = Session()
    session.browser.send_raw(raw_frame(BINARY, b"12345678", masked=True)[:9])
    session.browser.hang_up()
    assert session.host.until_closed() is None
    assert isinstance(session.reason(), exceptions.ClientLost)


def test_peers_that_do_not_answer_a_close_frame_are_cut_off():
    session = Session()
    session.close(exceptions.ServerDraining("drain"))
    assert session.browser.close == (1012, "server-draining")
    assert session.host.close == (1001, "")
    session.advance(CLOSE_TIMEOUT - MOMENT)
    assert not session.reasons
    session.advance(MOMENT)
    assert session.browser.closed
    assert session.host.closed
    assert isinstance(session.reason(), exceptions.ServerDraining)


def slow_to_read() -> Session:
    """A session that both ends agreed to end, and whose browser has not read all yet."""
    session = Session()
    session.browser.block(100)
    session.host.send(bytes(1000))
    session.close(exceptions.IdleTimeout("over"))
    session.browser.send_close(4408)
    session.host.send_close(1001)
    assert session.host.closed
    assert not session.browser.closed
    return session


def test_a_browser_slow_to_read_hears_all_before_the_connection_is_closed():
    session = slow_to_read()
    session.browser.take(500)
    assert not session.browser.closed
    session.browser.take()
    assert session.browser.messages == [bytes(1000)]
    assert session.browser.until_closed() == (4408, "idle-timeout")
    assert isinstance(session.reason(), exceptions.IdleTimeout)


def test_a_browser_that_never_reads_the_rest_is_cut_off():
    session = slow_to_read()
    session.advance(CLOSE_TIMEOUT - MOMENT)
    assert not session.browser.closed
    session.advance(MOMENT)
    assert session.browser.until_closed() is None
    assert isinstance(session.reason(), exceptions.IdleTimeout)


def test_a_host_is_read_for_its_close_frame_while_the_browser_takes_nothing():
    session = Session()
    session.browser.block()
    session.close(exceptions.IdleTimeout("over"))
    session.host.send(b"late")
    session.host.send_close(1001)
    assert session.host.closed
    session.browser.take()
    assert session.browser.close == (4408, "idle-timeout")
    assert not session.browser.messages


def test_tls_broken_by_the_host_is_a_violation():
    session = Session()
    session.host.hang_up(Loss.TLS)
    assert session.browser.close == (1014, "upstream-protocol-error")
    assert "broke TLS: detail" in str(session.reason())


def test_an_ordered_end_waits_for_the_frame_in_flight_without_words_for_a_page_too():
    session = Session()
    session.host.send_raw(raw_frame(BINARY, b"x" * 1000, fin=False)[:500])
    session.close(exceptions.LifetimeReached("over"))
    assert session.browser.close is None
    session.host.send_raw(raw_frame(BINARY, b"x" * 1000)[500:] + raw_frame(0, b"late"))
    assert session.browser.data == b"x" * 1000
    assert session.browser.close == (4410, "lifetime-reached")
    assert session.host.close == (1001, "")


def test_an_ordered_end_waits_for_the_frame_in_flight():
    session = Session(control=True)
    session.host.send_raw(raw_frame(BINARY, b"x" * 1000)[:500])
    session.browser.until(lambda browser: len(browser.data) > 400)
    session.close(exceptions.LifetimeReached("over"))
    session.host.send_raw(raw_frame(BINARY, b"x" * 1000)[500:] + raw_frame(BINARY, b"late"))
    session.browser.until(lambda browser: browser.close is not None)
    assert session.browser.messages == [b"x" * 1000]
    assert session.browser.texts[-1]["reason"] == "lifetime-reached"
    assert session.browser.close == (4410, "lifetime-reached")
    assert session.host.until(lambda host: host.close).close == (1001, "")


def test_an_end_whose_words_wait_for_a_whole_message_waits_with_them():
    session = Session(control=True)
    session.host.send_raw(raw_frame(BINARY, b"a", fin=False))
    session.close(exceptions.LifetimeReached("over"))
    assert session.browser.close is None
    assert session.host.close is None
    session.host.send_raw(raw_frame(0, b"b"))
    assert session.browser.messages == [b"ab"]
    assert session.browser.texts[-1]["reason"] == "lifetime-reached"
    assert session.browser.close == (4410, "lifetime-reached")
    assert session.host.close == (1001, "")


def test_an_end_in_a_frame_that_is_never_finished_is_cut_off_without_a_word():
    session = Session(control=True)
    session.host.send_raw(raw_frame(BINARY, b"x" * 1000)[:500])
    session.close(exceptions.LifetimeReached("over"))
    assert session.host.close is None
    session.advance(CLOSE_TIMEOUT)
    assert session.browser.until_closed() is None
    assert session.host.until_closed() is not None
    assert isinstance(session.reason(), exceptions.LifetimeReached)


def test_an_end_while_the_browser_is_in_a_frame_closes_the_host_without_a_word():
    session = Session()
    session.browser.send_raw(raw_frame(BINARY, b"12345678", masked=True)[:9])
    session.close(exceptions.LifetimeReached("over"))
    assert session.host.until_closed() is None
    assert session.browser.close == (4410, "lifetime-reached")


def test_what_a_browser_says_after_the_end_goes_nowhere():
    session = Session()
    session.close(exceptions.IdleTimeout("over"))
    told = session.host.heard
    session.browser.send(b"key")
    assert session.host.heard == told


def test_ending_twice_ends_once():
    session = Session()
    session.close(exceptions.IdleTimeout("first"))
    session.close(exceptions.LifetimeReached("second"))
    session.browser.hang_up()
    session.host.hang_up()
    assert isinstance(session.reason(), exceptions.IdleTimeout)
    session.close(exceptions.LifetimeReached("third"))


def test_a_browser_that_joins_a_second_time_is_refused():
    protocol = RelayProtocol(options=RelayOptions())
    browser = protocol.attach()
    with pytest.raises(RuntimeError, match="second browser"):
        protocol.attach()
    protocol.detach(browser)
    assert protocol.attach() is not browser


def test_a_browser_that_is_detached_reaches_the_host_no_more():
    session = Session()
    browser = session.browser.state
    session.protocol.detach(browser)
    key = frame(BINARY, b"key", masked=True)
    assert session.protocol.receive_from_browser(browser, key, len(key), session.now) == []
    # Nor does it in pieces, which are looked at one by one.
    assert session.protocol.receive_from_browser(browser, key, 2, session.now) == []
    assert session.protocol.lost(browser, session.now) == []
    assert session.protocol.reason is None


@pytest.mark.parametrize("inside_a_frame", [False, True])
def test_the_host_outlives_a_browser_that_is_detached(inside_a_frame):
    session = Session()
    if inside_a_frame:
        session.browser.send_raw(raw_frame(BINARY, b"12345678", masked=True)[:9])
    session.protocol.detach(session.browser.state)
    session.browser.closed = True
    said = frame(BINARY, b"nobody hears this", masked=False)
    assert session.protocol.receive_from_host(said, len(said), session.now) == []
    assert session.protocol.receive(session.host.state, said, session.now) == []
    session.close(exceptions.SessionEnded("enough"))
    # A frame that nobody finishes any more is followed by none.
    assert session.host.close == (None if inside_a_frame else (1001, ""))
    assert session.host.closed is inside_a_frame


# --- violations ---


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_violation_is_answered_with_its_code_and_goes_no_further(case):
    stream, from_browser, code = VIOLATIONS[case]
    session = Session()
    offender, other = (
        (session.browser, session.host) if from_browser else (session.host, session.browser)
    )
    offender.send_raw(stream)
    offender.until(lambda peer: peer.close is not None)
    other.until(lambda peer: peer.close is not None)
    assert offender.close[0] == code
    # RFC 6455 section 7.4.1, and 1014 of its registry: a bad gateway.
    assert other.close[0] == (1001 if from_browser else 1014)
    assert not other.messages
    expected = exceptions.ClientViolation if from_browser else exceptions.UpstreamViolation
    offender.hang_up()
    other.hang_up()
    assert isinstance(session.reason(), expected)


@pytest.mark.parametrize("who", ["browser", "host"])
def test_who_breaks_the_protocol_while_it_is_closed_is_waited_for_no_longer(who):
    session = Session()
    session.close(exceptions.IdleTimeout("over"))
    offender = getattr(session, who)
    offender.send_raw(b"\xf0\x00")
    assert offender.closed
    assert isinstance(session.reason(), exceptions.IdleTimeout)


def beat(number):
    return json.dumps({"type": "beat", "id": number}, separators=(",", ":"))


@pytest.mark.parametrize("text", ["{}", '{"type":"beat","id":1}' + " " * 120, "x" * 200])
def test_text_of_a_page_that_is_no_beat_is_refused(text):
    session = Session(control=True)
    session.browser.send_text(text)
    assert session.browser.until(lambda browser: browser.close).close[0] == 1003


@pytest.mark.parametrize("options", [{}, {"view_only": True}, {"rfb_handshake": "missing"}])
def test_a_beat_is_answered_and_does_not_reach_the_host(options):
    session = Session(control=True, **options)
    session.browser.send_text('{"type":"beat","id":7}')
    session.browser.until(lambda browser: {"type": "beat", "id": 7} in browser.texts)
    assert not session.host.heard
    assert not session.browser.closed


def test_a_beat_is_no_sign_of_a_user():
    session = Session(control=True, idle_timeout=60.0)
    for number in range(7):
        session.advance(10)
        if not session.browser.closed:
            session.browser.send_text(
                json.dumps({"type": "beat", "id": number}, separators=(",", ":"))
            )
    assert isinstance(session.reason(), exceptions.IdleTimeout)


def test_a_flood_of_beats_ends_the_session():
    session = Session(control=True)
    for number in range(300):
        if session.browser.closed:
            break
        session.browser.send_text(beat(number))
    assert session.browser.until(lambda browser: browser.close).close[0] == 1008


def test_text_from_a_host_cannot_pass_for_a_control_message():
    session = Session(control=True)
    session.host.send_text('{"type": "resume", "token": "evil"}')
    session.browser.until(lambda browser: browser.close)
    assert [text["type"] for text in session.browser.texts] == ["end"]
    assert session.browser.close[0] == 1014


def test_text_passes_where_none_could_be_taken_for_ours():
    session = Session()
    session.host.send_text('"text"')
    assert session.browser.texts == ["text"]


@pytest.mark.parametrize(
    ("who", "length"), [("browser", MAX_BROWSER_FRAME), ("host", MAX_HOST_FRAME)]
)
def test_the_longest_frame_passes_and_costs_no_memory(who, length):
    session = Session()
    sender, other = getattr(session, who), session.host if who == "browser" else session.browser
    sender.send_raw(raw_frame(BINARY, masked=who == "browser", length=length) + b"x")
    assert other.heard.endswith(b"x")
    assert session.protocol.reason is None


@pytest.mark.parametrize("kind", [BINARY, 0], ids=["binary", "continuation"])
@pytest.mark.parametrize("length", [MAX_BROWSER_FRAME + 1, 1 << 62, (1 << 63) - 1])
def test_a_frame_longer_than_any_clients_is_refused_before_the_host_hears_of_it(length, kind):
    session = Session()
    begun = raw_frame(BINARY, b"a", masked=True, fin=False) if kind == 0 else b""
    session.browser.send_raw(begun + raw_frame(kind, masked=True, length=length) + b"x")
    assert session.browser.close == (1009, "client-protocol-error")
    assert b"".join(session.host.messages) == b""
    assert session.host.data == (b"a" if begun else b"")
    session.browser.hang_up()
    session.host.hang_up()
    assert isinstance(session.reason(), exceptions.ClientViolation)


def test_a_frame_longer_than_any_screen_is_refused_before_the_browser_hears_of_it():
    session = Session()
    session.host.send_raw(raw_frame(BINARY, length=MAX_HOST_FRAME + 1) + b"x")
    assert session.host.close[0] == 1009
    assert session.browser.close == (1014, "upstream-protocol-error")
    assert session.browser.data == b""


# --- control channel and pings ---


def test_control_messages_stand_between_messages():
    session = Session(control=True)
    session.host.send_raw(raw_frame(BINARY, b"a", fin=False))
    session.browser.until(lambda browser: browser.data == b"a")
    session.send_control(json.dumps({"type": "resume"}))
    session.host.send_raw(raw_frame(0, b"b", fin=False) + raw_frame(0, b"c") + raw_frame(2, b"d"))
    session.browser.until(lambda browser: len(browser.messages) == 2)
    assert session.browser.messages == [b"abc", b"d"]
    assert session.browser.texts == [{"type": "resume"}]
    assert session.host.heard == b""


def test_control_messages_reach_only_those_who_asked():
    session = Session(control=False)
    session.send_control(json.dumps({"type": "resume"}))
    session.host.send(b"x")
    session.browser.expect(b"x")
    assert not session.browser.texts


def test_pings_of_either_side_pass_and_so_do_their_answers():
    session = Session()
    session.host.send_ping(b"from the host")
    session.browser.until(lambda browser: browser.pings == [b"from the host"])
    session.browser.send_pong(b"from the host")
    session.host.until(lambda host: host.pongs == [b"from the host"])
    session.browser.send_ping(b"from the browser")
    session.host.until(lambda host: host.pings == [b"from the browser"])


def test_control_messages_after_the_end_are_not_sent():
    session = Session(control=True)
    session.close(exceptions.IdleTimeout("over"))
    session.send_control(json.dumps({"type": "resume"}))
    assert [text["type"] for text in session.browser.texts] == ["end"]


def test_pings_among_data_keep_their_place():
    session = Session()
    said = [
        raw_frame(BINARY, b"1"),
        raw_frame(PING, b"p"),
        raw_frame(PING),
        raw_frame(BINARY, b"2"),
        raw_frame(PING, b"q"),
        close_frame(1000, masked=False),
    ]
    session.host.send_raw(b"".join(said))
    assert session.browser.heard == b"".join(said)


def test_a_peer_that_floods_with_tiny_frames_is_read_in_small_portions():
    session = Session()
    fragments = raw_frame(BINARY, b"", fin=False) + raw_frame(0, b"", fin=False) * 4095
    session.host.send_raw(fragments)
    assert session.host.state.read_limit == 256 * 1024
    session.host.send_raw(raw_frame(0, b"", fin=False) * 4097)
    assert session.host.state.read_limit == 8 * 1024


@pytest.mark.parametrize("who", ["browser", "host"])
def test_two_hundred_pings_in_a_second_pass_and_one_more_ends_the_session(who):
    session = Session()
    offender, other = session.browser, session.host
    if who == "host":
        offender, other = other, offender
    ping = frame(PING, b"", masked=offender.client)
    for _ in range(2):  # the count begins anew with the time
        offender.send_raw(ping * 200)
        session.now += 1
    assert len(other.pings) == 400
    assert session.protocol.reason is None
    offender.send_raw(ping * 201)
    assert "flood" in str(session.protocol.reason)
    assert offender.close == ((1008, "client-protocol-error") if offender.client else (1008, ""))


def test_our_pings_are_answered_to_us_and_to_nobody_else():
    session = Session()
    session.advance(PING_INTERVAL - MOMENT)
    assert not session.browser.pings
    session.advance(MOMENT)
    (ping,) = session.browser.pings
    session.browser.send_pong(ping)
    session.browser.send(b"after")
    session.host.expect(b"after")
    assert not session.host.pongs
    session.browser.send_pong(ping)  # an unsolicited one is not ours
    assert session.host.pongs == [ping]


def test_our_pings_stand_between_the_frames_of_a_stream():
    session = Session()
    part = raw_frame(BINARY, b"x" * 5000)
    session.host.send_raw(part[:2000])
    session.advance(PING_INTERVAL)
    assert not session.browser.pings
    session.host.send_raw(part[2000:] + part[:2000])
    assert len(session.browser.pings) == 1
    assert session.browser.messages == [b"x" * 5000]


def test_our_pings_stand_between_the_fragments_of_a_message():
    session = Session()
    part = raw_frame(0, b"x" * 100, fin=False)
    session.host.send_raw(raw_frame(BINARY, b"x", fin=False) + part[:50])
    session.advance(PING_INTERVAL)
    session.host.send_raw(part[50:] + part[:50])
    assert len(session.browser.pings) == 1
    assert not session.browser.messages


def test_a_ping_is_not_sent_behind_what_is_not_read():
    session = Session()
    session.browser.block()
    session.host.send(b"picture")
    session.advance(PING_INTERVAL)
    session.browser.take()
    assert not session.browser.pings


def test_a_browser_that_does_not_answer_pings_is_given_up():
    session = Session()
    session.advance(3 * PING_INTERVAL - MOMENT)
    assert len(session.browser.pings) == 2
    assert session.protocol.reason is None
    session.advance(MOMENT)
    assert session.host.close == (1001, "")
    reason = session.reason()
    assert isinstance(reason, exceptions.ClientLost)
    assert "pings" in str(reason)


@pytest.mark.parametrize("sign", ["pong", "ping", "data"])
def test_a_browser_that_gives_a_sign_of_life_stays(sign):
    session = Session()
    for _ in range(8):
        session.advance(PING_INTERVAL)
        # On a coarse clock the answer comes at the time of the ping.
        if sign == "data":
            session.browser.send(b"x")
        else:
            getattr(session.browser, f"send_{sign}")(session.browser.pings[-1])
    assert session.protocol.reason is None
    assert len(session.browser.pings) == 8


def test_a_host_that_does_not_answer_pings_is_given_up():
    session = Session(ping_interval=0, upstream_ping_interval=10)
    session.advance(30 - MOMENT)
    assert len(session.host.pings) == 2
    assert session.protocol.reason is None
    session.advance(MOMENT)
    assert session.browser.close == (1011, "upstream-lost")
    assert isinstance(session.reason(), exceptions.UpstreamLost)


def test_a_ping_to_the_host_is_left_out_while_the_browser_is_in_a_frame():
    session = Session(ping_interval=0, upstream_ping_interval=10)
    part = raw_frame(BINARY, b"12345678", masked=True)
    session.browser.send_raw(part[:9])
    session.advance(10)
    assert not session.host.pings
    session.browser.send_raw(part[9:])
    session.host.expect(b"12345678")


def test_a_host_without_frames_is_not_pinged():
    session = Session(framing="bytes", ping_interval=0, upstream_ping_interval=10, early=b"x")
    session.advance(50)
    assert session.host.heard == b""


# --- clocks ---


def ends_at(session, seconds: float) -> exceptions.SessionEnded | None:
    """Let *seconds* pass, after all but a moment of which the session still goes on."""
    session.advance(seconds - MOMENT)
    assert session.protocol.reason is None
    session.advance(MOMENT)
    return session.protocol.reason


def test_a_session_ends_with_its_lifetime():
    session = Session(lifetime=100.0, ping_interval=0)
    assert isinstance(ends_at(session, 100.0), exceptions.LifetimeReached)
    assert session.browser.close == (4410, "lifetime-reached")


def test_a_session_without_a_lifetime_goes_on():
    session = Session(ping_interval=0)
    session.advance(1e6)
    assert session.protocol.reason is None


def test_a_session_ends_when_the_browser_sends_nothing_though_it_answers_pings():
    session = Session(idle_timeout=300.0)
    for _ in range(9):
        session.advance(PING_INTERVAL)
        session.browser.send_pong(session.browser.pings[-1])
    assert isinstance(ends_at(session, 300.0 - 9 * PING_INTERVAL), exceptions.IdleTimeout)
    assert session.browser.close == (4408, "idle-timeout")


def test_a_session_in_use_is_not_idle():
    session = Session(idle_timeout=20.0, ping_interval=0)
    for _ in range(10):
        session.browser.send(b"x")
        session.advance(20.0 - MOMENT)
    session.host.send(b"the host's data do not count")
    assert isinstance(ends_at(session, MOMENT), exceptions.IdleTimeout)


def test_a_browser_that_reads_nothing_is_cut_off():
    session = Session(ping_interval=0)
    session.advance(17.0)  # between two looks at the clocks
    session.browser.block()
    session.host.send(b"picture")
    assert isinstance(ends_at(session, STALL), exceptions.SlowReader)
    session.advance(CLOSE_TIMEOUT)
    assert session.browser.closed


def test_a_host_that_reads_nothing_is_cut_off():
    session = Session(ping_interval=0)
    session.host.block()
    session.browser.send(b"key")
    assert isinstance(ends_at(session, STALL), exceptions.UpstreamLost)
    assert session.browser.close == (1011, "upstream-lost")


def test_a_browser_that_reads_a_little_is_not_stalled():
    session = Session(ping_interval=0)
    session.browser.block()
    session.host.send(bytes(1000))
    for _ in range(5):
        session.advance(STALL - MOMENT)
        session.browser.take(10)
    assert isinstance(ends_at(session, STALL), exceptions.SlowReader)


def test_more_of_what_a_stalled_browser_does_not_read_gives_it_no_time():
    session = Session(framing="bytes", ping_interval=0, early=b"RFB 003.008\n")
    session.browser.block()
    session.host.send_raw(b"picture")
    session.advance(STALL / 2)
    session.browser.send_ping(b"there?")  # answered, behind the picture
    assert isinstance(ends_at(session, STALL / 2), exceptions.SlowReader)


def test_a_host_that_does_not_begin_the_handshake_is_given_up():
    session = Session(rfb_handshake="auto", ping_interval=0)
    session.host.send(b"RFB")
    assert isinstance(ends_at(session, STALL), exceptions.UpstreamLost)


def test_a_browser_that_does_not_play_the_handshake_is_given_up():
    session = Session(rfb_handshake="missing", ping_interval=50)
    reason = ends_at(session, STALL)
    assert isinstance(reason, exceptions.ClientLost)
    assert "RFB handshake" in str(reason)


def test_a_session_that_closes_and_is_woken_for_nothing_waits_on():
    session = Session()
    session.close(exceptions.IdleTimeout("over"))
    session._perform(session.protocol.wake(session.now))
    assert not session.browser.closed
    session.browser.send_close(4408)
    session.host.send_close(1001)
    assert session.reason()
    assert session.protocol.wake(session.now) == []


def test_a_session_woken_for_nothing_goes_on():
    session = Session(rfb_handshake="missing")
    for _ in range(10):
        session._perform(session.protocol.wake(session.now))
    assert session.protocol.reason is None
    assert len(session.browser.messages) == 1


# --- decoding ---


def server_init() -> bytes:
    return struct.pack("!HH16sI", 640, 480, b"pixel format 16B", 2) + b"vm"


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536])
def test_bytes_of_authd_become_messages_and_messages_become_bytes(size):
    session = Session(framing="bytes", early=b"RFB 00", rfb_handshake="auto")
    session.host.send_raw(b"3.008\n")
    session.browser.expect(b"RFB 003.008\n")
    for part in (
        raw_frame(BINARY, b"RFB 0", masked=True, fin=False),
        raw_frame(0, b"03.008\n", masked=True),
    ):
        session.browser.send_raw(part)
    assert session.host.heard == b"RFB 003.008\n"
    said = (bytes(range(256)) * 256)[:size]
    session.host.send_raw(said)
    session.browser.expect(said)
    assert session.browser.messages[-1] == said


def test_pings_to_a_host_without_frames_are_answered_for_it():
    session = Session(framing="bytes")
    session.browser.send_ping(b"there?")
    session.browser.until(lambda browser: browser.pongs == [b"there?"])
    session.browser.send_close(1000)
    assert session.browser.until_closed() == (1000, "ended")
    assert session.host.closed
    assert session.host.heard == b""


@pytest.mark.parametrize("framing", ["bytes", "websocket"])
@pytest.mark.parametrize("declared", ["auto", "missing"])
def test_a_missing_handshake_is_played_to_the_browser(framing, declared):
    session = Session(framing=framing, rfb_handshake=declared)
    speak = session.host.send if framing == "websocket" else session.host.send_raw
    speak(server_init())
    browser = session.browser
    browser.expect(b"RFB 003.008\n")
    browser.send(b"RFB 003.008\n")
    browser.expect(b"\x01\x01")
    browser.send(b"\x01")
    browser.expect(b"\x00\x00\x00\x00")
    browser.send(b"\x01")
    browser.expect(server_init())
    request = struct.pack("!BBHHHH", 3, 0, 0, 0, 640, 480)
    browser.send(request)
    if framing == "websocket":
        session.host.expect(request)
    else:
        assert session.host.heard == request
    speak(b"update")
    browser.expect(b"update")


def test_a_full_handshake_is_left_alone():
    session = Session(rfb_handshake="auto")
    session.host.send(b"RFB 003.008\n")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send(b"RFB 003.008\n")
    session.host.expect(b"RFB 003.008\n")
    session.host.send(b"\x01\x01")
    session.browser.expect(b"\x01\x01")


def test_a_browser_that_leaves_the_played_handshake_frees_the_console():
    session = Session(rfb_handshake="missing", framing="bytes")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send_close(1000)
    assert session.host.closed
    session.browser.until_closed()


def test_a_console_lost_during_the_played_handshake_is_told_to_the_browser():
    session = Session(rfb_handshake="missing", framing="bytes")
    session.browser.expect(b"RFB 003.008\n")
    session.host.hang_up()
    assert session.browser.close == (1011, "upstream-lost")


def test_what_a_console_says_during_the_played_handshake_is_kept_up_to_a_bound():
    session = Session(rfb_handshake="missing", framing="bytes")
    browser = session.browser
    browser.expect(b"RFB 003.008\n")
    said = bytes(range(256)) * 256
    session.host.send_raw(said)
    assert session.host.reading
    session.host.send_raw(b"x")
    assert not session.host.reading
    session.host.send_raw(b"later")
    # A browser that took all it was told does not end the hold.
    browser.block(1)
    browser.send(b"RFB 003.008\n")
    browser.take()
    assert not session.host.reading
    assert session.host.unread == b"later"
    for reply in (b"\x01", b"\x01"):
        browser.send(reply)
    assert session.host.reading
    played = b"\x01\x01" + b"\x00\x00\x00\x00"
    browser.expect(played + said + b"x" + b"later")


def test_a_host_that_said_as_much_as_is_kept_is_read_on_when_the_browser_is():
    session = Session(rfb_handshake="missing", framing="bytes")
    session.host.send_raw(bytes(65536))
    session.browser.block(1)
    session.browser.send(b"RFB 003.008\n")
    assert not session.host.reading
    session.browser.take()
    assert session.host.reading


def test_a_browser_that_takes_nothing_of_what_was_kept_stops_the_host():
    session = Session(rfb_handshake="missing", framing="bytes")
    browser = session.browser
    session.host.send_raw(bytes(70_000))
    browser.send(b"RFB 003.008\n")
    browser.send(b"\x01")
    browser.block(3)
    browser.send(b"\x01")
    assert not session.host.reading
    browser.take()
    assert session.host.reading


def test_a_wrong_reply_to_the_played_handshake_ends_the_session():
    session = Session(rfb_handshake="missing", framing="bytes")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send(b"GET / HTTP/1.1\r\n")
    assert session.browser.until(lambda browser: browser.close).close[0] == 1008


@pytest.mark.parametrize(("size", "code"), [(1 << 20, None), ((1 << 20) + 1, 1009)])
def test_a_message_that_is_read_may_have_a_mebibyte(size, code):
    session = Session(framing="bytes", early=b"RFB 003.008\n")
    session.browser.send(bytes(size))
    if code is None:
        assert session.host.heard == bytes(size)
    else:
        assert session.browser.close == (code, "client-protocol-error")
        assert session.host.heard == b""


@pytest.mark.parametrize(("size", "code"), [(4096, None), (4097, 1008)])
def test_a_browser_may_speak_first_up_to_a_bound(size, code):
    session = Session(framing="bytes", rfb_handshake="auto")
    session.browser.send(b"RFB 003.008\n".ljust(size, b"x"))
    assert session.host.heard == b""
    if code is None:
        session.host.send_raw(b"RFB 003.008\n")
        assert session.host.heard == b"RFB 003.008\n".ljust(size, b"x")
    else:
        assert session.browser.close == (code, "client-protocol-error")


def test_a_console_whose_words_are_not_known_to_begin_a_handshake_is_waited_for():
    session = Session(rfb_handshake="auto")
    session.host.send(b"RFB")
    session.browser.expect(b"")
    session.host.send(b" 003.008\n")
    session.browser.expect(b"RFB 003.008\n")


KEYS = {
    "key": struct.pack("!BBxxI", 4, 1, 0x61),
    "pointer": struct.pack("!BBHH", 5, 1, 10, 10),
    "extended pointer": struct.pack("!BBHHB", 5, 0x81, 10, 10, 1),
    "clipboard": struct.pack("!BxxxI", 6, 5) + b"hello",
    "extended clipboard": struct.pack("!Bxxxi", 6, -8) + b"12345678",
    "VMware key": struct.pack("!BBHHBB", 127, 0, 8, 30, 1, 0),
    "power": struct.pack("!BxBB", 250, 1, 2),
    "resize": struct.pack("!BxHHBx", 251, 800, 600, 1) + bytes(16),
    "QEMU key": struct.pack("!BBHII", 255, 0, 1, 0x61, 30),
    "continuous updates": struct.pack("!BBHHHH", 150, 1, 0, 0, 9, 9),
    "fence": struct.pack("!BxxxIB", 248, 0, 3) + b"abc",
}


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_viewer_may_look_but_not_touch(cut):
    session = Session(view_only=True)
    greeting = b"RFB 003.008\n"
    session.host.send(greeting)
    pixel_format = struct.pack("!Bxxx16s", 0, b"a pixel format..")
    request = struct.pack("!BBHHHH", 3, 0, 0, 0, 640, 480)
    said = greeting + b"\x01" + b"\x00"
    for message in KEYS.values():
        said += pixel_format + message + request
    heard = greeting + b"\x01" + b"\x01" + (pixel_format + request) * len(KEYS)
    for start in range(0, len(said), cut):
        session.browser.send(said[start : start + cut])
    session.host.expect(heard)


def test_a_viewer_sees_all_however_the_host_puts_it():
    session = Session(view_only=True)
    said = raw_frame(BINARY, b"1", fin=False) + raw_frame(PING, b"p") + raw_frame(0, b"2")
    session.host.send_raw(said + raw_frame(BINARY, b"3"))
    assert session.browser.messages == [b"12", b"3"]
    assert session.browser.pings == [b"p"]


def test_a_viewer_announces_no_encoding_that_waits_for_an_answer():
    session = Session(view_only=True)
    session.host.send(b"RFB 003.008\n")
    session.browser.send(b"RFB 003.008\n" + b"\x01\x01")
    wanted = [0, 16, -239, -312, -313, -258, 0x574D5664, 0x574D566C]
    session.browser.send(struct.pack("!BxH8i", 2, 8, *wanted))
    session.host.expect(
        b"RFB 003.008\n" + b"\x01\x01" + struct.pack("!BxH4i", 2, 4, 0, 16, -239, 0x574D5664)
    )


@pytest.mark.parametrize("message", [b"\x63", b"\x7f\x00\x00\x03", struct.pack("!BxH", 2, 2000)])
def test_a_viewer_that_says_something_unknown_is_sent_away(message):
    session = Session(view_only=True)
    session.host.send(b"RFB 003.008\n")
    session.browser.send(b"RFB 003.008\n" + b"\x01\x01")
    session.host.expect(b"RFB 003.008\n" + b"\x01\x01")
    session.browser.send(message)
    assert session.browser.until(lambda browser: browser.close).close[0] == 1008
    session.host.until(lambda host: host.close)
    assert not session.host.data


def test_a_viewer_cannot_choose_another_security_type():
    session = Session(view_only=True)
    session.host.send(b"RFB 003.008\n")
    session.browser.send(b"RFB 003.008\n" + b"\x02")
    assert session.browser.until(lambda browser: browser.close).close[0] == 1008


@pytest.mark.parametrize("framing", ["websocket", "bytes"])
@pytest.mark.parametrize("handshake", ["full", "auto"])
@pytest.mark.parametrize("cut", [1, 5, 12, 16])
def test_a_viewer_of_a_host_that_speaks_rfb_3_3_looks_and_does_not_touch(framing, handshake, cut):
    session = Session(framing=framing, rfb_handshake=handshake, view_only=True)
    version, chosen = b"RFB 003.003\n", b"\0\0\0\1"
    request = struct.pack("!BBHHHH", 3, 0, 0, 0, 640, 480)
    said = version + chosen
    session.browser.send(version)  # as a browser that does not wait
    for start in range(0, len(said), cut):
        part = said[start : start + cut]
        if framing == "websocket":
            session.host.send(b"")
            session.host.send(part)
        else:
            session.host.send_raw(part)
    session.browser.expect(said)
    session.browser.send(b"\0" + KEYS["key"] + request + KEYS["VMware key"])
    session.browser.send(KEYS["pointer"] + request)
    heard = version + b"\1" + request * 2
    if framing == "websocket":
        session.host.expect(heard)
    else:
        assert session.host.heard == heard


def test_a_viewer_that_speaks_another_version_than_its_host_is_sent_away():
    session = Session(view_only=True)
    session.host.send(b"RFB 003.003\n")
    session.browser.send(b"RFB 003.008\n\1")
    assert session.browser.until(lambda browser: browser.close).close[0] == 1008
    assert not session.host.data


def test_a_host_whose_version_nobody_knows_has_no_viewers():
    session = Session(view_only=True)
    session.host.send(b"RFB 009.009\n")
    session.browser.send(b"RFB 003.008\n\1")
    assert session.browser.until(lambda browser: browser.close).close[0] == 1014
    assert not session.host.data


def test_what_the_host_says_passes_as_it_is_once_the_viewer_has_answered():
    session = Session(view_only=True)
    session.host.send(b"RFB 003.008\n")
    assert not session.protocol.host.passes
    session.browser.send(b"RFB 003.008\n")
    assert session.protocol.host.passes


def test_close_frames_in_pieces_pass_whole():
    session = Session()
    for byte in raw_frame(PING, b"p", masked=True) + raw_frame(CLOSE, b"\x03\xe8", masked=True):
        session.browser.send_raw(bytes([byte]))
    session.host.until(lambda host: host.close == (1000, ""))
    assert session.host.pings == [b"p"]


@pytest.mark.parametrize("control", [False, True])
def test_a_browser_that_errs_with_the_last_of_the_handshake_hears_a_whole_goodbye(control):
    """What the host said meanwhile is in the middle of a frame that the browser never saw begin."""
    session = Session(rfb_handshake="missing", view_only=True, control=control)
    session.host.send_raw(b"\x82\x52" + bytes(14))
    browser = session.browser
    browser.until(lambda peer: peer.messages == [b"RFB 003.008\n"]).send(b"RFB 003.008\n")
    browser.until(lambda peer: len(peer.messages) == 2).send(b"\x01")
    browser.until(lambda peer: len(peer.messages) == 3).send(b"\x01\x99")
    session.host.send_raw(bytes(68))
    close = browser.close
    assert close is not None
    assert close[0] == 1008
    assert len(browser.messages) == 3
