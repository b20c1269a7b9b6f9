"""What ``mksfilter check`` tells of a vCenter. Against the simulator."""

from __future__ import annotations

import pytest

from mksfilter.checks.vcenters import check_vcenters
from mksfilter.endpoint import CertificateDigest
from mksfilter.simulator.client import SimulatedVSphere
from tests.support.tls_servers import listening, silent


def test_all_is_well(vsphere: SimulatedVSphere) -> None:
    ((name, ok, words),) = check_vcenters([vsphere.vcenter_settings()])
    assert (name, ok) == ("vc1", True)
    assert "API 8.0" in words
    assert f"logged in as {vsphere.vcenter['username']}" in words
    digest = CertificateDigest.parse(vsphere.vcenter["thumbprint"])
    assert f"certificate {digest} verified by {vsphere.vcenter['ca_file']}" in words
    assert "has System.View and VirtualMachine.Interact.ConsoleInteract" in words
    assert "\n" not in words
    assert vsphere.calls()["sessions"] == 0, "and it has logged out"


def test_privilege_that_is_missing_is_named(vsphere: SimulatedVSphere) -> None:
    vsphere.set_vcenter(permitted=False)
    ((_, ok, words),) = check_vcenters([vsphere.vcenter_settings()])
    assert ok, "it may be granted on a folder below"
    assert "no VirtualMachine.Interact.ConsoleInteract on the root folder" in words


def test_verification_that_is_off_cannot_be_overlooked(vsphere: SimulatedVSphere) -> None:
    ((_, ok, words),) = check_vcenters([vsphere.vcenter_settings(ca_file=None, insecure=True)])
    assert ok
    assert "NOT VERIFIED" in words


def test_pin(vsphere: SimulatedVSphere) -> None:
    settings = vsphere.vcenter_settings(ca_file=None, thumbprint=vsphere.vcenter["thumbprint"])
    ((_, ok, words),) = check_vcenters([settings])
    assert ok
    assert "pinned by thumbprint" in words


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        ({"password": "wr0ng"}, "check password_file"),
        ({"ca_file": None}, "set ca_file or thumbprint"),
        ({"ca_file": "/nowhere.pem"}, "ca_file /nowhere.pem"),
        ({"thumbprint": "00" * 32}, "correct the thumbprint"),
        ({"thumbprint": "zz"}, "thumbprint"),
        ({"host": "vc1.invalid"}, "does not resolve"),
        ({"backend": "vnc"}, "unknown"),
        ({"backend": "vcenter"}, "set backend = webmks"),
    ],
)
def test_each_fault_is_told_with_its_remedy(
    vsphere: SimulatedVSphere, overrides: dict[str, str], remedy: str
) -> None:
    ((name, ok, words),) = check_vcenters([vsphere.vcenter_settings(**overrides)])
    assert (name, ok) == ("vc1", False)
    assert remedy in words
    assert "wr0ng" not in words


def test_webmks_of_an_old_vcenter(vsphere: SimulatedVSphere) -> None:
    vsphere.set_vcenter(api_version="5.5")
    ((_, ok, words),) = check_vcenters([vsphere.vcenter_settings()])
    assert not ok
    assert "set backend = auto" in words
    ((_, ok, words),) = check_vcenters([vsphere.vcenter_settings(backend="auto")])
    assert ok
    assert "backend auto: vcenter" in words


def test_one_that_hangs_does_not_hide_another(vsphere: SimulatedVSphere) -> None:
    with listening(silent) as server:
        hanging = vsphere.vcenter_settings(port=server.port, timeout=0.3)
        (first, second) = check_vcenters([hanging, vsphere.vcenter_settings()])
    assert (first[1], second[1]) == (False, True)
    assert "no answer" in first[2]
