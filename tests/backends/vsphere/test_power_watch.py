"""Machines that are waited for: looked at once a second by one process of a node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mksfilter.backends.vsphere.power_watch import INTEREST, LOOK_EVERY, MOST, PowerWatch
from mksfilter.backends.vsphere.shared_record import SharedRecord
from mksfilter.exceptions import (
    InstanceNotFound,
    InstancePoweredOff,
    InstanceSuspended,
    MachineAsks,
    MachineFailingOver,
    VCenterUnreachable,
)


class VCenter:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.asked: list[set[str]] = []
        self.fails: Exception | None = None

    def __call__(self, vms: Mapping[str, str]) -> dict[str, str]:
        self.asked.append(set(vms))
        if self.fails is not None:
            raise self.fails
        return {uuid: self.states[uuid] for uuid in vms if uuid in self.states}


class Process(PowerWatch):
    """One that looks when it is told to."""

    def _start(self) -> None:
        pass


@pytest.fixture
def vcenter() -> VCenter:
    return VCenter()


class Node:
    def __init__(self, vcenter: VCenter, path: Path) -> None:
        self.now = 100.0
        self.processes = [
            Process("dc1", vcenter, SharedRecord(str(path / "power.json")), clock=lambda: self.now)
            for _ in range(4)
        ]

    def second(self) -> None:
        self.now += LOOK_EVERY
        for process in self.processes:
            process.look()


@pytest.fixture
def node(vcenter: VCenter, tmp_path: Path) -> Node:
    return Node(vcenter, tmp_path)


def test_one_process_asks_once_a_second_for_all_machines_and_each_knows(
    node: Node, vcenter: VCenter
) -> None:
    one, two, *_ = node.processes
    vcenter.states = {"a": "powered-off", "b": "suspended"}
    one.require_running("a")  # nobody waits for it: it is not known
    one.watch("a", "vm-1", "powered-off")
    two.watch("b", "vm-2", "suspended")
    two.require_running("a")  # nobody has looked yet
    for _ in range(60):
        node.second()
        for process in node.processes:
            with pytest.raises(InstancePoweredOff, match=r"dc1.*instance a .*start it"):
                process.require_running("a")
            with pytest.raises(InstanceSuspended):
                process.require_running("b")
    assert vcenter.asked == [{"a", "b"}] * 60
    vcenter.states["a"] = ""
    node.second()
    for process in node.processes:
        process.require_running("a")
        with pytest.raises(InstanceSuspended):
            process.require_running("b")


def test_another_reason_than_the_one_told_is_asked_of_vcenter(node: Node, vcenter: VCenter) -> None:
    """A machine that is started asks whether it was moved or copied."""
    vcenter.states = {"a": "question-pending", "b": "failing-over"}
    process = node.processes[0]
    process.watch("a", "vm-1", "powered-off")
    process.watch("b", "vm-2", "failing-over")
    node.second()
    process.require_running("a")
    with pytest.raises(MachineFailingOver, match="started on another host"):
        process.require_running("b")
    process.watch("a", "vm-1", "question-pending")
    node.second()
    with pytest.raises(MachineAsks, match="answer in vCenter"):
        process.require_running("a")


def test_a_machine_that_nobody_asks_for_any_more_is_forgotten(node: Node, vcenter: VCenter) -> None:
    vcenter.states = {"a": "powered-off"}
    node.processes[0].watch("a", "vm-1", "powered-off")
    for _ in range(round(INTEREST) + 5):
        node.second()
    assert len(vcenter.asked) < INTEREST
    assert not any(process.look() for process in node.processes)


def test_what_was_not_seen_lately_is_not_known(node: Node, vcenter: VCenter) -> None:
    vcenter.states = {"a": "powered-off"}
    process = node.processes[0]
    process.watch("a", "vm-1", "powered-off")
    node.second()
    vcenter.fails = VCenterUnreachable("no answer")
    for _ in range(4):
        node.second()
        with pytest.raises(InstancePoweredOff):
            process.require_running("a")
    node.second()
    process.require_running("a")


@pytest.mark.parametrize("states", [{}, None], ids=["another VM", "deleted"])
def test_a_machine_that_is_not_there_any_more_is_asked_for_anew(
    node: Node, vcenter: VCenter, states: dict[str, str] | None
) -> None:
    vcenter.states = {"a": "powered-off"}
    node.processes[0].watch("a", "vm-1", "powered-off")
    node.second()
    vcenter.states = {}
    vcenter.fails = InstanceNotFound("deleted") if states is None else None
    node.second()
    node.processes[0].require_running("a")


def test_no_more_are_watched_than_the_record_holds(
    node: Node, vcenter: VCenter, tmp_path: Path
) -> None:
    for number in range(MOST + 50):
        uuid = f"00000000-0000-4000-8000-{number:012}"
        vcenter.states[uuid] = "powered-off"
        node.processes[number % 4].watch(uuid, f"vm-{number + 1_000_000}", "powered-off")
    node.second()
    assert len(vcenter.asked[0]) == MOST
    assert (tmp_path / "power.json").stat().st_size < 65536
    with pytest.raises(InstancePoweredOff):
        node.processes[3].require_running("00000000-0000-4000-8000-000000000000")


def test_a_record_of_another_release_says_nothing(tmp_path: Path, vcenter: VCenter) -> None:
    for written in ("[]", "{}", '{"machines": 1}', '{"machines": {"a": [1]}, "seen": "x"}', "\0"):
        path = tmp_path / "power.json"
        path.write_text(written)
        process = Process("dc1", vcenter, SharedRecord(str(path)))
        process.require_running("a")
        process.watch("a", "vm-1", "powered-off")
        assert process.look()
