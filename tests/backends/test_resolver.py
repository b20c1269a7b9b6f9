"""From an instance to an endpoint, over one or many vCenters. Against the simulator."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyVmomi import vim

from mksfilter.backends.resolver import Consoles
from mksfilter.backends.vsphere.client import VM, VSphereClient
from mksfilter.config import VCenterSettings
from mksfilter.exceptions import (
    BackendError,
    ConfigurationError,
    ConnectionLimitReached,
    ConsoleNotPermitted,
    HostDisconnected,
    InstanceNotFound,
    InstancePoweredOff,
    InstanceSuspended,
    MachineAsks,
    MachineFailingOver,
    MachineInaccessible,
    MachineLocked,
    TicketRefused,
    VCenterUnreachable,
)
from mksfilter.simulator.client import DB_1, OFF_1, OTHER_1, WEB_1, SimulatedVSphere, start
from tests.support.consoles import opened

MakeConsoles = Callable[..., Consoles]
NOBODY = "5f1c7e20-0000-4000-8000-00000000dead"


def soap_calls(vsphere: SimulatedVSphere, vcenter: int = 0) -> dict[str, int]:
    counted = vsphere.calls(vcenter)["calls"]
    return {name: counted.get(name, 0) for name in ("FindByUuid", "AcquireTicket")}


def _is_off(consoles: Consoles, instance: str) -> bool:
    """As far as is known without asking."""
    try:
        consoles.require_running(instance)
    except InstancePoweredOff:
        return True
    return False


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def consoles(vsphere: SimulatedVSphere, consoles_of: MakeConsoles) -> Consoles:
    """Of the simulated vCenter, whose first console was opened already."""
    made = consoles_of(vsphere.vcenter_settings())
    made.connect(DB_1)
    return made


class TestInstance:
    def test_leads_to_its_console(self, vsphere: SimulatedVSphere, consoles: Consoles) -> None:
        endpoint = consoles.connect(WEB_1)
        host = vsphere.host_of("web-1")
        assert (endpoint.host, endpoint.port) == (host["address"], host["port"])
        assert endpoint.resource.startswith("/ticket/")
        assert endpoint.vcenter == "vc1"

    def test_has_a_new_ticket_each_time(self, consoles: Consoles) -> None:
        tickets = {consoles.connect(WEB_1).resource for _ in range(5)}
        assert len(tickets) == 5

    def test_may_be_written_in_capitals(self, consoles: Consoles) -> None:
        assert consoles.connect(WEB_1.upper())

    @pytest.mark.parametrize("name", ["web-1", "", "../etc", "5f1c7e20-0000-4000-8000"])
    def test_is_found_by_uuid_and_nothing_else(
        self, vsphere: SimulatedVSphere, consoles: Consoles, name: str
    ) -> None:
        """CVE-2026-25199: a VM's name is its tenant's to choose."""
        before = vsphere.calls()["total"]
        with pytest.raises(InstanceNotFound):
            consoles.connect(name)
        assert vsphere.calls()["total"] == before

    def test_that_is_not_there(self, vsphere: SimulatedVSphere, consoles: Consoles) -> None:
        with pytest.raises(InstanceNotFound, match=NOBODY):
            consoles.connect(NOBODY)

    def test_that_was_deleted_is_refused_and_no_ticket_is_taken(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        """CVE-2013-0335 (OSSA-2013-006): tokens that outlive their VM."""
        consoles.connect(WEB_1)
        vsphere.delete("web-1")
        before = soap_calls(vsphere)
        with pytest.raises(InstanceNotFound):
            consoles.connect(WEB_1)
        # The remembered moid is tried once and vCenter knows it no more.
        assert soap_calls(vsphere)["AcquireTicket"] - before["AcquireTicket"] <= 1
        before = soap_calls(vsphere)
        with pytest.raises(InstanceNotFound):
            consoles.connect(WEB_1)
        assert soap_calls(vsphere)["AcquireTicket"] == before["AcquireTicket"]

    def test_of_another_uuid_than_asked_for_is_refused_and_no_ticket_is_taken(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        """CVE-2014-8750 (OSSA-2014-035): somebody else's console."""
        vsphere.set_vm("web-1", reported_uuid=OTHER_1)
        before = soap_calls(vsphere)
        with pytest.raises(InstanceNotFound, match="another instanceUuid"):
            consoles.connect(WEB_1)
        assert soap_calls(vsphere)["AcquireTicket"] == before["AcquireTicket"]

    def test_that_moved_to_another_host(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        before = consoles.connect(WEB_1)
        vsphere.vmotion("web-1")
        after = consoles.connect(WEB_1)
        assert after.host != before.host
        assert after.digests != before.digests

    def test_that_is_remembered_wrongly_is_healed_once(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        now = 0.0
        consoles = consoles_of(vsphere.vcenter_settings(), clock=lambda: now)
        consoles.connect(WEB_1)
        consoles.connect(OTHER_1)
        cache = consoles._sites["vc1"].session.vms
        # As if another VM had been given the instance's UUID since.
        (web, _), (other, _) = cache.get(WEB_1), cache.get(OTHER_1)
        cache.put(dataclasses.replace(web, moid=other.moid))
        cache.put(dataclasses.replace(other, moid=web.moid))
        now += 301
        before = soap_calls(vsphere)
        endpoint = consoles.connect(WEB_1)
        assert soap_calls(vsphere)["FindByUuid"] == before["FindByUuid"] + 1
        assert endpoint.host == vsphere.host_of("web-1")["address"]


class TestSpeed:
    def test_a_remembered_vm_costs_one_round_trip(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        for instance in (WEB_1, DB_1, OTHER_1):
            consoles.connect(instance)
        before = vsphere.calls()["total"]
        for instance in (WEB_1, DB_1, OTHER_1) * 20:
            consoles.connect(instance)
        assert vsphere.calls()["total"] - before == 60

    def test_a_new_one_costs_three_and_the_average_stays_below_one_and_a_half(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        before = vsphere.calls()["total"]
        for instance in (WEB_1, OTHER_1) * 4:
            consoles.connect(instance)
        assert vsphere.calls()["total"] - before == 3 + 3 + 6
        assert 12 / 8 <= 1.5

    def test_one_remembered_for_a_while_is_verified_again(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        now = 0.0
        consoles = consoles_of(vsphere.vcenter_settings(), clock=lambda: now)
        consoles.connect(WEB_1)
        now += 301
        before = vsphere.calls()["calls"]
        consoles.connect(WEB_1)
        after = vsphere.calls()["calls"]
        assert after["RetrieveProperties"] == before["RetrieveProperties"] + 1
        assert after["FindByUuid"] == before["FindByUuid"]


class TestFault:
    @pytest.mark.parametrize("known", [False, True])
    def test_powered_off(self, vsphere: SimulatedVSphere, consoles: Consoles, known: bool) -> None:
        if known:
            consoles.connect(WEB_1)
        vsphere.power_off("web-1")
        with pytest.raises(InstancePoweredOff, match=f"vcenter vc1: instance {WEB_1}.*start it"):
            consoles.connect(WEB_1)

    @pytest.mark.parametrize("known", [False, True])
    def test_suspended(self, vsphere: SimulatedVSphere, consoles: Consoles, known: bool) -> None:
        if known:
            consoles.connect(WEB_1)
        vsphere.suspend("web-1")
        with pytest.raises(InstanceSuspended, match=r"vcenter vc1.*resume it"):
            consoles.connect(WEB_1)

    def test_powered_on_again(self, vsphere: SimulatedVSphere, consoles: Consoles) -> None:
        with pytest.raises(InstancePoweredOff):
            consoles.connect(OFF_1)
        vsphere.power_on("off-1")
        assert consoles.connect(OFF_1)

    def test_that_is_waited_for_costs_a_call_a_second_and_is_seen_to_start(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        vsphere.power_off("web-1")
        with pytest.raises(InstancePoweredOff):
            consoles.connect(WEB_1)
        before, began = vsphere.calls()["total"], time.monotonic()
        _until(lambda: _is_off(consoles, WEB_1))
        for _ in range(500):
            assert _is_off(consoles, WEB_1)
        seconds = time.monotonic() - began
        assert vsphere.calls()["total"] - before <= seconds + 2
        vsphere.power_on("web-1")
        _until(lambda: not _is_off(consoles, WEB_1))
        assert consoles.connect(WEB_1)

    def test_powered_off_is_known_before_a_ticket_is_asked_for(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        before = soap_calls(vsphere)
        with pytest.raises(InstancePoweredOff):
            consoles.connect(OFF_1)
        assert soap_calls(vsphere)["AcquireTicket"] == before["AcquireTicket"]

    def test_suspended_is_told_where_vcenter_says_only_invalid_state(
        self, vsphere: SimulatedVSphere, consoles: Consoles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        consoles.connect(WEB_1)
        vsphere.suspend("web-1")

        def refuse(*_: object) -> None:
            raise vim.fault.InvalidState(msg="not in the current state")

        monkeypatch.setattr(VSphereClient, "ticket", refuse)
        with pytest.raises(InstanceSuspended):
            consoles.connect(WEB_1)

    def test_no_permission_names_the_privilege(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        vsphere.set_vm("web-1", permitted=False)
        with pytest.raises(
            ConsoleNotPermitted,
            match=r"vcenter vc1.*lacks VirtualMachine\.Interact\.ConsoleInteract",
        ):
            consoles.connect(WEB_1)

    @pytest.mark.parametrize("known", [False, True])
    def test_host_disconnected(
        self, vsphere: SimulatedVSphere, consoles: Consoles, known: bool
    ) -> None:
        if known:
            consoles.connect(WEB_1)
        vsphere.set_host(vsphere.host_of("web-1")["name"], connected=False)
        with pytest.raises(HostDisconnected, match=r"vcenter vc1.*reconnect"):
            consoles.connect(WEB_1)

    def test_limit_reached_names_the_setting(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        vsphere.set_vm("web-1", max_connections=0)
        with pytest.raises(ConnectionLimitReached, match=r"RemoteDisplay\.maxConnections"):
            consoles.connect(WEB_1)

    def test_ticket_refused_for_no_known_reason(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        vsphere.set_vcenter(refuse_tickets=True)
        with pytest.raises(TicketRefused, match=r"vcenter vc1.*InvalidState"):
            consoles.connect(WEB_1)


@pytest.fixture(scope="module")
def _three_vcenters() -> Iterator[SimulatedVSphere]:
    with start("--vcenters", "3", "--vms", "9") as simulated:
        yield simulated


@pytest.fixture
def three(_three_vcenters: SimulatedVSphere) -> Iterator[SimulatedVSphere]:
    _three_vcenters.reset()
    yield _three_vcenters
    _three_vcenters.reset()


def all_settings(simulated: SimulatedVSphere, **overrides: Any) -> list[VCenterSettings]:
    return [
        simulated.vcenter_settings(index, **overrides) for index in range(len(simulated.vcenters))
    ]


def impatient_with_the_first(simulated: SimulatedVSphere) -> list[VCenterSettings]:
    """The others have time enough, however busy this computer is."""
    first, *others = all_settings(simulated)
    return [dataclasses.replace(first, timeout=0.3), *others]


def vm_of(simulated: SimulatedVSphere, vcenter: int) -> str:
    """The UUID of a running VM there."""
    name = simulated.vcenters[vcenter]["name"]
    return next(vm["uuid"] for vm in simulated.vms if vm["vcenter"] == name and vm["power"] == "on")


class TestTrouble:
    """A machine that has no console, and why, as far as vCenter says so."""

    @pytest.mark.parametrize("remembered", [False, True], ids=["first opening", "remembered"])
    @pytest.mark.parametrize(
        ("vm", "host", "error", "words"),
        [
            ({"crypto": "locked"}, {}, MachineLocked, "encrypted and locked"),
            ({"crypto": "locked", "connection": "invalid"}, {}, MachineLocked, "KMS"),
            ({"connection": "inaccessible"}, {}, MachineInaccessible, "is inaccessible"),
            ({"connection": "orphaned"}, {}, MachineInaccessible, "registered anew"),
            ({}, {"connected": False}, HostDisconnected, "its host is disconnected"),
            ({}, {"responding": False}, HostDisconnected, "its host does not respond"),
            ({"protected": True}, {"responding": False}, MachineFailingOver, "vSphere HA"),
            ({"protected": True}, {"connected": False}, HostDisconnected, "is disconnected"),
            (
                {"power": "off", "question": "moved or copied?"},
                {},
                MachineAsks,
                "give it there: moved or copied",
            ),
            ({"fault": "InvalidState", "question": "why?"}, {}, MachineAsks, r"why\?"),
            ({"power": "off", "crypto": "locked"}, {}, MachineLocked, "unlock it in vCenter"),
        ],
    )
    def test_is_told_by_one_look(
        self,
        vsphere: SimulatedVSphere,
        consoles: Consoles,
        vm: dict[str, object],
        host: dict[str, object],
        error: type[BackendError],
        words: str,
        remembered: bool,
    ) -> None:
        if remembered:
            consoles.connect(WEB_1)
        vsphere.set_vm(WEB_1, **vm)
        vsphere.set_host(vsphere.host_of("web-1")["name"], **host)
        before = vsphere.calls()["calls"]
        with pytest.raises(error, match=words):
            consoles.connect(WEB_1)
        after = vsphere.calls()["calls"]
        # At the first opening, after the refusal, and by who looks after machines that pass.
        assert after["RetrieveProperties"] - before["RetrieveProperties"] <= 3

    @pytest.mark.parametrize("version", ["5.5", "6.5", "6.7", "9.0"])
    def test_costs_an_opening_nothing_and_is_asked_of_every_release(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles, version: str
    ) -> None:
        vsphere.set_vcenter(api_version=version)
        consoles = consoles_of(vsphere.vcenter_settings(backend="auto"))
        consoles.connect(DB_1)
        before = vsphere.calls()["calls"]
        consoles.connect(OTHER_1)
        after = vsphere.calls()["calls"]
        assert after["RetrieveProperties"] == before["RetrieveProperties"] + 1
        assert after["FindByUuid"] == before["FindByUuid"] + 1

    def test_a_machine_that_runs_and_waits_for_an_answer_has_a_console_and_its_user_the_question(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        text = "msg.disk:No space for /vmfs/volumes/ds/web-1/web-1.vmdk"
        vsphere.set_vm(WEB_1, question=text)
        assert consoles.connect(WEB_1).question == "No space for web-1.vmdk"
        # What is remembered may have been answered since.
        assert consoles.connect(WEB_1).question == ""
        vms = {vm["uuid"]: vm["moid"] for vm in vsphere.vms}
        asked = {WEB_1: vms[WEB_1], DB_1: vms[DB_1], OTHER_1: vms[WEB_1]}
        assert consoles.questions("vc1", asked) == {WEB_1: "No space for web-1.vmdk", DB_1: ""}
        assert consoles.questions("elsewhere", asked) == {}

    def test_whoever_waits_for_it_to_pass_asks_vcenter_nothing(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        consoles.connect(WEB_1)
        vsphere.set_vm(WEB_1, protected=True)
        vsphere.set_host(vsphere.host_of("web-1")["name"], responding=False)
        with pytest.raises(MachineFailingOver):
            consoles.connect(WEB_1)

        def known(error: type[BackendError]) -> bool:
            try:
                consoles.require_running(WEB_1)
            except error:
                return True
            return False

        _until(lambda: known(MachineFailingOver))
        vsphere.vmotion("web-1")
        _until(lambda: not known(MachineFailingOver))
        assert consoles.connect(WEB_1)


class TestManyVCenters:
    def test_whichever_has_it_serves_it(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(*all_settings(three))
        for index in range(3):
            endpoint = consoles.connect(vm_of(three, index))
            assert endpoint.vcenter == three.vcenters[index]["name"]

    def test_are_asked_at_once(self, three: SimulatedVSphere, consoles_of: MakeConsoles) -> None:
        consoles = consoles_of(*all_settings(three))
        three.set_all("vcenter", delay=0.2)
        started = time.monotonic()
        consoles.connect(vm_of(three, 2))
        # RetrieveServiceContent, Login, FindByUuid, RetrieveProperties, AcquireTicket
        assert time.monotonic() - started < 2 * 5 * 0.2

    def test_are_asked_once_per_instance(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(*all_settings(three, pool_size=1))
        instance = vm_of(three, 1)
        consoles.connect(instance)
        with pytest.raises(InstanceNotFound):  # in turn after the first search, wherever that is
            consoles.connect(NOBODY)
        before = [three.calls(index)["total"] for index in range(3)]
        consoles.connect(instance)
        after = [three.calls(index)["total"] for index in range(3)]
        assert [b - a for a, b in zip(before, after, strict=True)] == [0, 1, 0]

    def test_one_that_hangs_delays_nobody_else(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(*all_settings(three, timeout=5.0))
        three.set_vcenter(0, silent=True)
        started = time.monotonic()
        for index in (1, 2):
            assert consoles.connect(vm_of(three, index))
        assert time.monotonic() - started < 4

    def test_one_that_hangs_may_be_the_one_that_has_it(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        """A user who is told that an instance does not exist stops trying."""
        consoles = consoles_of(*impatient_with_the_first(three))
        three.set_vcenter(0, silent=True)
        for instance in (vm_of(three, 0), NOBODY):
            with pytest.raises(VCenterUnreachable, match=three.vcenters[0]["name"]):
                consoles.connect(instance)

    def test_one_that_hangs_is_left_alone_and_that_is_visible(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(*impatient_with_the_first(three))
        three.set_vcenter(0, silent=True)
        for _ in range(3):
            with pytest.raises(VCenterUnreachable):
                consoles.connect(NOBODY)
        hung = consoles.state()[0]
        assert hung.state == "down"
        assert 0 < hung.retry_in <= 10
        assert "no answer" in hung.last_error
        connections = three.calls(0)["connections"]
        started = time.monotonic()
        with pytest.raises(VCenterUnreachable, match="left alone"):
            consoles.connect(NOBODY)
        assert time.monotonic() - started < 2
        assert three.calls(0)["connections"] == connections

    def test_one_that_hung_is_asked_again_after_a_pause(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        skew = 0.0
        consoles = consoles_of(
            *impatient_with_the_first(three), clock=lambda: time.monotonic() + skew
        )
        three.set_vcenter(0, silent=True)
        for _ in range(3):
            with pytest.raises(VCenterUnreachable):
                consoles.connect(NOBODY)
        three.set_vcenter(0, silent=False)
        skew = 11.0
        assert consoles.state()[0].state == "probing"
        assert consoles.connect(vm_of(three, 0))
        assert consoles.state()[0].state == "up"

    def test_hint_by_name_spares_the_others(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(*all_settings(three))
        name = three.vcenters[1]["name"]
        assert consoles.connect(vm_of(three, 1), vcenter=name)
        assert [three.calls(index)["total"] > 0 for index in range(3)] == [False, True, False]

    def test_hint_by_novas_node_name_spares_the_others_once_they_are_known(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(*all_settings(three))
        with pytest.raises(InstanceNotFound):
            consoles.connect(NOBODY)
        before = [three.calls(index)["total"] for index in range(3)]
        server = consoles._sites[three.vcenters[1]["name"]].session.about
        assert server is not None
        node = f"domain-c7.{server.instance_uuid}"
        assert consoles.connect(vm_of(three, 1), vcenter=node)
        after = [three.calls(index)["total"] for index in range(3)]
        assert [b > a for a, b in zip(before, after, strict=True)] == [False, True, False]

    @pytest.mark.parametrize("hint", ["vc1", "nobody-knows", f"domain-c7.{NOBODY}", "domain-c7."])
    def test_a_wrong_hint_costs_time_only(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles, hint: str
    ) -> None:
        consoles = consoles_of(*all_settings(three))
        assert consoles.connect(vm_of(three, 1), vcenter=hint).vcenter == "vc2"

    def test_a_vm_that_nobody_has(self, three: SimulatedVSphere, consoles_of: MakeConsoles) -> None:
        consoles = consoles_of(*all_settings(three))
        with pytest.raises(InstanceNotFound, match=f"{NOBODY}.*vc1, vc2, vc3"):
            consoles.connect(NOBODY)

    def test_a_vm_that_changed_its_vcenter_is_found_again(
        self, three: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(*all_settings(three))
        instance = vm_of(three, 1)
        known = consoles._sites["vc1"].session.vms
        known.put(VM("vm-999999", instance, "was-here", "poweredOn", "connected"))
        assert consoles.connect(instance).vcenter == "vc2"


class TestTakeOver:
    def test_refuses_at_the_limit_unless_told_otherwise(
        self, vsphere: SimulatedVSphere, consoles: Consoles
    ) -> None:
        with viewing(vsphere, consoles, WEB_1):
            vsphere.set_vm("web-1", max_connections=1)
            with pytest.raises(ConnectionLimitReached):
                consoles.connect(WEB_1)
            assert len(vsphere.connections("web-1")) == 1

    def test_ends_the_oldest_console(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(), take_over="drop")
        with viewing(vsphere, consoles, WEB_1), viewing(vsphere, consoles, WEB_1, count=2):
            _oldest, newest = vsphere.connections("web-1")
            vsphere.set_vm("web-1", max_connections=2)
            assert consoles.connect(WEB_1)
            assert vsphere.connections("web-1", count=1) == [newest]

    def test_is_not_for_who_comes_back_by_itself(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(), take_over="drop")
        with viewing(vsphere, consoles, WEB_1):
            vsphere.set_vm("web-1", max_connections=1)
            with pytest.raises(ConnectionLimitReached):
                consoles.connect(WEB_1, may_take_over=False)
            with pytest.raises(ConnectionLimitReached):
                consoles.make_room(WEB_1, may_take_over=False)
            assert len(vsphere.connections("web-1")) == 1

    @pytest.mark.parametrize("version", ["5.5", "8.0"])
    def test_a_limit_that_only_the_host_knows_of_is_found_out(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles, version: str
    ) -> None:
        vsphere.set_vcenter(api_version=version)
        consoles = consoles_of(vsphere.vcenter_settings(backend="mks"))
        assert not consoles.make_room(WEB_1), "nobody is there"
        viewer = consoles_of(vsphere.vcenter_settings())
        vsphere.set_vcenter(api_version="8.0")
        with viewing(vsphere, viewer, WEB_1):
            vsphere.set_vcenter(api_version=version)
            assert not consoles.make_room(WEB_1), "there is room"
            vsphere.set_vm("web-1", max_connections=1, limit_at="socket")
            assert consoles.connect(WEB_1), "a ticket is to be had"
            with pytest.raises(ConnectionLimitReached, match="all 1 consoles are in use"):
                consoles.make_room(WEB_1)

    def test_makes_room_where_only_the_host_knows_of_the_limit(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(), take_over="drop")
        with viewing(vsphere, consoles, WEB_1), viewing(vsphere, consoles, WEB_1, count=2):
            newest = vsphere.connections("web-1")[1]
            assert not consoles.make_room(WEB_1)
            vsphere.set_vm("web-1", max_connections=2, limit_at="socket")
            assert consoles.make_room(WEB_1)
            assert vsphere.connections("web-1") == [newest]

    def test_before_vsphere_7_0_1_is_refused(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(), take_over="drop")
        vsphere.set_vcenter(api_version="6.7")
        vsphere.set_vm("web-1", max_connections=0)
        with pytest.raises(ConnectionLimitReached, match=r"7\.0\.1"):
            consoles.connect(WEB_1)


class TestLiveConsoles:
    def test_are_listed(self, vsphere: SimulatedVSphere, consoles: Consoles) -> None:
        assert consoles.connections(WEB_1) == []
        with viewing(vsphere, consoles, WEB_1):
            (live,) = consoles.connections(WEB_1)
            assert live.label
            assert live.user == vsphere.vcenter["username"]

    def test_are_dropped_by_label(self, vsphere: SimulatedVSphere, consoles: Consoles) -> None:
        with viewing(vsphere, consoles, WEB_1), viewing(vsphere, consoles, WEB_1, count=2):
            first, second = consoles.connections(WEB_1)
            assert consoles.drop(WEB_1, labels=[second.label]) == 1
            assert consoles.connections(WEB_1) == [first]

    def test_are_dropped_all_at_once(self, vsphere: SimulatedVSphere, consoles: Consoles) -> None:
        with viewing(vsphere, consoles, WEB_1), viewing(vsphere, consoles, DB_1):
            assert consoles.drop(WEB_1) == 1
            assert consoles.drop(WEB_1) == 0
            assert len(consoles.connections(DB_1)) == 1

    def test_need_vsphere_7_0_1(self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles) -> None:
        vsphere.set_vcenter(api_version="7.0")
        consoles = consoles_of(vsphere.vcenter_settings())
        with pytest.raises(TicketRefused, match=r"7\.0\.1"):
            consoles.connections(WEB_1)


def test_many_users_on_two_vms_get_their_own_consoles(
    vsphere: SimulatedVSphere, consoles: Consoles
) -> None:
    """CVE-2014-8750: sessions side by side."""
    expected = {name: vsphere.host_of(name)["port"] for name in ("web-1", "db-1")}
    assert len(set(expected.values())) == 2
    with ThreadPoolExecutor(16) as threads:
        endpoints = list(threads.map(consoles.connect, [WEB_1, DB_1] * 50))
    assert [one.port for one in endpoints] == [expected["web-1"], expected["db-1"]] * 50


def test_a_user_with_many_requests_delays_another_by_a_turn(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings(pool_size=1))
    consoles.connect(WEB_1)
    vsphere.set_vcenter(delay=0.02)
    order: list[str] = []
    queued = threading.Semaphore(0)

    def busy(_number: int) -> None:
        queued.release()
        consoles.connect(WEB_1, user_id="busy")
        order.append("busy")

    with ThreadPoolExecutor(41) as threads:
        busy_done = [threads.submit(busy, number) for number in range(40)]
        for _ in range(40):
            queued.acquire()
        consoles.connect(WEB_1, user_id="me")
        order.append("me")
        for future in busy_done:
            future.result()
    assert order.index("me") < 20


def test_without_any_vcenter_says_so(consoles_of: MakeConsoles) -> None:
    with pytest.raises(ConfigurationError, match="vcenters"):
        consoles_of().connect(str(uuid.uuid4()))


@contextlib.contextmanager
def viewing(
    vsphere: SimulatedVSphere, consoles: Consoles, instance: str, *, count: int = 1
) -> Iterator[None]:
    """An open console, the *count*-th of its VM."""
    endpoint = consoles.connect(instance)
    with opened(endpoint):
        vsphere.connections(instance, count=count)
        yield
