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

from mksfilter import exceptions
from mksfilter.exceptions import UpstreamRefused
from mksfilter.proxy.relay.frames import BINARY, frame
from mksfilter.proxy.upstream import websocket
from tests.proxy.upstream.hosts import TICKET, Console, connect, endpoint, heard

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
    except UpstreamRefused:
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
    with pytest.raises(UpstreamRefused, match="status line"):
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
    with pytest.raises(UpstreamRefused) as refused:
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
    key, raw = websocket.request(host, port, "/ticket/1?a=b", secure=tls)
    server = ServerProtocol(subprotocols=[Subprotocol("binary")])
    server.receive_data(raw)
    [request] = server.events_received()
    assert request.path == "/ticket/1?a=b"
    assert request.headers["Host"] == named
    response = server.accept(request)
    server.send_response(response)
    websocket.check(b"".join(server.data_to_send()), key)


def test_no_two_requests_have_the_same_key():
    assert len({websocket.request("h", 80, "/", secure=False)[0] for _ in range(100)}) == 100


# --- against a host ---


def test_a_console_is_asked_for_as_esxi_wants_it(serve):
    console = Console()
    upstream = connect(endpoint(serve(console)))
    [request] = console.requests
    assert request.path == TICKET
    assert request.headers["Sec-WebSocket-Protocol"] == "binary"
    assert "Origin" not in request.headers
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert upstream.framing == "websocket"
    upstream.transport.send(b"ping")
    assert heard(upstream.transport) == b"ping"
    upstream.close()


@pytest.mark.parametrize("tls", [False, True])
def test_bytes_right_behind_the_answer_are_kept(serve, certificate, tls):
    greeting = frame(BINARY, b"RFB 003.008\n", masked=False)
    port = serve(Console(certificate if tls else None, followed_by=greeting))
    upstream = connect(endpoint(port, tls=tls, digests=(certificate.digest(),)))
    early = upstream.early
    while len(early) < len(greeting):
        early += heard(upstream.transport)
    assert early == greeting
    upstream.close()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("403 Forbidden", exceptions.TicketRefused),
        ("404 Not Found", exceptions.TicketRefused),
        ("500 Internal Server Error", exceptions.UpstreamRefused),
        ("302 Found\r\nLocation: ws://169.254.169.254/", exceptions.UpstreamRefused),
        ("200 OK", exceptions.UpstreamRefused),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        "Content-Length: 0\r\nConnection: close\r\n\r\n",
        "Content-Length: 1000\r\n\r\n<html>",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Content-Type: text/html\r\n\r\n<html>",
    ],
    ids=["no body", "body to come", "chunked", "until closed"],
)
def test_a_refusal_is_told_apart_from_a_fault_and_holds_no_ticket(serve, status, expected, body):
    answer = f"HTTP/1.1 {status}\r\n{body}".encode()
    port = serve(Console(answer=answer))
    with pytest.raises(expected) as caught:
        connect(endpoint(port))
    assert "cafebabe" not in str(caught.value)
    assert "vcenter dc1" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 20_000,
        b"220 VMware Authentication Daemon\r\n\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        b"HTTP/1.1 101",
        b"",
    ],
)
def test_an_answer_that_is_none_is_refused(serve, answer):
    with pytest.raises(exceptions.UpstreamRefused):
        connect(endpoint(serve(Console(answer=answer))))


@pytest.mark.parametrize(
    "odd",
    [
        {"resource": "/ticket/a\r\nX-Forwarded-For: 10.0.0.1"},
        {"resource": "/ticket/a b"},
        {"resource": "ticket"},
        {"resource": "/ticket/\u00fc"},
    ],
)
def test_a_url_that_would_be_more_than_a_url_is_never_sent(serve, odd):
    console = Console()
    with pytest.raises(exceptions.TicketRefused, match="no URL has"):
        connect(endpoint(serve(console), **odd))
    assert not console.requests
