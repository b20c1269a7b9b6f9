"""RFC 6455 as a relay has to keep it, and what gevent-websocket used bare gets wrong.

By section of the RFC; against the running proxy, over raw sockets.
"""

from __future__ import annotations

import struct

import pytest
from websockets.frames import Close, Frame, Opcode

from mksfilter.simulator.client import WEB_1
from tests.support.page_client import open_page, told, until_closed
from tests.support.proxy import RunningProxy, parse_head, read_head, read_to_end

MASK = b"\x00\x00\x00\x00"


class Client:
    """A WebSocket client that sends whatever it is told to."""

    def __init__(self, proxy: RunningProxy, token: str) -> None:
        self.socket = proxy.connect()
        self.socket.sendall(proxy.handshake(token))
        self.answer = parse_head(read_head(self.socket))
        assert self.answer.status == 101

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def frame(self) -> tuple[int, bytes]:
        first, second = self.read(2)
        assert first & 0x70 == 0, "reserved bits"
        assert not second & 0x80, "a server's frame is masked"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.read(8))
        return first & 0x0F, self.read(length)

    def close_code(self) -> int:
        """The code of the close frame that ends the session."""
        while True:
            opcode, payload = self.frame()
            if opcode == Opcode.CLOSE:
                return Close.parse(payload).code


@pytest.fixture
def client(proxy):
    with Client(proxy, proxy.token(WEB_1)) as client:
        yield client


def masked(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(Opcode(opcode), data, fin=fin).serialize(mask=True)


class TestOpeningHandshake:
    """Section 4.2."""

    @pytest.mark.parametrize("version", ["8", "7", "0", "14", None])
    def test_another_version_is_told_which_one_we_speak(self, proxy, version):
        """4.4; gevent-websocket accepts 7 and 8."""
        token = proxy.token(WEB_1)
        answer = proxy.upgrade(token, headers={"Sec-WebSocket-Version": version})
        assert (answer.status, answer.body) == (426, b"")
        assert answer.headers["sec-websocket-version"] == "13"

    @pytest.mark.parametrize("key", ["", "x", "AAAA", "dGhlIHNhbXBsZSBub25jZQ", "ü" * 24, None])
    def test_a_malformed_key_is_a_bad_request(self, proxy, key):
        """4.2.1 point 5; gevent-websocket answers some with 500."""
        answer = proxy.upgrade(proxy.token(WEB_1), headers={"Sec-WebSocket-Key": key})
        assert (answer.status, answer.body) == (400, b"")

    @pytest.mark.parametrize(
        ("offered", "answered"),
        [
            ([], None),
            (["binary"], "binary"),
            (["base64", "binary"], "binary"),
            (["binary", "mks.v1"], "mks.v1"),
            (["notbinary"], None),
            (["vmware-vvc"], None),
        ],
    )
    def test_one_offered_subprotocol_is_answered_and_none_if_none_was(
        self, proxy, offered, answered
    ):
        """4.2.2 point 5; gevent-websocket matches by substring."""
        answer = proxy.upgrade(proxy.token(WEB_1), subprotocols=offered)
        assert answer.status == 101
        assert answer.headers.get("sec-websocket-protocol") == answered

    def test_no_extension_is_negotiated_on_either_side(self, proxy, vsphere):
        """4.2.2 point 5; the relay passes frames on as they are."""
        answer = proxy.upgrade(
            proxy.token(WEB_1), headers={"Sec-WebSocket-Extensions": "permessage-deflate"}
        )
        assert "sec-websocket-extensions" not in answer.headers

    def test_no_101_before_the_console_is_there(self, proxy, vsphere):
        """gevent-websocket sends it before the application is asked."""
        vsphere.set_all("host", refuse_tickets=True)
        answer = proxy.upgrade(proxy.token(WEB_1))
        assert (answer.status, answer.body) == (502, b"")

    def test_http_1_0_cannot_upgrade(self, proxy):
        request = proxy.handshake(proxy.token(WEB_1)).replace(b"HTTP/1.1", b"HTTP/1.0")
        assert parse_head(proxy.exchange(request)).status == 426


class TestFraming:
    """Section 5."""

    def test_an_unmasked_frame_of_a_client_ends_the_session(self, client, vsphere):
        """5.1; gevent-websocket accepts it."""
        client.send(b"\x82\x0cRFB 003.008\n")
        assert client.close_code() == 1002
        assert vsphere.connections("web-1", count=0) == []

    @pytest.mark.parametrize("first", [0x82 | 0x40, 0x82 | 0x20, 0x82 | 0x10, 0x83, 0x8B])
    def test_reserved_bits_and_opcodes_end_the_session(self, client, first):
        """5.2."""
        client.send(bytes([first, 0x80]) + MASK)
        assert client.close_code() == 1002

    def test_a_length_with_its_highest_bit_set_ends_the_session(self, client):
        """5.2; gevent-websocket caps nothing."""
        client.send(b"\x82\xff" + struct.pack("!Q", 1 << 63) + MASK)
        assert client.close_code() in (1002, 1009)

    @pytest.mark.parametrize("opcode", [0x8, 0x9, 0xA])
    def test_a_control_frame_is_short_and_whole(self, proxy, opcode):
        """5.5."""
        for frame in (
            bytes([0x80 | opcode, 0x80 | 126, 0, 126]) + MASK + bytes(126),
            bytes([opcode, 0x80]) + MASK,
        ):
            with Client(proxy, proxy.token(WEB_1)) as client:
                client.send(frame)
                assert client.close_code() == 1002

    def test_a_continuation_of_nothing_ends_the_session(self, client):
        """5.4."""
        client.send(masked(Opcode.CONT, b"x"))
        assert client.close_code() == 1002

    def test_a_message_inside_a_message_ends_the_session(self, client):
        """5.4."""
        client.send(masked(Opcode.BINARY, b"RFB", fin=False) + masked(Opcode.BINARY, b"x"))
        assert client.close_code() == 1002

    def test_a_text_frame_from_our_page_ends_the_session(self, proxy):
        """But for a beat, the control channel runs one way."""
        with open_page(proxy, proxy.token(WEB_1)) as client:
            told(client)
            client.send("hello")
            said, code = until_closed(client)
        assert said[-1]["reason"] == "client-protocol-error"
        assert code in (1002, 1003)

    def test_a_ping_is_answered_even_between_fragments(self, client):
        """5.5.2 and 5.4."""
        client.send(masked(Opcode.BINARY, b"RFB 003", fin=False))
        client.send(masked(Opcode.PING, b"are you there"))
        client.send(masked(Opcode.CONT, b".008\n"))
        seen = []
        while (Opcode.PONG, b"are you there") not in seen:
            seen.append(client.frame())


class TestClosing:
    """Section 7."""

    def test_a_close_frame_is_answered_with_its_code_and_the_console_is_closed(
        self, client, vsphere
    ):
        """5.5.1; gevent-websocket never sends a close code."""
        client.send(masked(Opcode.CLOSE, Close(1000, "done").serialize()))
        assert client.close_code() == 1000
        assert read_to_end(client.socket) == b""
        assert vsphere.connections("web-1", count=0) == []

    @pytest.mark.parametrize("code", [1005, 1006, 1015, 999, 5000])
    def test_codes_that_are_never_on_the_wire_are_not_relayed(self, client, code):
        """7.4.1."""
        client.send(masked(Opcode.CLOSE, struct.pack("!H", code)))
        assert client.close_code() in (1000, 1002)

    def test_a_client_that_just_goes_away_takes_its_console_along(self, proxy, vsphere):
        """CloudStack 9544: a proxy that leaves it open uses the machine's console limit up."""
        with Client(proxy, proxy.token(WEB_1)):
            assert len(vsphere.connections("web-1", count=1)) == 1
        assert vsphere.connections("web-1", count=0) == []

    def test_a_console_that_goes_away_is_told_with_a_code(self, client, vsphere):
        """7.4.1: 1011 for what the server ran into."""
        vsphere.drop("web-1")
        assert client.close_code() in (1011, 1014)

    def test_a_refusal_after_the_handshake_has_a_code_and_a_short_reason(self, proxy, vsphere):
        """7.4.2 and 5.5: 4000-4999 are ours, a reason has at most 123 bytes."""
        vsphere.power_off("web-1")
        with open_page(proxy, proxy.token(WEB_1)) as client:
            _, code = until_closed(client)
        assert code == 4409
        assert len(client.close_reason.encode()) <= 123


class TestPeersThatDoNotRead:
    def test_an_answer_never_lands_inside_another_frame(self, proxy, vsphere):
        """gevent-websocket corrupts the stream when a pong is due while a send is blocked."""
        vsphere.set_vm("web-1", hostile="reason")
        with Client(proxy, proxy.token(WEB_1)) as client:
            client.send(masked(Opcode.BINARY, b"RFB 003.008\n"))
            client.socket.setblocking(False)
            for number in range(50):  # nobody reads meanwhile, and the host never stops
                client.socket.sendall(masked(Opcode.PING, b"%d" % number))
            client.socket.settimeout(20)
            # A frame that was cut open would leave junk where a header should be.
            seen = {client.frame()[0] for _ in range(2000)}
        assert seen <= {Opcode.BINARY, Opcode.PONG}

    def test_a_client_that_stops_reading_loses_its_session_in_time(self, proxy_factory, vsphere):
        vsphere.set_vm("web-1", hostile="reason")
        proxy = proxy_factory(stall_timeout=1)
        with Client(proxy, proxy.token(WEB_1)) as client:
            client.send(masked(Opcode.BINARY, b"RFB 003.008\n"))
            line = proxy.wait_for_log("reason=slow-reader")
        assert "session-ended" in line
