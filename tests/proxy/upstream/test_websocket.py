"""The handshake towards a console host agrees with ``websockets``, which keeps to RFC 6455."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI
from websockets.utils import accept_key

from mksfilter.proxy.upstream import websocket

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = accept_key(KEY)
GOOD = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", ACCEPT),
    ("Sec-WebSocket-Protocol", "binary"),
]
OTHERS = [
    ("upgrade", "WebSocket"),
    ("Upgrade", "h2c"),
    ("Upgrade", "websocket, h2c"),
    ("Upgrade", ""),
    ("CONNECTION", "keep-alive, upgrade"),
    ("Connection", "close"),
    ("Connection", ",,"),
    ("Connection", '"upgrade"'),
    ("Sec-WebSocket-Accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("sec-websocket-accept", ACCEPT),
    ("Sec-WebSocket-Accept", ACCEPT.swapcase()),
    ("Sec-WebSocket-Protocol", "uint8utf8"),
    ("Sec-WebSocket-Protocol", "binary, binary"),
    ("sec-websocket-protocol", "binary"),
    ("Sec-WebSocket-Protocol", "Binary"),
    ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ("Sec-WebSocket-Extensions", ""),
    ("Server", "Apache/2.0 (caf\u00e9)"),
    ("X-Odd", "a: b,\t c"),
]
BROKEN = [b"No colon", b"Name : value", b" folded", b": nameless", b"Bare: line\nfeed", b"N\x00: x"]


def answer(headers, status_line=b"HTTP/1.1 101 Switching Protocols", broken=()) -> bytes:
    lines = [f"{name}: {value}".encode("latin-1") for name, value in headers]
    return b"\r\n".join([status_line, *lines, *broken, b"", b""])


def accepts(raw: bytes) -> bool:
    try:
        if websocket.status(raw) != 101:
            return False
        websocket.check(raw, KEY)
    except websocket.AnswerError:
        return False
    return True


def library_accepts(raw: bytes) -> bool:
    uri = WebSocketURI(True, "esx1", 443, "/ticket/1", "")
    client = ClientProtocol(uri, subprotocols=[Subprotocol("binary")])
    client.key = KEY
    client.send_request(client.connect())
    client.receive_data(raw)
    return client.state is OPEN


@given(
    st.permutations(GOOD),
    st.integers(0, len(GOOD)),
    st.lists(st.sampled_from(OTHERS), max_size=3),
    st.lists(st.sampled_from(BROKEN), max_size=1),
    st.randoms(use_true_random=False),
)
@example(GOOD, 0, [], [], None)
@example(GOOD, 0, [("Sec-WebSocket-Extensions", "permessage-deflate")], [], None)
@example(GOOD, 0, [("Connection", "close")], [], None)
def test_what_is_accepted_is_what_the_library_accepts(good, dropped, others, broken, order):
    headers = good[dropped:] + others
    if order is not None:
        order.shuffle(headers)
    raw = answer(headers, broken=broken)
    assert accepts(raw) == library_accepts(raw)


@pytest.mark.parametrize("without", [name for name, _ in GOOD])
def test_all_that_has_to_be_there_has_to_be_there(without):
    raw = answer([header for header in GOOD if header[0] != without])
    # A host may leave the choice of a subprotocol out (section 4.2.2), and old ESXi does.
    assert accepts(raw) == (without == "Sec-WebSocket-Protocol")


@pytest.mark.parametrize(
    ("status_line", "number"),
    [
        (b"HTTP/1.1 101 Switching Protocols", 101),
        (b"HTTP/1.1 101 ", 101),
        (b"HTTP/1.1 403", 403),
        (b"HTTP/1.1 200 caf\xe9", 200),
    ],
)
def test_a_status_is_read(status_line, number):
    assert websocket.status(answer(GOOD, status_line)) == number


@pytest.mark.parametrize(
    "status_line",
    [
        b"HTTP/1.0 101 Switching Protocols",
        b"HTTP/1.1 1010 Switching Protocols",
        b"HTTP/1.1  101 Switching Protocols",
        b"HTTP/1.1 101 bare\nline feed",
        b"HTTP/1.1 600 ?",
        b"220 VMware Authentication Daemon",
        b"",
    ],
)
def test_what_is_no_status_line_is_refused(status_line):
    with pytest.raises(websocket.AnswerError, match="status line"):
        websocket.status(answer(GOOD, status_line))


@pytest.mark.parametrize(
    "echoed",
    [
        ("Connection", "cafebabe12345678;Upgrade"),
        ("Upgrade", "cafebabe12345678"),
        ("Sec-WebSocket-Accept", "cafebabe12345678"),
        ("Sec-WebSocket-Protocol", "cafebabe12345678"),
        ("Sec-WebSocket-Extensions", "cafebabe12345678"),
        ("Ticket cafebabe12345678", "x"),
    ],
)
def test_a_host_that_repeats_the_ticket_does_not_get_it_into_an_error(echoed):
    with pytest.raises(websocket.AnswerError) as refused:
        websocket.check(answer([*GOOD, echoed]), KEY)
    assert "cafebabe" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("host", "port", "tls", "named"),
    [
        ("esx1.example.com", 443, True, "esx1.example.com"),
        ("esx1.example.com", 902, True, "esx1.example.com:902"),
        ("192.0.2.7", 80, False, "192.0.2.7"),
        ("2001:db8::7", 443, True, "[2001:db8::7]"),
        ("2001:db8::7", 8443, True, "[2001:db8::7]:8443"),
    ],
)
def test_a_server_that_keeps_to_the_rules_understands_the_request(host, port, tls, named):
    key, raw = websocket.request(host, port, "/ticket/1?a=b", tls=tls)
    server = ServerProtocol(subprotocols=[Subprotocol("binary")])
    server.receive_data(raw)
    [request] = server.events_received()
    assert request.path == "/ticket/1?a=b"
    assert request.headers["Host"] == named
    response = server.accept(request)
    server.send_response(response)
    websocket.check(b"".join(server.data_to_send()), key)


def test_no_two_requests_have_the_same_key():
    assert len({websocket.request("h", 80, "/", tls=False)[0] for _ in range(100)}) == 100
