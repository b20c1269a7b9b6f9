"""The relay, seen from its two ends."""

from __future__ import annotations

import contextlib
import json
import struct

import gevent
import pytest

from mksfilter import exceptions
from mksfilter.proxy.relay import timers
from mksfilter.proxy.relay.frames import BINARY, CLOSE, PING, close_frame, frame
from tests.proxy.relay.test_frames import VIOLATIONS, raw_frame
from tests.proxy.relay.wire import PATIENCE, Wire


@pytest.fixture
def wire():
    wires = []

    def make(**options) -> Wire:
        wires.append(Wire(**options))
        return wires[-1]

    yield make
    for each in wires:
        each.close()
        each.reason()


@pytest.fixture
def fast_clock(monkeypatch):
    """Slots of 10 ms, so that timeouts of tests are short and still met in order."""
    wheel = timers.TimerWheel(gevent.get_hub().loop, resolution=0.01)
    monkeypatch.setattr("mksfilter.proxy.relay.driver.shared_wheel", lambda: wheel)


def test_what_is_said_on_one_side_is_heard_on_the_other(wire):
    session = wire()
    session.host.send(b"RFB 003.008\n")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send(b"RFB 003.008\n")
    session.host.expect(b"RFB 003.008\n")
    assert session.relay.bytes_in == 18
    assert session.relay.bytes_out == 14


def test_frames_keep_their_boundaries_and_masks(wire):
    session = wire()
    stream = raw_frame(BINARY, b"a" * 300, masked=True) + raw_frame(BINARY, b"b", masked=True)
    session.browser.send_raw(stream)
    heard = b""
    while len(heard) < len(stream):
        heard += session.host.sock.recv(1000)
    assert heard == stream
    session.host.send_raw(
        raw_frame(BINARY, b"1", fin=False) + raw_frame(0, b"2") + raw_frame(BINARY, b"3")
    )
    session.browser.until(lambda browser: len(browser.messages) == 2)
    assert session.browser.messages == [b"12", b"3"]


def test_bytes_that_came_with_the_handshake_are_not_lost(wire):
    session = wire(early=frame(BINARY, b"early", masked=False)[:4])
    session.host.send_raw(frame(BINARY, b"early", masked=False)[4:])
    session.browser.expect(b"early")


def test_megabytes_arrive_whole_both_ways(wire):
    session = wire()
    payload = bytes(range(256)) * 4096

    def shout(peer):
        for start in range(0, len(payload), 16384):
            peer.send(payload[start : start + 16384])
        peer.send(payload)

    shouters = [gevent.spawn(shout, session.host), gevent.spawn(shout, session.browser)]
    readers = [gevent.spawn(peer.expect, payload * 2) for peer in (session.browser, session.host)]
    gevent.joinall(shouters + readers, timeout=PATIENCE, raise_error=True)
    assert all(reader.successful() for reader in readers)


def test_a_side_that_does_not_read_stops_the_other(wire):
    session = wire()
    sent = 0
    chunk = frame(BINARY, bytes(65536), masked=False)
    with gevent.Timeout(0.5, False):
        while True:
            session.host.sock.sendall(chunk)
            sent += len(chunk)
    held = session.relay._browser.transport.unsent
    assert 0 < held <= 300 * 1024
    with gevent.Timeout(0.2, False):
        session.host.sock.sendall(chunk)
        pytest.fail("more was taken although nobody reads")
    # Keys still get through while the picture is stuck.
    session.browser.send(b"key")
    session.host.expect(b"key")


# --- closing ---


def test_the_browsers_close_frame_passes_as_it_is_and_the_answer_passes_back(wire):
    session = wire()
    session.browser.send_close(4001, "bye")
    session.host.until(lambda host: host.close is not None)
    assert session.host.close == (4001, "bye")
    session.host.send_close(4001)
    assert session.browser.until_closed() == (4001, "")
    assert session.host.until_closed() == (4001, "bye")
    reason = session.reason()
    assert type(reason) is exceptions.SessionEnded
    assert reason.reason == "ended"


def test_the_hosts_close_frame_passes_as_it_is_and_the_answer_passes_back(wire):
    session = wire(control=True)
    session.host.send_close(1000, "powered off")
    session.browser.until(lambda browser: browser.close is not None)
    assert session.browser.texts[-1]["type"] == "end"
    assert session.browser.texts[-1]["reason"] == "upstream-lost"
    assert session.browser.close == (1000, "powered off")
    session.browser.send_close(1000)
    assert session.host.until_closed() == (1000, "")
    assert isinstance(session.reason(), exceptions.UpstreamLost)


def test_a_browser_that_closes_while_the_picture_streams_is_answered(wire):
    session = wire()
    session.host.send_raw(raw_frame(BINARY, length=100_000) + bytes(50_000))
    session.browser.sock.recv(100)
    session.browser.send_close(1000)
    session.host.until(lambda host: host.close is not None)
    session.host.send_raw(bytes(50_000) + close_frame(1000, masked=False))
    assert session.host.until_closed() == (1000, "")
    assert type(session.reason()) is exceptions.SessionEnded


def test_a_host_that_vanishes_closes_the_browser_with_the_reason(wire):
    session = wire(control=True)
    session.host.hang_up()
    assert session.browser.until(lambda browser: browser.close).close == (1011, "upstream-lost")
    assert session.browser.texts == [
        {
            "type": "end",
            "reason": "upstream-lost",
            "message": exceptions.UpstreamLost.public,
        }
    ]
    session.browser.send_close(1011)
    session.browser.until_closed()
    assert isinstance(session.reason(), exceptions.UpstreamLost)


def test_a_host_that_vanishes_inside_a_frame_closes_the_browser_without_a_word(wire):
    session = wire(control=True)
    session.host.send_raw(raw_frame(BINARY, length=1000) + b"part")
    session.host.hang_up()
    assert session.browser.until_closed() is None
    assert isinstance(session.reason(), exceptions.UpstreamLost)


def test_a_browser_that_vanishes_frees_the_console_at_once(wire):
    session = wire()
    session.browser.hang_up()
    assert session.host.until(lambda host: host.close).close == (1001, "")
    session.host.hang_up()
    assert isinstance(session.reason(), exceptions.ClientLost)


def test_a_browser_that_vanishes_inside_a_frame_ends_the_upstream_connection(wire):
    session = wire()
    session.browser.send_raw(raw_frame(BINARY, b"12345678", masked=True)[:9])
    gevent.sleep(0)
    session.browser.hang_up()
    assert session.host.until_closed() is None
    assert isinstance(session.reason(), exceptions.ClientLost)


def test_peers_that_do_not_answer_a_close_frame_are_cut_off(wire, fast_clock):
    session = wire(close_timeout=0.1)
    session.relay.close(exceptions.ServerDraining("drain"))
    assert session.browser.until_closed() == (1012, "server-draining")
    assert session.host.until_closed() == (1001, "")
    assert isinstance(session.reason(), exceptions.ServerDraining)


def test_an_ordered_end_waits_for_the_frame_in_flight(wire):
    session = wire(control=True)
    session.host.send_raw(raw_frame(BINARY, b"x" * 1000)[:500])
    session.browser.until(lambda browser: len(browser.data) > 400)
    session.relay.close(exceptions.LifetimeReached("over"))
    session.host.send_raw(raw_frame(BINARY, b"x" * 1000)[500:] + raw_frame(BINARY, b"late"))
    session.browser.until(lambda browser: browser.close is not None)
    assert session.browser.messages == [b"x" * 1000]
    assert session.browser.texts[-1]["reason"] == "lifetime-reached"
    assert session.browser.close == (4410, "lifetime-reached")
    assert session.host.until(lambda host: host.close).close == (1001, "")


def test_ending_twice_ends_once(wire):
    session = wire()
    session.relay.close(exceptions.IdleTimeout("first"))
    session.relay.close(exceptions.LifetimeReached("second"))
    session.browser.hang_up()
    session.host.hang_up()
    assert isinstance(session.reason(), exceptions.IdleTimeout)
    session.relay.close(exceptions.LifetimeReached("third"))


# --- violations ---


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_violation_is_answered_with_its_code_and_goes_no_further(wire, case):
    stream, from_browser, code = VIOLATIONS[case]
    session = wire()
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


def test_text_from_a_page_that_is_only_told_things_is_refused(wire):
    session = wire(control=True)
    session.browser.send_text("{}")
    assert session.browser.until(lambda browser: browser.close).close[0] == 1003


def test_text_from_a_host_cannot_pass_for_a_control_message(wire):
    session = wire(control=True)
    session.host.send_text('{"type": "resume", "token": "evil"}')
    session.browser.until(lambda browser: browser.close)
    assert [text["type"] for text in session.browser.texts] == ["end"]
    assert session.browser.close[0] == 1014


def test_frames_beyond_all_memory_cost_none(wire):
    session = wire()
    session.host.send_raw(raw_frame(BINARY, length=(1 << 63) - 1) + b"x")
    session.browser.sock.recv(100)
    session.browser.send_raw(raw_frame(BINARY, masked=True, length=1 << 62) + b"x")
    session.host.sock.recv(100)
    assert session.relay._browser.transport.unsent == 0


def test_a_fault_of_ours_ends_its_session_and_no_other(wire, monkeypatch, caplog):
    broken, other = wire(), wire()

    def fail(*args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(broken.relay._host.state.tracker.__class__, "feed", fail)
    broken.host.send(b"x")
    assert isinstance(broken.reason(), exceptions.RelayFailed)
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    other.host.send(b"fine")
    other.browser.expect(b"fine")


# --- control channel and pings ---


def test_control_messages_stand_between_messages(wire):
    session = wire(control=True)
    session.host.send_raw(raw_frame(BINARY, b"a", fin=False))
    session.browser.until(lambda browser: browser.data == b"a")
    session.relay.send_control(json.dumps({"type": "resume"}))
    session.host.send_raw(raw_frame(0, b"b", fin=False) + raw_frame(0, b"c") + raw_frame(2, b"d"))
    session.browser.until(lambda browser: len(browser.messages) == 2)
    assert session.browser.messages == [b"abc", b"d"]
    assert session.browser.texts == [{"type": "resume"}]


def test_control_messages_reach_only_those_who_asked(wire):
    session = wire(control=False)
    session.relay.send_control(json.dumps({"type": "resume"}))
    session.host.send(b"x")
    session.browser.expect(b"x")
    assert not session.browser.texts


def test_pings_of_either_side_pass_and_so_do_their_answers(wire):
    session = wire()
    session.host.send_ping(b"from the host")
    session.browser.until(lambda browser: browser.pings == [b"from the host"])
    session.browser.send_pong(b"from the host")
    session.host.until(lambda host: host.pongs == [b"from the host"])
    session.browser.send_ping(b"from the browser")
    session.host.until(lambda host: host.pings == [b"from the browser"])


def test_pings_among_data_keep_their_place(wire):
    session = wire()
    said = [
        raw_frame(BINARY, b"1"),
        raw_frame(PING, b"p"),
        raw_frame(PING),
        raw_frame(BINARY, b"2"),
    ]
    said += [raw_frame(PING, b"q"), close_frame(1000, masked=False)]
    session.host.send_raw(b"".join(said))
    heard = b""
    while len(heard) < sum(map(len, said)):
        heard += session.browser.sock.recv(1000)
    assert heard == b"".join(said)
    session.browser.send_close()


def test_a_host_that_floods_with_tiny_frames_gets_small_portions_of_the_loop(wire):
    session = wire()
    flood = raw_frame(BINARY, b"", fin=False) + raw_frame(0, b"", fin=False) * 400_000
    sender = gevent.spawn(session.host.send_raw, flood)
    reader = gevent.spawn(session.browser.sock.makefile("rb").read, len(flood))
    portions, before = [], 0
    with gevent.Timeout(PATIENCE):
        while before < len(flood):
            gevent.sleep(0)  # once around the loop
            portions.append(session.relay.bytes_out - before)
            before = session.relay.bytes_out
        assert reader.get() == flood
    first = next(number for number, portion in enumerate(portions) if portion)
    assert max(portions[first + 1 :]) <= 8 * 1024  # of the first nobody knew
    sender.get()


@pytest.mark.parametrize("payload", [b"", b"x" * 125])
def test_a_browser_that_floods_with_pings_is_shown_out(wire, payload):
    session = wire()
    ping = frame(PING, payload, masked=True)
    session.browser.send_raw(ping * 100)  # an odd client, but nobody's harm
    session.host.until(lambda host: len(host.pings) == 100)
    with contextlib.suppress(OSError):
        session.browser.send_raw(ping * 5000)
    reason = session.reason()
    assert isinstance(reason, exceptions.ClientViolation)
    assert "flood" in str(reason)
    assert session.relay.bytes_in < 100_000


def test_a_host_that_floods_with_pings_is_left(wire):
    session = wire()
    with contextlib.suppress(OSError):
        session.host.send_raw(frame(PING, b"", masked=False) * 20000)
    assert session.browser.until_closed() == (1014, "upstream-protocol-error")
    assert isinstance(session.reason(), exceptions.UpstreamViolation)


def test_our_pings_are_answered_to_us_and_to_nobody_else(wire, fast_clock):
    session = wire(ping_interval=0.05)
    session.browser.until(lambda browser: browser.pings)
    session.browser.send_pong(session.browser.pings[-1])
    session.browser.send(b"after")
    session.host.expect(b"after")
    assert not session.host.pongs


def test_our_pings_stand_between_the_frames_of_a_stream(wire, fast_clock):
    session = wire(ping_interval=0.05)
    part = raw_frame(BINARY, b"x" * 5000)
    # Never quiet at the end of a frame.
    session.host.send_raw(part[:2000])
    for _ in range(20):
        gevent.sleep(0.01)
        session.host.send_raw(part[2000:] + part[:2000])
    session.browser.until(lambda browser: browser.pings)


def test_a_browser_that_does_not_answer_pings_is_given_up(wire, fast_clock):
    session = wire(ping_interval=0.05, close_timeout=0.05)
    reason = session.reason()
    assert isinstance(reason, exceptions.ClientLost)
    assert session.host.until_closed() == (1001, "")


def test_a_browser_that_answers_pings_and_says_nothing_else_stays(wire, monkeypatch):
    """On a clock as coarse as the real one is beside its interval: an answer within a tick."""
    wheel = timers.TimerWheel(gevent.get_hub().loop, resolution=0.05)
    monkeypatch.setattr("mksfilter.proxy.relay.driver.shared_wheel", lambda: wheel)
    session = wire(ping_interval=0.15)
    for _ in range(8):
        session.browser.until(lambda browser: browser.pings)
        session.browser.send_pong(session.browser.pings.pop())
    assert session.relay.reason is None


def test_a_host_that_does_not_answer_pings_is_given_up(wire, fast_clock):
    session = wire(ping_interval=0, upstream_ping_interval=0.05, close_timeout=0.05)
    assert isinstance(session.reason(), exceptions.UpstreamLost)


# --- clocks ---


def test_a_session_ends_with_its_lifetime(wire, fast_clock):
    session = wire(lifetime=0.1, close_timeout=0.05)
    assert session.browser.until_closed() == (4410, "lifetime-reached")
    assert isinstance(session.reason(), exceptions.LifetimeReached)


def test_a_session_ends_when_the_browser_sends_nothing_though_it_answers_pings(wire, fast_clock):
    session = wire(idle_timeout=0.3, ping_interval=0.05, close_timeout=0.05)
    while session.browser.close is None:
        session.browser.step()
        if session.browser.pings:
            session.browser.send_pong(session.browser.pings.pop())
    assert session.browser.close == (4408, "idle-timeout")


def test_a_session_in_use_is_not_idle(wire, fast_clock):
    session = wire(idle_timeout=0.2, ping_interval=0)
    for _ in range(10):
        session.browser.send(b"x")
        session.host.expect(b"x")
        gevent.sleep(0.05)
    assert session.relay.reason is None


def test_a_browser_that_reads_nothing_is_cut_off(wire, fast_clock):
    session = wire(stall_timeout=0.2, ping_interval=0, close_timeout=0.05)
    chunk = frame(BINARY, bytes(65536), masked=False)
    with pytest.raises(ConnectionError):
        session.host.sock.sendall(chunk * 1000)
    assert isinstance(session.reason(), exceptions.SlowReader)


# --- decoding ---


def server_init() -> bytes:
    return struct.pack("!HH16sI", 640, 480, b"pixel format 16B", 2) + b"vm"


def test_bytes_of_authd_become_messages_and_messages_become_bytes(wire):
    session = wire(framing="bytes", early=b"RFB 00", rfb_handshake="auto")
    session.host.send_raw(b"3.008\n")
    session.browser.expect(b"RFB 003.008\n")
    for part in (
        raw_frame(BINARY, b"RFB 0", masked=True, fin=False),
        raw_frame(0, b"03.008\n", masked=True),
    ):
        session.browser.send_raw(part)
    assert session.host.sock.recv(5) == b"RFB 0"
    assert session.host.sock.recv(100) == b"03.008\n"
    session.host.send_raw(bytes(100_000))
    session.browser.until(lambda browser: len(browser.data) == 100_000)


def test_pings_to_a_host_without_frames_are_answered_for_it(wire):
    session = wire(framing="bytes")
    session.browser.send_ping(b"there?")
    session.browser.until(lambda browser: browser.pongs == [b"there?"])
    session.browser.send_close(1000)
    assert session.browser.until_closed() == (1000, "ended")
    assert session.host.sock.recv(1) == b""


@pytest.mark.parametrize("framing", ["bytes", "websocket"])
@pytest.mark.parametrize("declared", ["auto", "missing"])
def test_a_missing_handshake_is_played_to_the_browser(wire, framing, declared):
    session = wire(framing=framing, rfb_handshake=declared)
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
        assert session.host.sock.recv(100) == request
    speak(b"update")
    browser.expect(b"update")


def test_a_full_handshake_is_left_alone(wire):
    session = wire(rfb_handshake="auto")
    session.host.send(b"RFB 003.008\n")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send(b"RFB 003.008\n")
    session.host.expect(b"RFB 003.008\n")
    session.host.send(b"\x01\x01")
    session.browser.expect(b"\x01\x01")


def test_a_browser_that_leaves_the_played_handshake_frees_the_console(wire):
    session = wire(rfb_handshake="missing", framing="bytes")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send_close(1000)
    assert session.host.sock.recv(1) == b""
    session.browser.until_closed()


def test_a_console_lost_during_the_played_handshake_is_told_to_the_browser(wire):
    session = wire(rfb_handshake="missing", framing="bytes")
    session.browser.expect(b"RFB 003.008\n")
    session.host.sock.close()
    assert session.browser.until_closed() == (1011, "upstream-lost")


def test_a_console_that_talks_through_the_played_handshake_is_heard_whole(wire):
    session = wire(rfb_handshake="missing", framing="bytes")
    browser = session.browser
    browser.expect(b"RFB 003.008\n")
    said = bytes(range(256)) * 1024
    sender = gevent.spawn(session.host.send_raw, said)
    for reply in (b"RFB 003.008\n", b"\x01", b"\x01"):
        browser.send(reply)
    played = b"\x01\x01" + b"\x00\x00\x00\x00"
    browser.until(lambda browser: len(browser.data) == len(played) + len(said))
    sender.get()
    assert browser.data == played + said


def test_a_wrong_reply_to_the_played_handshake_ends_the_session(wire):
    session = wire(rfb_handshake="missing", framing="bytes")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send(b"GET / HTTP/1.1\r\n")
    assert session.browser.until(lambda browser: browser.close).close[0] == 1008


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
def test_a_viewer_may_look_but_not_touch(wire, cut):
    session = wire(view_only=True)
    greeting = b"RFB 003.008\n"
    pixel_format = struct.pack("!Bxxx16s", 0, b"a pixel format..")
    request = struct.pack("!BBHHHH", 3, 0, 0, 0, 640, 480)
    said = greeting + b"\x01" + b"\x00"
    for message in KEYS.values():
        said += pixel_format + message + request
    heard = greeting + b"\x01" + b"\x01" + (pixel_format + request) * len(KEYS)
    for start in range(0, len(said), cut):
        session.browser.send(said[start : start + cut])
    session.host.expect(heard)


def test_a_viewer_announces_no_encoding_that_waits_for_an_answer(wire):
    session = wire(view_only=True)
    session.browser.send(b"RFB 003.008\n" + b"\x01\x01")
    wanted = [0, 16, -239, -312, -313, -258, 0x574D5664, 0x574D566C]
    session.browser.send(struct.pack("!BxH8i", 2, 8, *wanted))
    session.host.expect(
        b"RFB 003.008\n" + b"\x01\x01" + struct.pack("!BxH4i", 2, 4, 0, 16, -239, 0x574D5664)
    )


@pytest.mark.parametrize("message", [b"\x63", b"\x7f\x00\x00\x03", struct.pack("!BxH", 2, 2000)])
def test_a_viewer_that_says_something_unknown_is_sent_away(wire, message):
    session = wire(view_only=True)
    session.browser.send(b"RFB 003.008\n" + b"\x01\x01")
    session.host.expect(b"RFB 003.008\n" + b"\x01\x01")
    session.browser.send(message)
    assert session.browser.until(lambda browser: browser.close).close[0] == 1008
    session.host.until(lambda host: host.close)
    assert not session.host.data


def test_a_viewer_cannot_choose_another_security_type(wire):
    session = wire(view_only=True)
    session.browser.send(b"RFB 003.008\n" + b"\x02")
    assert session.browser.until(lambda browser: browser.close).close[0] == 1008


def test_close_frames_in_pieces_pass_whole(wire):
    session = wire()
    for byte in raw_frame(PING, b"p", masked=True) + raw_frame(CLOSE, b"\x03\xe8", masked=True):
        session.browser.send_raw(bytes([byte]))
        gevent.sleep(0)
    session.host.until(lambda host: host.close == (1000, ""))
    assert session.host.pings == [b"p"]


def test_a_browser_that_errs_with_the_last_of_the_handshake_hears_a_whole_goodbye(wire):
    """What the host said meanwhile is in the middle of a frame that the browser never saw begin."""
    session = wire(rfb_handshake="missing", view_only=True)
    session.host.send_raw(b"\x82\x52" + bytes(14))
    browser = session.browser
    browser.until(lambda peer: peer.messages == [b"RFB 003.008\n"]).send(b"RFB 003.008\n")
    browser.until(lambda peer: len(peer.messages) == 2).send(b"\x01")
    browser.until(lambda peer: len(peer.messages) == 3).send(b"\x01\x99")
    while session.relay.reason is None:
        gevent.idle()
    session.host.send_raw(bytes(68))
    close = browser.until_closed()
    assert close is not None
    assert close[0] == 1008
    assert len(browser.messages) == 3
