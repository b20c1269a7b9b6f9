"""The way to a console host, against hosts that behave and hosts that do not."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import time

import gevent
import gevent.socket
import pytest
from gevent.server import StreamServer
from websockets.server import ServerProtocol

from mksfilter import exceptions
from mksfilter.endpoint import Endpoint
from mksfilter.proxy.relay.frames import BINARY, frame
from mksfilter.proxy.relay.tls_stream import TLSStream
from mksfilter.proxy.relay.transport import ROOM, TLSTransport
from mksfilter.proxy.upstream.dial import address_allowed, dial
from tests.support.certificates import SelfSigned

LOOPBACK = ("127.0.0.0/8", "::1/128")
TICKET = "/ticket/cafebabe12345678"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return SelfSigned(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="session")
def other_certificate(tmp_path_factory):
    return SelfSigned(tmp_path_factory.mktemp("other"))


@pytest.fixture
def serve():
    """Start a server whose connections are handled by a function; returns its port."""
    with contextlib.ExitStack() as stack:

        def start(handle) -> int:
            def guarded(sock, address):
                with contextlib.suppress(OSError):
                    handle(sock)

            server = StreamServer(("127.0.0.1", 0), guarded)
            server.start()
            stack.callback(server.stop, 0)
            return server.server_port

        yield start


class Console:
    """A WebSocket endpoint that notes what it was asked."""

    def __init__(self, certificate=None, *, followed_by: bytes = b"", answer=None) -> None:
        self.context = certificate.context() if certificate else None
        self.followed_by = followed_by
        self.answer = answer
        self.requests: list = []
        self.reused: list[bool] = []

    def __call__(self, sock) -> None:
        stream = sock
        if self.context:
            stream = TLSStream(sock, self.context, server_side=True)
            stream.do_handshake()
            self.reused.append(bool(stream.tls.session_reused))
        protocol = ServerProtocol(subprotocols=["binary"])
        while not (events := protocol.events_received()):
            data = stream.recv(4096)
            if not data:
                return
            protocol.receive_data(data)
        self.requests.append(events[0])
        if self.answer is not None:
            stream.sendall(self.answer)
            return
        response = protocol.accept(events[0])
        protocol.send_response(response)
        stream.sendall(b"".join(protocol.data_to_send()) + self.followed_by)
        with contextlib.suppress(OSError):
            while data := stream.recv(4096):
                stream.sendall(data)


def endpoint(port: int, **options) -> Endpoint:
    return Endpoint(
        **{
            "kind": "websocket",
            "host": "127.0.0.1",
            "port": port,
            "resource": TICKET,
            "tls": False,
            "vcenter": "dc1",
            **options,
        }
    )


def connect(where: Endpoint, *, timeout: float = 10, networks=LOOPBACK):
    return dial(where, timeout=timeout, allowed_networks=networks)


def heard(transport) -> bytes:
    """What comes next on a transport."""
    buffer = memoryview(bytearray(ROOM))
    with gevent.Timeout(10):
        while (size := transport.receive(buffer)) < 0:
            gevent.socket.wait_read(transport.fd)
    return bytes(buffer[:size])


# --- where hosts may be ---


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
    ],
)
def test_addresses_that_no_console_host_has_are_refused_unless_listed(address):
    assert not address_allowed(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "203.0.113.5", "2001:4860::1"])
def test_other_addresses_are_allowed_unless_networks_are_listed(address):
    assert address_allowed(address)
    assert not address_allowed(address, (ipaddress.ip_network("172.16.0.0/12"),))


def test_a_listed_network_is_allowed_whatever_it_is(serve):
    port = serve(Console())
    connect(endpoint(port), networks=["127.0.0.1/32"]).close()
    with pytest.raises(exceptions.EndpointForbidden, match="allowed_networks"):
        connect(endpoint(port), networks=[])
    with pytest.raises(exceptions.EndpointForbidden):
        connect(endpoint(port), networks=["10.0.0.0/8"])


def test_the_address_checked_is_the_one_connected_to(serve, monkeypatch):
    """DNS rebinding: a name whose second answer is another machine."""
    port = serve(Console())
    answers = [
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))],
    ]
    monkeypatch.setattr(gevent.socket, "getaddrinfo", lambda *args, **options: answers.pop(0))
    connect(endpoint(port, host="esx.example")).close()
    assert len(answers) == 1


def test_a_forbidden_address_is_not_tried_even_beside_an_allowed_one(serve, monkeypatch):
    port = serve(Console())
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in ("169.254.169.254", "127.0.0.1")
    ]
    monkeypatch.setattr(gevent.socket, "getaddrinfo", lambda *args, **options: found)
    connect(endpoint(port, host="esx.example"), timeout=3).close()


# --- the handshake ---


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


def test_a_silent_host_is_given_up_in_time(serve):
    port = serve(lambda sock: gevent.sleep(30))
    started = time.monotonic()
    with pytest.raises(exceptions.HostUnreachable, match=r"no console within 0\.3 s"):
        connect(endpoint(port), timeout=0.3)
    with pytest.raises(exceptions.HostUnreachable):
        connect(endpoint(port, tls=True, insecure=True), timeout=0.3)
    assert time.monotonic() - started < 2


def test_a_host_that_trickles_is_given_up_in_time(serve):
    def trickle(sock):
        while True:
            sock.sendall(b"H")
            gevent.sleep(0.05)

    with pytest.raises(exceptions.HostUnreachable):
        connect(endpoint(serve(trickle)), timeout=0.3)


def test_nobody_listening_and_no_such_name_are_told_with_the_name():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(exceptions.HostUnreachable, match="refused"):
            connect(endpoint(nobody.getsockname()[1]))
    with pytest.raises(exceptions.HostUnresolvable, match=r"esx-17\.invalid"):
        connect(endpoint(443, host="esx-17.invalid"))


# --- certificates ---


def test_the_pinned_certificate_is_accepted_whoever_signed_it(serve, certificate):
    port = serve(Console(certificate))
    for algorithm in ("sha1", "sha256", "sha512"):
        where = endpoint(port, tls=True, digests=(certificate.digest(algorithm),))
        upstream = connect(where)
        upstream.transport.send(b"hello")
        assert heard(upstream.transport) == b"hello"
        upstream.close()


def test_another_certificate_is_refused_every_time(serve, certificate, other_certificate):
    """pyvmomi accepts a wrong pin at the second attempt; see facts about thumbprint=."""
    console = Console(certificate)
    where = endpoint(serve(console), tls=True, digests=(other_certificate.digest(),))
    for _ in range(3):
        with pytest.raises(exceptions.CertificateMismatch, match="presented"):
            connect(where)
    assert not console.requests


def test_only_the_strongest_digest_counts(serve, certificate, other_certificate):
    digests = (certificate.digest("sha1"), other_certificate.digest("sha256"))
    with pytest.raises(exceptions.CertificateMismatch):
        connect(endpoint(serve(Console(certificate)), tls=True, digests=digests))


def test_tls_sessions_are_resumed_and_their_certificate_is_checked_all_the_same(
    serve, certificate, other_certificate
):
    console = Console(certificate)
    port = serve(console)
    good = endpoint(port, tls=True, digests=(certificate.digest(),))
    for _ in range(3):
        upstream = connect(good)
        upstream.transport.send(b"x")
        assert heard(upstream.transport) == b"x"
        upstream.close()
    assert console.reused == [False, True, True]
    with pytest.raises(exceptions.CertificateMismatch):
        connect(endpoint(port, tls=True, digests=(other_certificate.digest(),)))


def test_without_a_pin_a_ca_has_to_vouch_for_the_name(serve, certificate, other_certificate):
    port = serve(Console(certificate))
    named = {"tls": True, "server_name": "localhost"}
    connect(endpoint(port, ca_file=str(certificate.pem), **named)).close()
    for bad in (
        {"ca_file": str(other_certificate.pem), **named},
        {"ca_file": str(certificate.pem), "tls": True, "server_name": "esx.example"},
        {"ca_file": None, **named},
    ):
        with pytest.raises(exceptions.CertificateMismatch, match="ca_file"):
            connect(endpoint(port, **bad))
    connect(endpoint(port, tls=True, insecure=True)).close()


def test_a_host_that_does_not_speak_tls_is_refused(serve):
    port = serve(lambda sock: sock.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n"))
    with pytest.raises(exceptions.UpstreamRefused, match="TLS"):
        connect(endpoint(port, tls=True, insecure=True))


# --- authd ---


class Authd:
    """Port 902 of an ESXi host, as nova-mksproxy talked to it."""

    def __init__(self, first, second, *, ticket="secret-ticket", announce=None) -> None:
        self.first, self.second = first.context(), second.context()
        self.announce = announce or hashlib.sha1(second.der).hexdigest()
        self.ticket = ticket
        self.said: list[bytes] = []
        self.nonce = b""

    def __call__(self, sock) -> None:
        sock.sendall(b"220 VMware Authentication Daemon Version 1.10: SSL Required\r\n")
        stream = TLSStream(sock, self.first, server_side=True)
        stream.do_handshake()
        for answer in (b"331 Password required", b"230 User logged in", None, b"200 Connect"):
            line = b""
            while not line.endswith(b"\r\n"):
                line += stream.recv(1)
            self.said.append(line.strip())
            if line.startswith(b"PASS") and line.split()[1].decode() != self.ticket:
                stream.sendall(b"530 Login incorrect: " + line)
                return
            stream.sendall((answer or b"200 " + self.announce.encode()) + b"\r\n")
        inner = TLSStream(stream.detach_socket(), self.second, server_side=True)
        inner.do_handshake()
        self.nonce = inner.recv(16)
        inner.sendall(b"display")
        with contextlib.suppress(OSError):
            inner.sendall(inner.recv(100))


def authd_endpoint(port, certificate, ticket="secret-ticket") -> Endpoint:
    return endpoint(
        port,
        kind="authd",
        tls=True,
        ticket=ticket,
        config_file="/vmfs/volumes/ds/vm/vm.vmx",
        digests=(certificate.digest("sha1"),),
    )


def test_authd_is_two_tls_layers_one_after_the_other(serve, certificate, other_certificate):
    host = Authd(certificate, other_certificate)
    upstream = connect(authd_endpoint(serve(host), certificate))
    assert upstream.framing == "bytes"
    assert isinstance(upstream.transport, TLSTransport)
    data = upstream.early
    while len(data) < 7:
        data += heard(upstream.transport)
    assert data == b"display"
    upstream.transport.send(b"up")
    assert heard(upstream.transport) == b"up"
    assert host.said[:2] == [b"USER secret-ticket", b"PASS secret-ticket"]
    assert host.said[2] == b"THUMBPRINT " + host.nonce
    assert host.said[3] == b"CONNECT /vmfs/volumes/ds/vm/vm.vmx mks"
    upstream.close()


def test_authds_second_certificate_is_the_one_it_announced(serve, certificate, other_certificate):
    host = Authd(certificate, other_certificate, announce=hashlib.sha1(b"other").hexdigest())
    with pytest.raises(exceptions.CertificateMismatch):
        connect(authd_endpoint(serve(host), certificate))


def test_authd_that_does_not_know_the_ticket_is_told_apart(serve, certificate):
    port = serve(Authd(certificate, certificate))
    with pytest.raises(exceptions.TicketRefused, match="530") as caught:
        connect(authd_endpoint(port, certificate, ticket="stale-ticket"))
    assert "stale" not in str(caught.value)


def test_authd_lines_cannot_be_injected(serve, certificate):
    host = Authd(certificate, certificate)
    with pytest.raises(exceptions.TicketRefused, match="line break"):
        connect(authd_endpoint(serve(host), certificate, ticket="x\r\nQUIT"))
    assert not host.said
