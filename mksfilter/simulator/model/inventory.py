"""What the simulated vSphere consists of, as plain data: vCenters, hosts, VMs.

Each item has an identity that never changes and a ``state`` whose fields can be set at run time
(:mod:`~mksfilter.simulator.model.states`). :meth:`Inventory.reset` puts every state back to how the
simulator was started.
"""

from __future__ import annotations

import copy
import dataclasses
import uuid as uuids
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mksfilter.simulator.model.states import NIST_2024, HostState, VCenterState, VMState

__all__ = [
    "VM",
    "Credentials",
    "Host",
    "Inventory",
    "Item",
    "VCenter",
    "build",
]

_NAMESPACE = uuids.UUID("6d6b7366-696c-4465-9200-00005e3a11ed")

# The VMs of the demo. Their UUIDs are written into its documentation.
_VMS = (
    ("web-1", "demo", 0, "on", "5f1c7e20-0000-4000-8000-000000000001"),
    ("db-1", "demo", 1, "on", "5f1c7e20-0000-4000-8000-000000000002"),
    ("off-1", "demo", 0, "off", "5f1c7e20-0000-4000-8000-000000000003"),
    ("other-1", "other", 1, "on", "5f1c7e20-0000-4000-8000-000000000004"),
)


@dataclasses.dataclass(frozen=True)
class Credentials:
    """The one user of the simulated vCenters."""

    username: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(eq=False)
class VM:
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
    state: VMState = dataclasses.field(default_factory=VMState)

    def __post_init__(self) -> None:
        self.bios_uuid = str(uuids.uuid5(_NAMESPACE, f"bios {self.uuid}"))
        self._home = self.state.vcenter

    @property
    def vcenter(self) -> VCenter:
        return self.vcenters[self.state.vcenter]

    @property
    def moid(self) -> str:
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
    moid: str
    uuid: str
    state: HostState = dataclasses.field(default_factory=HostState)
    address: str = ""
    address6: str = ""
    port: int = 0
    authd_port: int = 0
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    pem: str = dataclasses.field(default="", repr=False)

    @property
    def limits(self) -> dict[str, int]:
        return {}

    @property
    def strict(self) -> bool:
        """Whether its TLS profile knows nothing but TLS 1.3, and no SHA-1."""
        return self.state.tls_profile == NIST_2024


@dataclasses.dataclass(eq=False)
class VCenter:
    """A vCenter with its hosts. Which VMs it has can change: the VMs know."""

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

    @property
    def limits(self) -> dict[str, int]:
        return {}


Item = VM | Host | VCenter
ItemT = TypeVar("ItemT", VM, Host, VCenter, Item)


class Inventory:
    """All vCenters and VMs, and the ways to find what is in them."""

    def __init__(self, vcenters: list[VCenter], vms: list[VM]) -> None:
        self.vcenters = vcenters
        self.vms = vms
        self._initial: list[Callable[[], None]] = []
        self._by_uuid = {vm.uuid: vm for vm in vms}
        self._by_bios_uuid = {vm.bios_uuid: vm for vm in vms}

    def hosts(self) -> Iterator[Host]:
        for vcenter in self.vcenters:
            yield from vcenter.hosts

    def vms_of(self, vcenter: VCenter) -> Iterator[VM]:
        for vm in self.vms:
            if vm.vcenter is vcenter and not vm.state.deleted:
                yield vm

    def search(self, vcenter: VCenter, uuid: str, *, instance: bool) -> VM | None:
        """The VM of *vcenter* with an instance UUID, or with a BIOS one."""
        vm = (self._by_uuid if instance else self._by_bios_uuid).get(uuid.lower())
        if vm is None or vm.vcenter is not vcenter or vm.state.deleted:
            return None
        return vm

    def vm(self, key: str) -> VM:
        """A VM by UUID, name or index.

        :raises KeyError: there is none.
        """
        return self._by_uuid.get(key) or _pick(self.vms, key)

    def find(self, kind: str, key: str) -> Item:
        """The ``vm`` (by UUID, name or index), ``host`` or ``vcenter`` (by name or index).

        :raises KeyError: there is none, or no such kind.
        """
        return self.vm(key) if kind == "vm" else _pick(self.all(kind), key)

    def all(self, kind: str) -> Sequence[Item]:
        """All of a kind: ``vm``, ``host`` or ``vcenter``.

        :raises KeyError: there is no such kind.
        """
        items: dict[str, Sequence[Item]] = {
            "vm": self.vms,
            "host": list(self.hosts()),
            "vcenter": self.vcenters,
        }
        return items[kind]

    def remember(self) -> None:
        """Make the present state the one that :meth:`reset` goes back to."""
        items: list[Item] = [*self.vcenters, *self.hosts(), *self.vms]
        self._initial = [_restorer(item) for item in items]

    def reset(self) -> None:
        for restore in self._initial:
            restore()


def _pick(items: Sequence[ItemT], key: str) -> ItemT:
    if key.isdigit() and int(key) < len(items):
        return items[int(key)]
    for item in items:
        if item.name == key:
            return item
    raise KeyError(key)


def _restorer(item: Item) -> Callable[[], None]:
    state = copy.copy(item.state)

    def restore() -> None:
        for field in dataclasses.fields(state):
            setattr(item.state, field.name, getattr(state, field.name))

    return restore


def build(*, vcenters: int = 1, vms: int = 0) -> Inventory:
    """An inventory of *vcenters* with two hosts each.

    The first vCenter has the demo's VMs; each has its share of *vms* more, named
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
    all_vms: list[VM] = []
    counts = [0] * vcenters

    def add(name: str, uuid: str, project: str, state: VMState) -> None:
        number = 101 + counts[state.vcenter]
        counts[state.vcenter] += 1
        all_vms.append(VM(name, uuid, project, number, made, state))

    for name, project, host, power, uuid in _VMS:
        add(name, uuid, project, VMState(power=power, host=host))
    for number in range(1, vms + 1):
        name = f"vm-{number:04d}"
        state = VMState(host=number % 2, vcenter=number % vcenters)
        add(name, str(uuids.uuid5(_NAMESPACE, name)), "demo", state)
    return Inventory(made, all_vms)
