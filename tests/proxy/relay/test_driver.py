"""The relay on sockets, seen from its two ends; all that a session can go through is in
test_protocol."""

from __future__ import annotations

import contextlib

import gevent
import gevent.socket
import pytest

from mksfilter import exceptions
from mksfilter.proxy.relay import timers
from mksfilter.proxy.relay.frames import BINARY, PING, frame
from tests.proxy.relay.test_frames import raw_frame
from tests.proxy.relay.test_transport import tls_pair
from tests.proxy.relay.wire import LIMIT, Wire
from tests.support.certificates import SelfSigned
from tests.support.key_updates import KeyUpdates, client_secret


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


def test_bytes_that_came_with_the_handshake_are_not_lost(wire):
    session = wire(early=frame(BINARY, b"early", masked=False)[:4])
    session.host.send_raw(frame(BINARY, b"early", masked=False)[4:])
    session.browser.expect(b"early")


class TestFirstByte:
    def test_is_told_once(self, wire):
        told = []
        session = wire(on_first_byte=lambda: told.append("first"))
        assert told == []
        for word in (b"one", b"two", b"three"):
            session.host.send(word)
            session.browser.expect(word)
        assert told == ["first"]

    def test_may_have_come_with_the_handshake(self, wire):
        told = []
        early = frame(BINARY, b"early", masked=False)
        session = wire(early=early, on_first_byte=lambda: told.append("first"))
        session.browser.expect(b"early")
        session.host.send(b"more")
        session.browser.expect(b"more")
        assert told == ["first"]

    def test_from_a_browser_is_none(self, wire):
        told = []
        session = wire(on_first_byte=lambda: told.append("first"))
        session.browser.send(b"typed")
        session.host.expect(b"typed")
        assert told == []

    def test_of_the_browser_is_told_once_too(self, wire):
        told = []
        session = wire(on_heard=lambda: told.append("heard"))
        session.host.send(b"said")
        session.browser.expect(b"said")
        assert told == []
        for word in (b"one", b"two", b"three"):
            session.browser.send(word)
            session.host.expect(word)
        assert told == ["heard"]

    def test_and_more_than_the_browser_takes_still_waits_for_it(self, wire):
        session = wire(on_first_byte=lambda: None)
        chunk = frame(BINARY, bytes(65536), masked=False)
        sent = 0
        with gevent.Timeout(0.5, False):
            while True:
                session.host.sock.sendall(chunk)
                sent += 1
        assert sent < 100, "read although the browser does not"


def test_megabytes_arrive_whole_both_ways(wire):
    session = wire()
    payload = bytes(range(256)) * 4096

    def shout(peer):
        for start in range(0, len(payload), 16384):
            peer.send(payload[start : start + 16384])
        peer.send(payload)

    shouters = [gevent.spawn(shout, session.host), gevent.spawn(shout, session.browser)]
    readers = [gevent.spawn(peer.expect, payload * 2) for peer in (session.browser, session.host)]
    gevent.joinall(shouters + readers, timeout=LIMIT, raise_error=True)
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


def test_who_asks_tls_for_answers_and_does_not_read_them_is_a_slow_reader(
    wire, fast_clock, tmp_path
):
    ends = gevent.socket.socketpair()
    ends[1].setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_SNDBUF, 1)
    key_log = tmp_path / "keys.log"
    client, server = tls_pair(ends, SelfSigned(tmp_path), "TLSv1.3", key_log=key_log)
    updates = KeyUpdates(client_secret(key_log), sequence=1)
    session = wire(client=server, stall_timeout=0.2)
    client._sock.send(b"".join(updates.record() for _ in range(400)))
    assert isinstance(session.reason(), exceptions.SlowReader)
    client.close()


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


def test_a_host_that_vanishes_closes_the_browser_with_the_reason(wire):
    session = wire(control=True)
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


def test_a_browser_that_vanishes_frees_the_console_at_once(wire):
    session = wire()
    session.browser.hang_up()
    assert session.host.until(lambda host: host.close).close == (1001, "")
    session.host.hang_up()
    assert isinstance(session.reason(), exceptions.ClientLost)


def test_peers_that_do_not_answer_a_close_frame_are_cut_off(wire, fast_clock):
    session = wire(close_timeout=0.1)
    session.relay.close(exceptions.ServerDraining("drain"))
    assert session.browser.until_closed() == (1012, "server-draining")
    assert session.host.until_closed() == (1001, "")
    assert isinstance(session.reason(), exceptions.ServerDraining)


def test_a_browser_slow_to_read_hears_all_before_the_connection_is_closed(wire):
    session = wire(close_timeout=LIMIT)
    while not session.relay._browser.blocked:
        session.host.send(bytes(65536))
        gevent.idle()
    session.relay.close(exceptions.ServerDraining("drain"))
    session.browser.send_close(1012)
    session.host.send_close(1001)
    assert session.host.until_closed() == (1001, "")
    assert session.relay._browser.transport.unsent
    assert session.browser.until_closed() == (1012, "server-draining")
    assert set(session.browser.messages) == {bytes(65536)}
    assert isinstance(session.reason(), exceptions.ServerDraining)


def test_a_browser_that_leaves_while_it_is_waited_for_is_let_go(wire):
    session = wire(close_timeout=LIMIT)
    while not session.relay._browser.blocked:
        session.host.send(bytes(65536))
        gevent.idle()
    session.relay.close(exceptions.ServerDraining("drain"))
    session.browser.send_close(1012)
    session.host.send_close(1001)
    session.host.until_closed()
    session.browser.hang_up()
    assert isinstance(session.reason(), exceptions.ServerDraining)


def test_a_browser_that_vanishes_while_it_is_sent_to_is_lost(wire):
    session = wire()
    while not session.relay._browser.blocked:
        session.host.send(bytes(65536))
        gevent.idle()
    session.browser.hang_up()
    assert isinstance(session.reason(), exceptions.ClientLost)


def test_a_control_message_is_sent_and_after_the_end_is_not(wire):
    session = wire(control=True)
    session.relay.send_control('{"type": "notice"}')
    session.browser.until(lambda browser: browser.texts == [{"type": "notice"}])
    session.browser.hang_up()
    session.host.until(lambda host: host.close)
    session.host.hang_up()
    session.reason()
    session.relay.send_control('{"type": "notice"}')
    session.relay.close(exceptions.IdleTimeout("over long ago"))
    assert isinstance(session.relay.reason, exceptions.ClientLost)
    assert session.relay.slot == 0


def test_ending_twice_ends_once(wire):
    session = wire()
    session.relay.close(exceptions.IdleTimeout("first"))
    session.relay.close(exceptions.LifetimeReached("second"))
    session.browser.hang_up()
    session.host.hang_up()
    assert isinstance(session.reason(), exceptions.IdleTimeout)
    session.relay.close(exceptions.LifetimeReached("third"))


def test_a_fault_of_ours_ends_its_session_and_no_other(wire, monkeypatch):
    broken, other = wire(), wire()

    def fail(*args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(broken.relay._host.state.tracker.__class__, "feed", fail)
    broken.host.send(b"x")
    assert isinstance(broken.reason(), exceptions.RelayFailed)
    assert isinstance(broken.reason().__cause__, ZeroDivisionError)
    monkeypatch.undo()
    other.host.send(b"fine")
    other.browser.expect(b"fine")


# --- floods ---


def test_a_host_that_floods_with_tiny_frames_gets_small_portions_of_the_loop(wire):
    session = wire()
    flood = raw_frame(BINARY, b"", fin=False) + raw_frame(0, b"", fin=False) * 400_000
    sender = gevent.spawn(session.host.send_raw, flood)
    reader = gevent.spawn(session.browser.sock.makefile("rb").read, len(flood))
    portions, before = [], 0
    with gevent.Timeout(LIMIT):
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


# --- clocks ---


def test_a_browser_that_answers_pings_and_says_nothing_else_stays(wire, monkeypatch):
    """On a clock as coarse as the real one is beside its interval: an answer within a tick."""
    wheel = timers.TimerWheel(gevent.get_hub().loop, resolution=0.05)
    monkeypatch.setattr("mksfilter.proxy.relay.driver.shared_wheel", lambda: wheel)
    session = wire(ping_interval=0.15)
    for _ in range(8):
        session.browser.until(lambda browser: browser.pings)
        session.browser.send_pong(session.browser.pings.pop())
    assert session.relay.reason is None


def test_a_session_ends_with_its_lifetime(wire, fast_clock):
    session = wire(lifetime=0.1, close_timeout=0.05)
    assert session.browser.until_closed() == (4410, "lifetime-reached")
    assert isinstance(session.reason(), exceptions.LifetimeReached)


def test_a_browser_that_reads_nothing_is_cut_off(wire, fast_clock):
    session = wire(stall_timeout=0.2, ping_interval=0, close_timeout=0.05)
    chunk = frame(BINARY, bytes(65536), masked=False)
    with pytest.raises(ConnectionError):
        session.host.sock.sendall(chunk * 1000)
    assert isinstance(session.reason(), exceptions.SlowReader)


# --- a host without frames ---


def test_bytes_of_authd_become_messages_and_messages_become_bytes(wire):
    session = wire(framing="bytes", early=b"RFB 00", rfb_handshake="auto")
    session.host.send_raw(b"3.008\n")
    session.browser.expect(b"RFB 003.008\n")
    session.browser.send(b"RFB 003.008\n")
    assert session.host.sock.recv(100) == b"RFB 003.008\n"
    for size in (1, 125, 126, 65535, 65536, 100_000):
        session.host.send_raw(bytes(range(256)) * (size // 256) + bytes(size % 256))
        session.browser.expect(bytes(range(256)) * (size // 256) + bytes(size % 256))


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
