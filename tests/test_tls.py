from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest

from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import CertificateMismatch, ConfigurationError
from mksfilter.tls import check_digests, expiry, expiry_of_pem, ssl_context
from tests.support.certificates import SelfSigned
from tests.support.tls_servers import Server, listening, swallowing_tls

WRONG = CertificateDigest("sha256", bytes(32))


def endpoint(server: Server, *digests: CertificateDigest, **more: object) -> Endpoint:
    return Endpoint("websocket", server.host, server.port, digests=digests, **more)  # type: ignore[arg-type]


def connect(context: ssl.SSLContext, server: Server, name: str = "127.0.0.1") -> bytes:
    raw = socket.create_connection((server.host, server.port), 5)
    with context.wrap_socket(raw, server_hostname=name) as tls:
        tls.sendall(b"password")
        return tls.recv(5)


@pytest.fixture
def certificate(tmp_path: Path) -> SelfSigned:
    return SelfSigned(tmp_path)


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
    """It verifies nothing by itself: whoever uses it compares the digest after the handshake."""

    def test_asks_neither_for_a_name_nor_for_a_ca(self, certificate: SelfSigned) -> None:
        with listening(swallowing_tls(certificate)) as server:
            context = ssl_context(endpoint(server, WRONG))
            assert connect(context, server, "esx9.example.com") == b"hello"

    def test_a_digest_is_never_traded_for_a_ca(self, certificate: SelfSigned) -> None:
        pinned = endpoint(Server(1), WRONG, ca_file=str(certificate.pem), insecure=True)
        with (
            listening(swallowing_tls(certificate)) as server,
            socket.create_connection((server.host, server.port), 5) as raw,
            ssl_context(pinned).wrap_socket(raw) as tls,
            pytest.raises(CertificateMismatch),
        ):
            check_digests(tls.getpeercert(True), pinned.digests)


@pytest.mark.parametrize("more", [{"digests": (WRONG,)}, {}, {"insecure": True}])
def test_no_context_renegotiates(more: dict[str, object]) -> None:
    """Another certificate could be presented after the check (TLS 1.2)."""
    context = ssl_context(Endpoint("websocket", "esx1", 443, **more))  # type: ignore[arg-type]
    assert context.options & ssl.OP_NO_RENEGOTIATION


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


def test_an_unreadable_thumbprint_names_its_group() -> None:
    with pytest.raises(ConfigurationError, match=r"\[vcenter\.dc1\] thumbprint"):
        ssl_context(VCenterSettings("dc1", "vc.example.com", thumbprint="abc"))


def test_when_a_certificate_ends_is_read_from_it(certificate: SelfSigned) -> None:
    tomorrow = time.time() + 86400
    assert abs(expiry(certificate.der) - tomorrow) < 3600
    assert expiry_of_pem(certificate.pem.read_bytes()) == expiry(certificate.der)
    for unreadable in (expiry, expiry_of_pem):
        with pytest.raises(ValueError, match=r"."):
            unreadable(b"none")
