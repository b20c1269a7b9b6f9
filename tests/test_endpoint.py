from __future__ import annotations

import hashlib
import json

import pytest

from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import TicketRefused

SHA1 = "63:75:60:F8:05:50:F9:9C:4D:7E:5F:F3:DC:D6:61:78:53:93:AE:8F"


class TestDigest:
    @pytest.mark.parametrize(
        "text", [SHA1, SHA1.lower(), SHA1.replace(":", ""), f"sha1:{SHA1}", f"SHA1:{SHA1}"]
    )
    def test_is_read_in_every_usual_spelling(self, text: str) -> None:
        digest = CertificateDigest.parse(text)
        assert digest == CertificateDigest("sha1", bytes.fromhex(SHA1.replace(":", "")))

    @pytest.mark.parametrize(("name", "length"), [("sha1", 20), ("sha256", 32), ("sha512", 64)])
    def test_algorithm_follows_from_the_length(self, name: str, length: int) -> None:
        assert CertificateDigest.parse("ab" * length).algorithm == name

    def test_vsphere_spells_the_algorithm_with_a_hyphen(self) -> None:
        assert CertificateDigest.parse("ab" * 32, "SHA-256").algorithm == "sha256"

    @pytest.mark.parametrize("text", ["", ":", "abc", "ab" * 21, "zz" * 20, "sha1:" + "ab" * 32])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            CertificateDigest.parse(text)

    def test_md5_is_no_algorithm(self) -> None:
        with pytest.raises(ValueError, match="md5"):
            CertificateDigest.parse("ab" * 16, "md5")

    def test_of_a_certificate(self) -> None:
        digest = CertificateDigest.of(b"der", "sha512")
        assert digest.value == hashlib.sha512(b"der").digest()

    def test_reads_what_it_writes(self) -> None:
        digest = CertificateDigest.parse(SHA1)
        assert CertificateDigest.parse(str(digest)) == digest


AUTHD = Endpoint(
    kind="authd",
    host="2001:db8::7",
    port=902,
    server_name="esx1.example.com",
    digests=(CertificateDigest.parse(SHA1), CertificateDigest.parse("cd" * 32)),
    ca_file="/etc/ca.pem",
    ticket="52-secret",
    config_file="/vmfs/volumes/ds/vm/vm.vmx",
    vcenter="dc1",
)
WEBSOCKET = Endpoint(
    kind="websocket",
    host="esx1",
    port=443,
    resource="/ticket/52-secret",
    tls=False,
    insecure=True,
    rfb_handshake="full",
)


@pytest.mark.parametrize("endpoint", [AUTHD, WEBSOCKET])
def test_endpoint_survives_json(endpoint: Endpoint) -> None:
    assert Endpoint.from_mapping(json.loads(json.dumps(endpoint.to_mapping()))) == endpoint


@pytest.mark.parametrize("endpoint", [AUTHD, WEBSOCKET])
def test_no_ticket_in_a_repr(endpoint: Endpoint) -> None:
    assert "secret" not in repr(endpoint)


def test_address_has_brackets_around_ipv6() -> None:
    assert AUTHD.address == "[2001:db8::7]:902"
    assert WEBSOCKET.address == "esx1:443"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "telnet"},
        {"host": ""},
        {"host": None},
        {"port": 0},
        {"port": 65536},
        {"port": "443"},
        {"port": True},
        {"digests": ["ab"]},
        {"digests": [7]},
        {"insecure": "no"},
        {"resource": 7},
    ],
)
def test_a_sealed_endpoint_of_another_release_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(TicketRefused, match="same release"):
        Endpoint.from_mapping(WEBSOCKET.to_mapping() | change)


def test_a_sealed_endpoint_needs_its_address() -> None:
    with pytest.raises(TicketRefused):
        Endpoint.from_mapping({})
