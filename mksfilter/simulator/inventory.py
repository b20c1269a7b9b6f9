"""What the simulated vSphere consists of, as plain data: vCenters, hosts, machines.

Each thing has an identity that never changes and a ``state`` whose fields can be set at run time
(:mod:`~mksfilter.simulator.states`). :meth:`Inventory.reset` puts every state back to how the
simulator was started.
"""

from __future__ import annotations

import copy
import dataclasses
import uuid as uuids
from collections.abc import Iterator
from typing import Any

from mksfilter.simulator.states import HostState, MachineState, VCenterState

__all__ = [
    "Host",
    "Inventory",
    "Machine",
    "VCenter",
    "build",
]

_NAMESPACE = uuids.UUID("6d6b7366-696c-4465-9200-00005e3a11ed")

# The machines of the demo. Their UUIDs are written into its documentation.
_MACHINES = (
    ("web-1", "demo", 0, "on", "5f1c7e20-0000-4000-8000-000000000001"),
    ("db-1", "demo", 1, "on", "5f1c7e20-0000-4000-8000-000000000002"),
    ("off-1", "demo", 0, "off", "5f1c7e20-0000-4000-8000-000000000003"),
    ("other-1", "other", 1, "on", "5f1c7e20-0000-4000-8000-000000000004"),
)


@dataclasses.dataclass(eq=False)
class Machine:
    """A virtual machine.

    :ivar uuid: its ``instanceUuid``, which Nova sets to the server's id.
    :ivar number: tells it from the others that started in the same vCenter, and from no more:
        managed object ids are the same in every vCenter.
    """

    name: str
    uuid: str
    project_id: str
    number: int
    vcenters: list[VCenter] = dataclasses.field(repr=False)
    state: MachineState = dataclasses.field(default_factory=MachineState)

    def __post_init__(self) -> None:
        self.bios_uuid = str(uuids.uuid5(_NAMESPACE, f"bios {self.uuid}"))
        self._home = self.state.vcenter

    @property
    def vcenter(self) -> VCenter:
        return self.vcenters[self.state.vcenter]

    @property
    def moref(self) -> str:
        """Its managed object id, as good as the vCenter and the registration."""
        travelled = 10_000 * (1 + self._home) if self.state.vcenter != self._home else 0
        return f"vm-{self.number + travelled + 1_000_000 * self.state.registration}"

    @property
    def limits(self) -> dict[str, int]:
        """The indexes among its state's fields, and what they have to be below."""
        return {"host": len(self.vcenter.hosts), "vcenter": len(self.vcenters)}

    @property
    def host(self) -> Host:
        return self.vcenter.hosts[self.state.host]

    @property
    def config_path(self) -> str:
        """The configuration file as inventories show it."""
        return f"[datastore1] {self.name}/{self.name}.vmx"

    @property
    def config_file(self) -> str:
        """The configuration file as hosts know it, and as tickets name it."""
        return f"/vmfs/volumes/datastore1/{self.name}/{self.name}.vmx"


@dataclasses.dataclass(eq=False)
class Host:
    """An ESXi host. Addresses and ports are filled in when its servers listen."""

    name: str
    moref: str
    uuid: str
    state: HostState = dataclasses.field(default_factory=HostState)
    address: str = ""
    address6: str = ""
    port: int = 0
    authd_port: int = 0
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    pem: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(eq=False)
class VCenter:
    """A vCenter with its hosts. Which machines it has can change: the machines know."""

    name: str
    uuid: str
    state: VCenterState = dataclasses.field(default_factory=VCenterState)
    hosts: list[Host] = dataclasses.field(default_factory=list)
    address: str = ""
    port: int = 0
    console_ports: dict[str, int] = dataclasses.field(default_factory=dict)
    digests: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def fqdn(self) -> str:
        return f"{self.name}.vsphere.test"


class Inventory:
    """All vCenters and machines, and the ways to find what is in them."""

    def __init__(self, vcenters: list[VCenter], machines: list[Machine]) -> None:
        self.vcenters = vcenters
        self.machines = machines
        self._initial: list[tuple[Any, Any]] = []
        self._by_uuid = {machine.uuid: machine for machine in machines}
        self._by_bios_uuid = {machine.bios_uuid: machine for machine in machines}

    def hosts(self) -> Iterator[Host]:
        for vcenter in self.vcenters:
            yield from vcenter.hosts

    def machines_of(self, vcenter: VCenter) -> Iterator[Machine]:
        for machine in self.machines:
            if machine.vcenter is vcenter and not machine.state.deleted:
                yield machine

    def search(self, vcenter: VCenter, uuid: str, *, instance: bool) -> Machine | None:
        """The machine of *vcenter* with an instance UUID, or with a BIOS one."""
        machine = (self._by_uuid if instance else self._by_bios_uuid).get(uuid.lower())
        if machine is None or machine.vcenter is not vcenter or machine.state.deleted:
            return None
        return machine

    def find(self, kind: str, key: str) -> Any:
        """The ``vm`` (by UUID or name), ``host`` or ``vcenter`` (by name or index).

        :raises KeyError: there is none.
        """
        if kind == "vm" and key in self._by_uuid:
            return self._by_uuid[key]
        things = self.all(kind)
        if key.isdigit() and int(key) < len(things):
            return things[int(key)]
        for thing in things:
            if thing.name == key:
                return thing
        raise KeyError(key)

    def all(self, kind: str) -> list[Any]:
        """All of a kind: ``vm``, ``host`` or ``vcenter``.

        :raises KeyError: there is no such kind.
        """
        things: dict[str, list[Any]] = {
            "vm": self.machines,
            "host": list(self.hosts()),
            "vcenter": self.vcenters,
        }
        return things[kind]

    def remember(self) -> None:
        """Make the present state the one that :meth:`reset` goes back to."""
        things: list[Any] = [*self.vcenters, *self.hosts(), *self.machines]
        self._initial = [(thing, copy.copy(thing.state)) for thing in things]

    def reset(self) -> None:
        for thing, state in self._initial:
            thing.state = copy.copy(state)


def build(*, vcenters: int = 1, machines: int = 0) -> Inventory:
    """An inventory of *vcenters* with two hosts each.

    The first vCenter has the demo's machines; each has its share of *machines* more, named
    ``vm-0001`` and so on. UUIDs are the same in every run.
    """
    made = [
        VCenter(f"vc{number}", str(uuids.uuid5(_NAMESPACE, f"vcenter {number}")))
        for number in range(1, vcenters + 1)
    ]
    for index, vcenter in enumerate(made):
        for number in (2 * index + 1, 2 * index + 2):
            name = f"esxi-{number}.vsphere.test"
            vcenter.hosts.append(
                Host(name, f"host-{9 + number}", str(uuids.uuid5(_NAMESPACE, name)))
            )
    all_machines: list[Machine] = []
    counts = [0] * vcenters

    def add(name: str, uuid: str, project: str, state: MachineState) -> None:
        number = 101 + counts[state.vcenter]
        counts[state.vcenter] += 1
        all_machines.append(Machine(name, uuid, project, number, made, state))

    for name, project, host, power, uuid in _MACHINES:
        add(name, uuid, project, MachineState(power=power, host=host))
    for number in range(1, machines + 1):
        name = f"vm-{number:04d}"
        state = MachineState(host=number % 2, vcenter=number % vcenters)
        add(name, str(uuids.uuid5(_NAMESPACE, name)), "demo", state)
    return Inventory(made, all_machines)
