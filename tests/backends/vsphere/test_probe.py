"""A vCenter is looked after in the background, and a heal is everybody's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mksfilter.backends.resolver import Consoles, VCenterState
from mksfilter.backends.vsphere import probe
from mksfilter.exceptions import BackendError, VCenterUnreachable
from mksfilter.simulator.client import WEB_1, SimulatedVSphere

MakeConsoles = Callable[..., Consoles]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pauses between looks at a vCenter that does not answer."""
    monkeypatch.setattr(probe, "PAUSES", (0.1,))


def until(consoles: Consoles, wanted: Callable[[VCenterState], bool]) -> VCenterState:
    """The state of the one vCenter, as soon as it is as wanted."""
    deadline = time.monotonic() + 30
    while not wanted(state := consoles.state()[0]):
        assert time.monotonic() < deadline, state
        time.sleep(0.01)
    return state


def close_it(consoles: Consoles) -> None:
    for _ in range(3):
        with pytest.raises(VCenterUnreachable):
            consoles.connect(WEB_1)
    assert consoles.state()[0].state == "down"


def test_before_anything_was_asked_nothing_is_known(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    (state,) = consoles_of(vsphere.vcenter_settings()).state()
    assert (state.state, state.healthy) == ("new", False)


def test_a_vcenter_that_nobody_asks_is_known_to_be_well_without_a_log_in(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings(password="wr0ng"))
    consoles.watch()
    assert until(consoles, lambda state: state.healthy).state == "up"
    assert "Login" not in vsphere.calls()["calls"]


def test_a_vcenter_that_nobody_asks_is_known_to_be_down(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, impatient: None
) -> None:
    vsphere.set_vcenter(silent=True)
    consoles = consoles_of(vsphere.vcenter_settings(timeout=0.3))
    consoles.watch()
    down = until(consoles, lambda state: state.state == "down")
    assert not down.healthy
    assert "no answer" in down.last_error


def test_a_heal_is_noticed_without_traffic(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, impatient: None
) -> None:
    vsphere.set_vcenter(silent=True)
    consoles = consoles_of(vsphere.vcenter_settings(timeout=0.3))
    close_it(consoles)
    vsphere.set_vcenter(silent=False)
    until(consoles, lambda state: state.state == "up")
    assert consoles.connect(WEB_1)


def test_the_first_success_of_a_node_opens_it_for_all_of_its_workers(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, tmp_path: Path, impatient: None
) -> None:
    settings = vsphere.vcenter_settings(timeout=0.3)
    workers = [consoles_of(settings, runtime_directory=str(tmp_path)) for _ in range(4)]
    vsphere.set_vcenter(silent=True)
    for worker in workers:
        close_it(worker)
    vsphere.set_vcenter(silent=False)
    until(workers[0], lambda state: state.state == "up")
    for worker in workers:
        assert worker.connect(WEB_1), "none waits for a pause of its own"


def test_the_workers_of_a_node_ask_in_turn(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, tmp_path: Path
) -> None:
    settings = vsphere.vcenter_settings()
    workers = [consoles_of(settings, runtime_directory=str(tmp_path)) for _ in range(4)]
    for worker in workers:
        close_it_by_hand(worker)
    for worker in workers:
        until(worker, lambda state: state.state == "up")
    assert vsphere.calls()["calls"]["RetrieveServiceContent"] < len(workers)


def close_it_by_hand(consoles: Consoles) -> None:
    """As after three failures, the vCenter being well by now."""
    session = consoles._sites["vc1"].session
    for _ in range(3):
        session._failed(VCenterUnreachable("no answer"))


def test_a_vcenter_that_stops_answering_about_machines_is_found_out(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, impatient: None
) -> None:
    """Calls about a machine prove nothing of the vCenter; the probes that they cause do."""
    consoles = consoles_of(vsphere.vcenter_settings(timeout=0.3))
    consoles.connect(WEB_1)
    vsphere.set_vcenter(silent=True)
    consoles._sites["vc1"].session._answered_at -= 60
    with pytest.raises(VCenterUnreachable, match="no answer"):
        consoles.connect(WEB_1)
    until(consoles, lambda state: state.state == "down")
    vsphere.set_vcenter(silent=False)
    until(consoles, lambda state: state.state == "up")


def test_a_certificate_that_changed_is_told_and_not_counted(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings(ca_file=None, thumbprint="00" * 32))
    consoles.watch()
    state = until(consoles, lambda state: bool(state.last_error))
    assert "correct the thumbprint" in state.last_error
    assert not state.healthy
    for _ in range(4):
        with pytest.raises(BackendError, match="correct the thumbprint"):
            consoles.connect(WEB_1)


def test_what_looks_after_it_ends_with_the_consoles(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings())
    consoles.watch()
    until(consoles, lambda state: state.healthy)
    (thread,) = [t for t in threading.enumerate() if t.name == "vcenter-vc1-probe"]
    consoles.close()
    thread.join(10)
    assert not thread.is_alive()
