"""What the simulated vSphere consists of, as plain data: vCenters, hosts, machines.

Each thing has an identity that never changes and a ``state`` whose fields can be set at run time:
by the control API, by ``--set`` and by the test fixture. :meth:`Inventory.reset` puts every state
back to how the simulator was started. Setting a field is how faults are injected.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import uuid as uuids
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "HOSTILE",
    "Host",
    "HostState",
    "Inventory",
    "Machine",
    "MachineState",
    "UnknownField",
    "VCenter",
    "VCenterState",
    "build",
    "change",
]

_NAMESPACE = uuids.UUID("6d6b7366-696c-4465-9200-00005e3a11ed")

# The machines of the demo. Their UUIDs are written into its documentation.
_MACHINES = (
    ("web-1", "demo", 0, "on", "5f1c7e20-0000-4000-8000-000000000001"),
    ("db-1", "demo", 1, "on", "5f1c7e20-0000-4000-8000-000000000002"),
    ("off-1", "demo", 0, "off", "5f1c7e20-0000-4000-8000-000000000003"),
    ("other-1", "other", 1, "on", "5f1c7e20-0000-4000-8000-000000000004"),
)

HOSTILE = (
    "",
    "masked",
    "rsv",
    "huge",
    "text",
    "reason",
    "deaf",
    "long-control",
    "redirect",
    "bad-accept",
    "other-subprotocol",
)


class UnknownField(ValueError):
    """A state has no such field, or the field cannot take such a value."""


def _pattern(default: str, pattern: str) -> Any:
    return dataclasses.field(default=default, metadata={"pattern": pattern})


def _choice(default: str, *others: str) -> Any:
    return dataclasses.field(default=default, metadata={"choices": (default, *others)})


@dataclasses.dataclass
class MachineState:
    """What can be changed about a machine.

    :ivar power: a console needs ``on``; any other value ends the open ones.
    :ivar host: index of its host among those of its vCenter; a change is a vMotion.
    :ivar vcenter: index of the vCenter it is in; a change is a vMotion between vCenters.
    :ivar registration: how often it was taken out of the inventory and put back, which gives it
        another managed object id each time.
    :ivar max_connections: ``RemoteDisplay.maxConnections``.
    :ivar permitted: false takes ``VirtualMachine.Interact.ConsoleInteract`` away.
    :ivar deleted: nobody finds it any more.
    :ivar reported_uuid: another ``instanceUuid`` than the one it is found by.
    :ivar screen: ``text``, ``echo``, ``stream``, or ``HOST:PORT`` of a VNC server.
    :ivar hostile: how its console misbehaves towards the client, one of :data:`HOSTILE`.
    """

    power: str = _choice("on", "off", "suspended")
    host: int = 0
    vcenter: int = 0
    registration: int = 0
    max_connections: int = 40
    permitted: bool = True
    deleted: bool = False
    reported_uuid: str = ""
    screen: str = _pattern("text", r"text|echo|stream|\S+:\d+")
    hostile: str = _choice(*HOSTILE)


@dataclasses.dataclass
class HostState:
    """What can be changed about a host.

    :ivar silent: accepts connections and never says a word.
    :ivar connected: false, and its vCenter answers ``HostNotConnected``.
    :ivar maintenance: reported as ``runtime.inMaintenanceMode``.
    :ivar wrong_certificate: presents one that no ticket names.
    :ivar wrong_display_certificate: authd announces another one for the second TLS than it shows.
    :ivar refuse_tickets: answers every ticket as if it did not know it.
    :ivar handshake: whether authd's display stream starts with an RFB handshake (``full``) or at
        ServerInit (``missing``).
    """

    silent: bool = False
    connected: bool = True
    maintenance: bool = False
    wrong_certificate: bool = False
    wrong_display_certificate: bool = False
    refuse_tickets: bool = False
    handshake: str = _choice("missing", "full")


@dataclasses.dataclass
class VCenterState:
    """What can be changed about a vCenter.

    :ivar api_version: 5.5 to 9.0; decides which methods and ticket fields there are.
    :ivar silent: accepts connections and never says a word.
    :ivar delay: seconds that every call takes.
    :ivar refuse_logins: every login is an ``InvalidLogin``.
    :ivar permitted: false takes ``VirtualMachine.Interact.ConsoleInteract`` away everywhere.
    :ivar refuse_tickets: ``AcquireTicket`` fails with ``InvalidState``.
    :ivar session_lifetime: seconds a session lives without a call.
    :ivar ticket_lifetime: seconds a ticket is good for.
    :ivar ticket_host: how tickets name the host.
    :ivar ticket_port: whether they name its port.
    :ivar ticket_url: whether they carry ``url``; ``auto`` goes by the API version.
    :ivar ticket_digests: which thumbprints they carry; ``auto`` goes by the API version.
    :ivar handshake: whether the old console proxy's stream starts with an RFB handshake.
    """

    api_version: str = _pattern("8.0", r"\d+(\.\d+)*")
    silent: bool = False
    delay: float = 0.0
    refuse_logins: bool = False
    permitted: bool = True
    refuse_tickets: bool = False
    session_lifetime: float = 1800.0
    ticket_lifetime: float = 30.0
    ticket_host: str = _choice("address", "name", "short", "absent", "ipv6", "unresolvable")
    ticket_port: str = _choice("present", "absent")
    ticket_url: str = _choice("auto", "present", "absent")
    ticket_digests: str = _choice("auto", "sha1", "list", "both", "none", "wrong")
    handshake: str = _choice("missing", "full")


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


def change(thing: Any, changes: Mapping[str, Any]) -> None:
    """Set fields of the state of a machine, host or vCenter, all or none.

    :raises UnknownField: a name or a value that the state does not know.
    """
    state, limits = thing.state, getattr(thing, "limits", {})
    fields = {field.name: field for field in dataclasses.fields(state)}
    checked = {}
    for name, value in changes.items():
        field = fields.get(name)
        if field is None:
            raise UnknownField(f"no field {name!r}; there are {', '.join(sorted(fields))}")
        checked[name] = _convert(name, value, type(getattr(state, name)))
        choices = field.metadata.get("choices")
        if choices and checked[name] not in choices:
            raise UnknownField(
                f"{name} cannot be {value!r}; it is one of {', '.join(map(repr, choices))}"
            )
        pattern = field.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, checked[name]):
            raise UnknownField(f"{name} cannot be {value!r}; it has the form {pattern}")
        if name in limits and not 0 <= checked[name] < limits[name]:
            raise UnknownField(f"{name} cannot be {value!r}; it is an index below {limits[name]}")
    for name, value in checked.items():
        setattr(state, name, value)


def _convert(name: str, value: Any, wanted: type) -> Any:
    """JSON's value, or a command line's word, as the *wanted* type."""
    try:
        if wanted is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, bool):
            raise ValueError(value)
        return wanted(value)
    except (KeyError, TypeError, ValueError) as exc:
        raise UnknownField(f"{name} cannot be {value!r}; it is a {wanted.__name__}") from exc
