from __future__ import annotations

import socket
import ssl

import pytest

from mksfilter.backends.vsphere.tls import check_digests, ssl_context
from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import CertificateMismatch, ConfigurationError
from tests.backends.servers import Server, listening, swallowing_tls
from tests.support.certificates import SelfSigned

WRONG = CertificateDigest("sha256", bytes(32))


def endpoint(server: Server, *digests: CertificateDigest, **more: object) -> Endpoint:
    return Endpoint("websocket", server.host, server.port, digests=digests, **more)  # type: ignore[arg-type]


def connect(context: ssl.SSLContext, server: Server, name: str = "127.0.0.1") -> bytes:
    raw = socket.create_connection((server.host, server.port), 5)
    with context.wrap_socket(raw, server_hostname=name) as tls:
        tls.sendall(b"password")
        return tls.recv(5)


class TestDigests:
    def test_the_right_one_passes(self, certificate: SelfSigned) -> None:
        check_digests(certificate.der, [CertificateDigest.of(certificate.der)])

    def test_another_certificate_does_not(self, certificate: SelfSigned) -> None:
        with pytest.raises(CertificateMismatch, match="sha256:00:00"):
            check_digests(certificate.der, [WRONG])

    @pytest.mark.parametrize("weak", ["sha1", "sha256"])
    def test_the_strongest_offered_decides(self, certificate: SelfSigned, weak: str) -> None:
        right_but_weak = CertificateDigest.of(certificate.der, weak)
        wrong_but_strong = CertificateDigest("sha512", bytes(64))
        for offered in ([right_but_weak, wrong_but_strong], [wrong_but_strong, right_but_weak]):
            with pytest.raises(CertificateMismatch, match="sha512"):
                check_digests(certificate.der, offered)

    def test_a_wrong_weak_one_beside_the_right_strong_one_does_no_harm(
        self, certificate: SelfSigned
    ) -> None:
        check_digests(
            certificate.der,
            [CertificateDigest("sha1", bytes(20)), CertificateDigest.of(certificate.der, "sha512")],
        )

    def test_nothing_to_compare_with_is_no_match(self, certificate: SelfSigned) -> None:
        with pytest.raises(CertificateMismatch):
            check_digests(certificate.der, [])

    def test_no_certificate_is_no_match(self, certificate: SelfSigned) -> None:
        with pytest.raises(CertificateMismatch):
            check_digests(None, [CertificateDigest.of(certificate.der)])


class TestPinnedContext:
    def test_talks_to_whom_it_knows(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            context = ssl_context(endpoint(server, CertificateDigest.of(certificate.der)))
            assert connect(context, server) == b"hello"

    def test_the_name_does_not_matter(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            context = ssl_context(endpoint(server, CertificateDigest.of(certificate.der, "sha1")))
            assert connect(context, server, "esx9.example.com") == b"hello"

    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "esx1.example.com"])
    def test_a_wrong_pin_fails_each_time_it_is_tried(
        self, certificate: SelfSigned, name: str
    ) -> None:
        """pyvmomi turns a shared context to CERT_NONE by the first mismatch."""
        with listening(swallowing_tls(certificate)) as server:
            context = ssl_context(endpoint(server, WRONG))
            kept = []  # a traceback keeps the socket alive, as a logged error would
            for _attempt in range(3):
                with pytest.raises(CertificateMismatch) as mismatch:
                    connect(context, server, name)
                kept.append(mismatch)
                assert server.closed.acquire(timeout=5), "our side is closed at once"
            assert not server.received

    def test_a_socket_that_connects_later_is_checked_too(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            tls = ssl_context(endpoint(server, WRONG)).wrap_socket(socket.socket())
            with pytest.raises(CertificateMismatch):
                tls.connect((server.host, server.port))
            assert not server.received

    def test_the_handshake_cannot_be_put_off(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            context = ssl_context(endpoint(server, WRONG))
            raw = socket.create_connection((server.host, server.port), 5)
            with raw, pytest.raises(ValueError, match="handshake"):
                context.wrap_socket(raw, do_handshake_on_connect=False)

    def test_memory_bios_are_checked_too(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            right = ssl_context(endpoint(server, CertificateDigest.of(certificate.der)))
            assert handshake_over_bios(right, server).getpeercert(True) == certificate.der
            with pytest.raises(CertificateMismatch):
                handshake_over_bios(ssl_context(endpoint(server, WRONG)), server)

    def test_memory_bios_carry_nothing_before_the_check(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            context = ssl_context(endpoint(server, WRONG))
            tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
            with pytest.raises(ValueError, match="before"):
                tls.write(b"password")
            with pytest.raises(ValueError, match="before"):
                tls.read()

    def test_one_context_serves_one_pin(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            wrong = ssl_context(endpoint(server, WRONG))
            right = ssl_context(endpoint(server, CertificateDigest.of(certificate.der)))
            assert connect(right, server) == b"hello"
            with pytest.raises(CertificateMismatch):
                connect(wrong, server)


def handshake_over_bios(context: ssl.SSLContext, server: Server) -> ssl.SSLObject:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection((server.host, server.port), 5) as raw:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))
            else:
                return tls


class TestCA:
    def test_vouches_for_its_hosts(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            context = ssl_context(endpoint(server, ca_file=str(certificate.pem)))
            assert connect(context, server, "localhost") == b"hello"

    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
    def test_of_the_system_does_not_vouch_for_local_hosts(
        self, certificate: SelfSigned, name: str
    ) -> None:
        """pyvmomi verifies neither name unless it is given a context."""
        with listening(swallowing_tls(certificate)) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                connect(ssl_context(endpoint(server)), server, name)
            assert not server.received

    def test_vouches_for_names(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            context = ssl_context(endpoint(server, ca_file=str(certificate.pem)))
            with pytest.raises(ssl.SSLCertVerificationError, match="esx1"):
                connect(context, server, "esx1.example.com")

    def test_file_has_to_exist(self) -> None:
        with pytest.raises(ConfigurationError, match=r"dc1.*/nowhere/ca\.pem.*No such file"):
            ssl_context(VCenterSettings("dc1", "vc.example.com", ca_file="/nowhere/ca.pem"))


def test_only_insecure_verifies_nothing(certificate: SelfSigned) -> None:
    with listening(swallowing_tls(certificate)) as server:
        context = ssl_context(endpoint(server, insecure=True))
        assert connect(context, server, "whoever.example.com") == b"hello"


def test_a_ticket_that_has_digests_is_checked_even_then(certificate: SelfSigned) -> None:
    with listening(swallowing_tls(certificate)) as server, pytest.raises(CertificateMismatch):
        connect(ssl_context(endpoint(server, WRONG, insecure=True)), server)


def test_an_unreadable_thumbprint_names_its_group() -> None:
    with pytest.raises(ConfigurationError, match=r"\[vcenter\.dc1\] thumbprint"):
        ssl_context(VCenterSettings("dc1", "vc.example.com", thumbprint="abc"))


def test_the_error_names_the_vcenter_and_the_remedy(certificate: SelfSigned) -> None:
    with listening(swallowing_tls(certificate)) as server:
        settings = VCenterSettings("dc1", server.host, server.port, thumbprint="00" * 32)
        with pytest.raises(CertificateMismatch, match=r"vcenter dc1 .* correct the thumbprint"):
            connect(ssl_context(settings), server)
