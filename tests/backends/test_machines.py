"""One machine's trouble is its own: its host hangs, or what vCenter says of it is unreadable."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.exceptions import (
    BackendError,
    ConnectionLimitReached,
    ConsoleNotPermitted,
    InstancePoweredOff,
    MachineUnresponsive,
    TicketRefused,
)
from mksfilter.simulator.client import DB_1, OTHER_1, WEB_1, SimulatedVSphere

MakeConsoles = Callable[..., Consoles]


class TestHostThatHangs:
    """web-1 is on the first host; db-1 and other-1 are on the second."""

    def test_costs_no_other_machine_its_console(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(timeout=0.5))
        consoles.connect(DB_1)
        vsphere.set_host(0, hung=True)
        for _ in range(5):
            with pytest.raises(MachineUnresponsive, match=f"vcenter vc1: instance {WEB_1}"):
                consoles.connect(WEB_1)
            assert consoles.connect(DB_1)
        (state,) = consoles.state()
        assert (state.state, state.healthy) == ("up", True)

    def test_is_not_asked_again_and_again(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(timeout=0.3))
        vsphere.set_host(0, hung=True)
        for _ in range(3):
            with pytest.raises(MachineUnresponsive, match="vCenter answers"):
                consoles.connect(WEB_1)
        asked = vsphere.calls()["calls"]["AcquireTicket"]
        with pytest.raises(MachineUnresponsive, match="left alone for 10 s more"):
            consoles.connect(WEB_1)
        assert vsphere.calls()["calls"]["AcquireTicket"] == asked

    def test_is_asked_again_after_a_pause(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        skew = 0.0
        consoles = consoles_of(
            vsphere.vcenter_settings(timeout=0.3), clock=lambda: time.monotonic() + skew
        )
        vsphere.set_host(0, hung=True)
        for _ in range(4):
            with pytest.raises(MachineUnresponsive):
                consoles.connect(WEB_1)
        vsphere.set_host(0, hung=False)
        skew = 11.0
        assert consoles.connect(WEB_1)
        assert consoles.connect(WEB_1)

    def test_is_left_alone_for_all_of_its_machines(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(timeout=0.3))
        for instance in (DB_1, OTHER_1, WEB_1):
            consoles.connect(instance)
        vsphere.set_host(1, hung=True)
        for instance in (DB_1, OTHER_1, DB_1):
            with pytest.raises(MachineUnresponsive, match="vCenter answers"):
                consoles.connect(instance)
        with pytest.raises(MachineUnresponsive, match="left alone"):
            consoles.connect(OTHER_1)
        assert consoles.connect(WEB_1)

    def test_many_who_wait_for_one_machine_are_told_alike(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(timeout=0.5))
        vsphere.set_host(0, hung=True)

        def open_it(number: int) -> type[BaseException]:
            try:
                consoles.connect(WEB_1, user_id=str(number))
            except BackendError as exc:
                return type(exc)
            return Exception

        with ThreadPoolExecutor(6) as threads:
            assert set(threads.map(open_it, range(6))) == {MachineUnresponsive}
        assert consoles.connect(DB_1)


@pytest.mark.parametrize(
    "answers", ["control-character", "unknown-element", "unreadable-number", "nothing"]
)
def test_what_cannot_be_read_of_a_machine_closes_no_vcenter(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, answers: str
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings())
    vsphere.set_vm("web-1", answers=answers)
    for _ in range(4):
        with pytest.raises(TicketRefused, match=r"vcenter vc1|ticket is empty"):
            consoles.connect(WEB_1)
        assert consoles.connect(DB_1)
    assert consoles.state()[0].state == "up"


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("MksConnectionLimitReached", ConnectionLimitReached, "all its consoles are in use"),
        ("MksConnectionLimitReached:connectionLimit", ConnectionLimitReached, "all its consoles"),
        ("NoPermission", ConsoleNotPermitted, "lacks VirtualMachine.Interact.ConsoleInteract"),
        ("NoPermission:privilegeId", ConsoleNotPermitted, "lacks VirtualMachine.Interact"),
        ("NoPermission:object:privilegeId", ConsoleNotPermitted, "lacks VirtualMachine.Interact"),
        ("InvalidPowerState", TicketRefused, "InvalidPowerState"),
        ("InvalidPowerState:existingState:requestedState", TicketRefused, "InvalidPowerState"),
        ("MethodNotFound", TicketRefused, "too old for this call"),
        ("InvalidArgument:invalidProperty", TicketRefused, "this kind of ticket"),
        ("FaultOfTheYear3000", TicketRefused, "FaultOfTheYear3000"),
    ],
)
def test_a_fault_without_its_fields_is_told_as_what_it_is(
    vsphere: SimulatedVSphere,
    consoles_of: MakeConsoles,
    fault: str,
    error: type[BackendError],
    words: str,
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings())
    vsphere.set_vm("web-1", fault=fault)
    for _ in range(4):
        with pytest.raises(error, match=words) as told:
            consoles.connect(WEB_1)
        assert "None" not in str(told.value)
    assert consoles.connect(DB_1)
    assert consoles.state()[0].state == "up"


def test_a_fault_without_its_fields_does_not_hide_that_the_machine_is_off(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings())
    consoles.connect(WEB_1)
    for fault in ("InvalidPowerState", "InvalidPowerState:existingState", "Unheard"):
        vsphere.set_vm("web-1", power="off", fault=fault)
        with pytest.raises(InstancePoweredOff):
            consoles.connect(WEB_1)
