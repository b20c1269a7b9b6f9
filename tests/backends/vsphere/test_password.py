"""A password that is changed in vCenter: read again, and no account is locked by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.exceptions import VCenterLoginRefused
from mksfilter.simulator.client import WEB_1, SimulatedVSphere

MakeConsoles = Callable[..., Consoles]
WORKERS = 6


@pytest.fixture
def password_file(tmp_path: Path, vsphere: SimulatedVSphere) -> Path:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text(f"{vsphere.vcenter['password']}\n")
    return path


def test_a_changed_file_is_read_before_the_next_log_in(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, password_file: Path
) -> None:
    right = password_file.read_text()
    password_file.write_text("old")
    consoles = consoles_of(
        vsphere.vcenter_settings(password="old", password_file=str(password_file))
    )
    with pytest.raises(VCenterLoginRefused, match="login refused"):
        consoles.connect(WEB_1)
    password_file.write_text(right)
    assert consoles.connect(WEB_1), "at once: this one has not been refused"
    assert vsphere.calls()["calls"]["Login"] == 2


def test_a_file_that_is_open_to_others_is_not_used(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, password_file: Path
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings(password_file=str(password_file)))
    consoles.connect(WEB_1)
    vsphere.expire_sessions()
    password_file.chmod(0o644)
    with pytest.raises(VCenterLoginRefused, match=r"password_file .* open to others"):
        consoles.connect(WEB_1)
    password_file.chmod(0o600)
    assert consoles.connect(WEB_1)


def test_the_workers_of_a_node_try_a_refused_password_once(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, tmp_path: Path
) -> None:
    wrong = vsphere.vcenter_settings(password="wr0ng")
    workers = [consoles_of(wrong, runtime_directory=str(tmp_path)) for _ in range(WORKERS)]
    for _ in range(3):
        for worker in workers:
            with pytest.raises(VCenterLoginRefused, match="login refused for user"):
                worker.connect(WEB_1)
    assert vsphere.calls()["calls"]["Login"] == 1
    assert {worker.state()[0].state for worker in workers} == {"login-refused"}


def test_two_log_ins_are_refused_in_the_window_and_no_third_is_tried(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, tmp_path: Path, password_file: Path
) -> None:
    """Somebody writes one wrong password after the other."""
    settings = vsphere.vcenter_settings(password_file=str(password_file))
    workers = [consoles_of(settings, runtime_directory=str(tmp_path)) for _ in range(WORKERS)]
    right = password_file.read_text()
    for attempt in range(4):
        password_file.write_text(f"wr0ng-{attempt}")
        for worker in workers:
            with pytest.raises(VCenterLoginRefused) as refusal:
                worker.connect(WEB_1)
            assert "wr0ng" not in str(refusal.value)
    assert vsphere.calls()["calls"]["Login"] == 2
    password_file.write_text(right)
    with pytest.raises(VCenterLoginRefused, match=r"not tried again for 1\d\d s, lest"):
        workers[0].connect(WEB_1)


def test_a_worker_that_is_logged_in_goes_on(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, tmp_path: Path
) -> None:
    good = consoles_of(vsphere.vcenter_settings(), runtime_directory=str(tmp_path))
    good.connect(WEB_1)
    vsphere.set_vcenter(refuse_logins=True)
    late = consoles_of(vsphere.vcenter_settings(), runtime_directory=str(tmp_path))
    with pytest.raises(VCenterLoginRefused):
        late.connect(WEB_1)
    assert good.connect(WEB_1)
