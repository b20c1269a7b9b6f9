"""VMware's authentication daemon, against one that speaks as nova-mksproxy expected it."""

from __future__ import annotations

import contextlib
import hashlib

import pytest

from mksfilter import exceptions
from mksfilter.endpoint import Endpoint
from mksfilter.proxy.relay.transport import TLSTransport
from tests.proxy.upstream.hosts import connect, endpoint, heard
from tests.support.tls_stream import TLSServerStream


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
        stream = TLSServerStream(sock, self.first)
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
        inner = TLSServerStream(stream.detach_socket(), self.second)
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
