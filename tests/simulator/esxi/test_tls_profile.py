"""A host speaks TLS as the profile has it that it is told to have."""

from __future__ import annotations

import socket
import ssl

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.simulator.client import WEB_1, SimulatedVSphere


def spoken(vsphere: SimulatedVSphere, newest: ssl.TLSVersion) -> str | None:
    """The version that the first host agrees to with a client that speaks no newer one."""
    host = vsphere.host_of("web-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = newest
    with (
        socket.create_connection((host["address"], host["port"]), 10) as sock,
        context.wrap_socket(sock) as tls,
    ):
        return tls.version()


def test_compatible_speaks_1_2_and_1_3(vsphere: SimulatedVSphere) -> None:
    assert spoken(vsphere, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert spoken(vsphere, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


def test_the_hardened_one_speaks_1_3_alone(vsphere: SimulatedVSphere) -> None:
    vsphere.set_host(0, tls_profile="NIST_2024_TLS_13_ONLY")
    assert spoken(vsphere, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        spoken(vsphere, ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize(
    ("profile", "algorithms"),
    [("COMPATIBLE", {"sha1", "sha256"}), ("NIST_2024_TLS_13_ONLY", {"sha256"})],
)
def test_tickets_of_the_hardened_one_have_no_sha_1(
    vsphere: SimulatedVSphere, profile: str, algorithms: set[str]
) -> None:
    vsphere.set_host(0, tls_profile=profile)
    consoles = Consoles([vsphere.vcenter_settings()])
    try:
        digests = consoles.connect(WEB_1).digests
    finally:
        consoles.close()
    assert {digest.algorithm for digest in digests} == algorithms
