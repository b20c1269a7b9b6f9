"""Nothing is sent to a vCenter before its certificate was compared with the pin."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from mksfilter import tcp
from mksfilter.backends.vsphere.client import VSphereClient
from mksfilter.backends.vsphere.transport import HTTPSConnection
from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest
from mksfilter.exceptions import CertificateMismatch
from tests.support.black_hole import black_hole, resolves_to
from tests.support.certificates import SelfSigned
from tests.support.tls_servers import Server, answering_http, listening, silent, swallowing_tls

WRONG = CertificateDigest("sha256", bytes(32))


def connection_to(server: Server, digest: CertificateDigest) -> HTTPSConnection:
    """As the client makes them, for a vCenter whose ``thumbprint`` is *digest*."""
    settings = VCenterSettings("dc1", server.host, server.port, thumbprint=str(digest), timeout=5)
    return VSphereClient(settings).new_connection(server.host, server.port)


@pytest.fixture
def server(certificate: SelfSigned) -> Iterator[Server]:
    with listening(swallowing_tls(certificate)) as server:
        yield server


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_talks_to_the_server_that_is_pinned(
    server: Server, certificate: SelfSigned, algorithm: str
) -> None:
    connection = connection_to(server, CertificateDigest.of(certificate.der, algorithm))
    with contextlib.closing(connection):
        connection.connect()
        assert connection.sock.recv(5) == b"hello"
        assert connection.certificate == certificate.der


class TestAnotherCertificate:
    def test_is_refused_each_time(self, server: Server) -> None:
        """pyvmomi turns a shared context to CERT_NONE by the first mismatch."""
        client = VSphereClient(
            VCenterSettings("dc1", server.host, server.port, thumbprint=str(WRONG), timeout=5)
        )
        for _attempt in range(3):
            connection = client.new_connection(server.host, server.port)
            with pytest.raises(CertificateMismatch):
                connection.request("POST", "/sdk", b"password")
            assert server.closed.acquire(timeout=5), "our side is closed at once"
        assert not server.received

    def test_is_refused_each_time_on_the_same_connection(self, server: Server) -> None:
        connection = connection_to(server, WRONG)
        for _attempt in range(3):
            with pytest.raises(CertificateMismatch):
                connection.request("POST", "/sdk", b"password")
            assert server.closed.acquire(timeout=5)
        assert not server.received
        assert connection.certificate is None

    def test_of_the_same_client_is_refused_by_log_in(self, server: Server) -> None:
        client = VSphereClient(
            VCenterSettings("dc1", server.host, server.port, thumbprint=str(WRONG), timeout=5)
        )
        for _attempt in range(2):
            with pytest.raises(CertificateMismatch):
                client.open()
        assert not server.received

    def test_is_named_in_the_error_with_the_remedy(self, server: Server) -> None:
        with pytest.raises(CertificateMismatch, match=r"vcenter dc1 .* correct the thumbprint"):
            connection_to(server, WRONG).connect()

    def test_leaves_no_descriptor_open(self, server: Server) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            with pytest.raises(CertificateMismatch):
                connection_to(server, WRONG).connect()
            gc.collect()


def test_a_connection_that_is_made_again_is_checked_again(
    certificate: SelfSigned, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """http.client connects by itself when the server has closed the connection."""
    other = SelfSigned(tmp_path_factory.mktemp("other"))
    with listening(answering_http([certificate, other])) as server:
        connection = connection_to(server, CertificateDigest.of(certificate.der))
        connection.request("GET", "/first")
        assert connection.getresponse().read() == b"ok"
        with pytest.raises(CertificateMismatch):
            connection.request("GET", "/second")
        assert b"/first" in server.received
        assert b"/second" not in server.received


def test_a_name_with_an_address_that_leads_nowhere_costs_a_moment(
    certificate: SelfSigned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8305; one address after the other would spend all of the time-out on the first."""
    resolves_to(monkeypatch, socket, vc_test=["127.0.0.9", "127.0.0.1"])
    with listening(swallowing_tls(certificate)) as server, black_hole("127.0.0.9", server.port):
        digest = str(CertificateDigest.of(certificate.der))
        settings = VCenterSettings("dc1", "vc.test", server.port, thumbprint=digest, timeout=5)
        connection = VSphereClient(settings).new_connection("vc.test", server.port)
        with contextlib.closing(connection):
            connection.connect()
            assert connection.sock.getpeername()[0] == "127.0.0.1"


def test_a_vcenter_that_vanishes_is_noticed_on_an_idle_connection(
    server: Server, certificate: SelfSigned
) -> None:
    connection = connection_to(server, CertificateDigest.of(certificate.der))
    with contextlib.closing(connection):
        connection.connect()
        timeout = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert timeout == tcp.VANISHED_AFTER * 1000
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_another_thread_ends_a_handshake_that_never_comes() -> None:
    with listening(silent) as server:
        announced = threading.Event()
        connection = connection_to(server, WRONG)
        connection.announce = lambda _connection: announced.set()

        def end() -> None:
            announced.wait(5)
            connection.abort()

        threading.Thread(target=end, daemon=True).start()
        before = time.monotonic()
        with pytest.raises(OSError, match=r".+"):
            connection.connect()
        assert time.monotonic() - before < 4, "long before its time-out"
