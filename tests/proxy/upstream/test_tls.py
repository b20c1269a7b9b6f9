"""TLS towards a console host: pins, CAs, and sessions that are resumed."""

from __future__ import annotations

import pytest

from mksfilter import exceptions
from tests.proxy.upstream.hosts import Console, connect, endpoint, heard


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
