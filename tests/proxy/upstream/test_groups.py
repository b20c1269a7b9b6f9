"""The groups of TLS's key exchange: what a host is offered, and what happens where it has none."""

from __future__ import annotations

import ssl

import gevent
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mksfilter import exceptions
from mksfilter.proxy.upstream.dial import dial
from mksfilter.proxy.upstream.groups import Groups
from tests.proxy.upstream.hosts import LOOPBACK, Console, endpoint
from tests.proxy.upstream.test_authd import Authd, authd_endpoint
from tests.support.certificates import SelfSigned

DEFAULT = Groups(("DEFAULT",), default=("X25519",))
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Counted:
    """A host whose connections are counted."""

    def __init__(self, host, group, *, version=ssl.TLSVersion.TLSv1_3) -> None:
        self.host = host
        self.connections = 0
        host.context.set_ecdh_curve(group)
        host.context.maximum_version = version

    def __call__(self, sock) -> None:
        self.connections += 1
        self.host(sock)


def as_of_3_5() -> Groups:
    """What is offered with OpenSSL 3.5 and later, where the operator names no group."""
    return Groups(default=("prime256v1",))


def connect(where, groups):
    return dial(where, timeout=10, allowed_networks=LOOPBACK, groups=groups)


@pytest.fixture
def host(certificate):
    """A host with one group."""
    return lambda group, **options: Counted(Console(certificate), group, **options)


@pytest.fixture
def pinned(serve, certificate):
    """The way to a host."""
    return lambda host: endpoint(serve(host), tls=True, digests=(certificate.digest(),))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("group", ["prime256v1", "secp384r1"])
@pytest.mark.parametrize("groups", [Groups(default=()), DEFAULT], ids=["OpenSSL 3.0", "DEFAULT"])
def test_openssls_own_list_suits_every_host(host, pinned, group, version, groups):
    there = host(group, version=version)
    connect(pinned(there), groups).close()
    assert there.connections == 1


@pytest.mark.parametrize(
    ("group", "version"),
    [
        *(("prime256v1", version) for version in VERSIONS),
        # In TLS 1.2 it would have to be the curve of the certificate's key too.
        ("secp384r1", ssl.TLSVersion.TLSv1_3),
    ],
)
def test_a_group_that_the_host_has_opens_its_console(host, pinned, group, version):
    there = host(group, version=version)
    connect(pinned(there), Groups((group,))).close()
    assert there.connections == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("has", "named"), [("secp384r1", "prime256v1"), ("prime256v1", "secp384r1")]
)
def test_nothing_but_what_the_operator_names_is_offered(host, pinned, has, named, version):
    there = host(has, version=version)
    where = pinned(there)
    groups = Groups((named,), default=("X25519",))
    for count in (1, 2):
        with pytest.raises(exceptions.UpstreamRefused, match=rf"in tls_groups \({named}\)"):
            connect(where, groups)
        assert there.connections == count


@pytest.mark.parametrize("version", VERSIONS)
def test_the_default_is_offered_alone_to_a_host_that_has_it(host, pinned, version):
    there = host("prime256v1", version=version)
    where, groups = pinned(there), as_of_3_5()
    connect(where, groups).close()
    assert there.connections == 1
    assert groups.offered_to(where) == ("prime256v1",)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_host_without_it_is_offered_all_and_pays_once(host, pinned, version):
    there, groups = host("secp384r1", version=version), as_of_3_5()
    where = pinned(there)
    for connections in (2, 3, 4):
        connect(where, groups).close()
        assert there.connections == connections
    assert len(there.host.requests) == 3


@pytest.mark.parametrize(("version", "connections"), [*zip(VERSIONS, (2, 1), strict=True)])
def test_a_host_whose_key_is_of_another_curve_opens_its_console(
    serve, tmp_path, version, connections
):
    """In TLS 1.2 the groups are those of certificates too (RFC 8422 section 5.1)."""
    certificate = SelfSigned(tmp_path, curve=ec.SECP384R1)
    there = Counted(Console(certificate), "prime256v1", version=version)
    where = endpoint(serve(there), tls=True, digests=(certificate.digest(),))
    connect(where, as_of_3_5()).close()
    assert there.connections == connections


def test_another_host_is_offered_the_default_all_the_same(host, pinned):
    groups = as_of_3_5()
    connect(pinned(host("secp384r1")), groups).close()
    there = host("prime256v1")
    where = pinned(there)
    connect(where, groups).close()
    assert there.connections == 1
    assert groups.offered_to(where) == ("prime256v1",)


def test_the_second_connections_certificate_is_checked_too(host, serve, other_certificate):
    there = host("secp384r1")
    where = endpoint(serve(there), tls=True, digests=(other_certificate.digest(),))
    for _ in range(2):
        with pytest.raises(exceptions.CertificateMismatch, match="presented"):
            connect(where, as_of_3_5())
    assert not there.host.requests


def test_the_second_connections_name_is_checked_too(host, serve, certificate):
    where = endpoint(
        serve(host("secp384r1")), tls=True, ca_file=str(certificate.pem), server_name="esx.example"
    )
    with pytest.raises(exceptions.CertificateMismatch, match="ca_file"):
        connect(where, as_of_3_5())


def test_one_deadline_is_for_both_connections(host, serve):
    there = host("secp384r1")

    def slower(sock):
        gevent.sleep(30 * there.connections)
        there(sock)

    where = endpoint(serve(slower), tls=True, insecure=True)
    with pytest.raises(exceptions.HostUnreachable, match=r"no console within 0\.5 s"):
        dial(where, timeout=0.5, allowed_networks=LOOPBACK, groups=as_of_3_5())
    assert there.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(bytes.fromhex("15 0303 0002 02 46"), id="protocol_version"),
        pytest.param(bytes.fromhex("15 0303 0002 02 50"), id="internal_error"),
        pytest.param(b"HTTP/1.0 400 Bad Request\r\n\r\n", id="no TLS"),
        pytest.param(b"", id="closed"),
    ],
)
def test_what_more_groups_would_not_mend_is_not_tried_again(serve, answer):
    connections = []

    def refuse(sock):
        connections.append(sock)
        sock.recv(4096)
        sock.sendall(answer)

    where, groups = endpoint(serve(refuse), tls=True, insecure=True), as_of_3_5()
    with pytest.raises(exceptions.UpstreamRefused):
        connect(where, groups)
    assert len(connections) == 1
    assert groups.offered_to(where) == ("prime256v1",)


@pytest.mark.parametrize(
    "alert",
    [
        pytest.param(40, id="handshake_failure"),
        pytest.param(47, id="illegal_parameter"),
        pytest.param(71, id="insufficient_security"),
    ],
)
def test_a_host_that_always_refuses_is_tried_twice_and_then_once(serve, alert):
    connections = []

    def refuse(sock):
        connections.append(sock)
        sock.recv(4096)
        sock.sendall(bytes([0x15, 3, 3, 0, 2, 2, alert]))

    where, groups = endpoint(serve(refuse), tls=True, insecure=True), as_of_3_5()
    for count in (2, 3):
        with pytest.raises(exceptions.UpstreamRefused, match="TLS failed") as caught:
            connect(where, groups)
        assert "tls_groups" not in str(caught.value)
        assert len(connections) == count


def test_with_openssls_own_list_no_option_is_to_blame(serve):
    where = endpoint(
        serve(lambda sock: sock.sendall(bytes([0x15, 3, 3, 0, 2, 2, 40]))), tls=True, insecure=True
    )
    with pytest.raises(exceptions.UpstreamRefused, match="TLS failed") as caught:
        connect(where, DEFAULT)
    assert "tls_groups" not in str(caught.value)


class TestAuthd:
    @pytest.mark.parametrize(
        ("first", "second", "connections"),
        [
            ("prime256v1", "prime256v1", 1),
            ("prime256v1", "secp384r1", 1),
            ("secp384r1", "prime256v1", 2),
            ("secp384r1", "secp384r1", 2),
        ],
    )
    def test_each_layer_agrees_to_what_it_has(
        self, serve, certificate, other_certificate, first, second, connections
    ):
        host = Authd(certificate, other_certificate)
        host.first.set_ecdh_curve(first)
        host.second.set_ecdh_curve(second)
        made = []

        def count(sock):
            made.append(sock)
            host(sock)

        connect(authd_endpoint(serve(count), certificate), as_of_3_5()).close()
        assert len(made) == connections
        assert host.said.count(b"USER secret-ticket") == 1

    @pytest.mark.parametrize("layer", ["first", "second"])
    def test_the_operators_groups_hold_for_both(self, serve, certificate, other_certificate, layer):
        host = Authd(certificate, other_certificate)
        getattr(host, layer).set_ecdh_curve("secp384r1")
        with pytest.raises(exceptions.UpstreamRefused, match="in tls_groups"):
            connect(authd_endpoint(serve(host), certificate), Groups(("prime256v1",)))
