"""The methods of a vCenter: what each answers and refuses, and since which API version."""

from __future__ import annotations

import collections
import datetime
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import gevent
from oslo_utils import timeutils

from mksfilter.simulator.esxi.consoles import Consoles
from mksfilter.simulator.model.events import ACQUIRED, clock_of
from mksfilter.simulator.model.inventory import VM, Inventory, VCenter
from mksfilter.simulator.model.tickets import CLONE_PREFIX, Tickets
from mksfilter.simulator.vcenter import properties
from mksfilter.simulator.vcenter.sessions import Session, Sessions
from mksfilter.simulator.vcenter.soap import Array, Call, Data, Fault, Ref, Value, version_tuple

__all__ = ["CONSOLE_PRIVILEGE", "MOST_EVENTS", "Methods"]

#: What ``QueryEvents`` answers with at the most.
MOST_EVENTS = 1000

_POLL = 0.02
_READ_PRIVILEGES = ("System.Anonymous", "System.Read", "System.View")
CONSOLE_PRIVILEGE = "VirtualMachine.Interact.ConsoleInteract"

_Method = Callable[[Call, Session], Value]
_OpenMethod = Callable[[Call, Session | None], Value]


class Methods:
    """The methods of one vCenter, Login aside, which makes a session rather than needing one."""

    def __init__(
        self,
        vcenter: VCenter,
        inventory: Inventory,
        *,
        sessions: Sessions,
        tickets: Tickets,
        consoles: Consoles,
    ) -> None:
        self.vcenter = vcenter
        self._inventory = inventory
        self._sessions = sessions
        self._tickets = tickets
        self._consoles = consoles
        self._by_moid: dict[str, VM] = {}
        self._methods: dict[str, tuple[tuple[int, ...], _Method]] = {
            "RetrieveServiceContent": ((2,), self._retrieve_service_content),
            "CurrentTime": ((2,), lambda *_: clock_of(self.vcenter)),
            "Logout": ((2,), self._logout),
            "Fetch": ((2,), self._fetch),
            "RetrieveProperties": ((2,), self._retrieve_properties),
            "RetrievePropertiesEx": ((4, 1), self._retrieve_properties_ex),
            "FindByUuid": ((2,), self._find_by_uuid),
            "FindAllByUuid": ((4,), self._find_all_by_uuid),
            "QueryOptions": ((2,), self._query_options),
            "AcquireTicket": ((4, 1), self._acquire_ticket),
            "AcquireMksTicket": ((2,), self._acquire_mks_ticket),
            "AcquireCloneTicket": ((2, 5), self._acquire_clone_ticket),
            "HasPrivilegeOnEntity": ((5, 5), self._has_privilege_on_entity),
            "HasPrivilegeOnEntities": ((5, 5), self._has_privilege_on_entities),
            "CreateContainerView": ((2,), self._create_container_view),
            "DestroyView": ((2,), lambda *_: None),
            "QueryEvents": ((2,), self._query_events),
            "QueryConnections": ((7, 0, 1), self._query_connections),
            "DropConnections": ((7, 0, 1), self._drop_connections),
        }

    def find(self, call: Call) -> _Method:
        """The method that *call* names; it takes the call and its session.

        :raises Fault: there is none in the API version that is spoken.
        """
        known_since, method = self._methods.get(call.method, (None, None))
        spoken = call.version or version_tuple(self.vcenter.state.api_version)
        if known_since is None or method is None or spoken < known_since:
            raise Fault(
                "MethodNotFound",
                f"Unable to resolve WSDL method name {call.method}",
                receiver=call.this,
                method=call.method,
            )
        return method

    def open_to_all(self, call: Call) -> _OpenMethod | None:
        """The method that *call* names, if it needs no session."""
        if call.method == "RetrieveServiceContent":
            return self._retrieve_service_content
        if call.method == "Fetch" and call.this.type in ("ServiceInstance", "SessionManager"):
            return self._fetch
        return None

    def vm(self, moid: str) -> VM | None:
        """The VM with a managed object id."""
        vm = self._by_moid.get(moid)
        if vm is None or vm.moid != moid or vm.vcenter is not self.vcenter:
            self._by_moid = {vm.moid: vm for vm in self._inventory.vms_of(self.vcenter)}
            vm = self._by_moid.get(moid)
        return None if vm is None or vm.state.deleted else vm

    def _retrieve_service_content(self, _call: Call, _session: Session | None) -> Data:
        return properties.service_content(self.vcenter)

    def _logout(self, _call: Call, session: Session) -> None:
        self._sessions.logout(session)

    def _vm(self, ref: Ref) -> VM:
        vm = self.vm(ref.id) if ref.type == "VirtualMachine" else None
        if vm is None:
            raise Fault(
                "ManagedObjectNotFound",
                f"The object 'vim.{ref.type}:{ref.id}' has already been deleted or has not been "
                "completely created",
                obj=ref,
            )
        return vm

    # Properties

    def _fetch(self, call: Call, session: Session | None) -> Value:
        path = call.text("prop") or ""
        if call.this.type == "SessionManager":
            current = None if session is None else session.as_data()
            values: dict[str, Value] = {"currentSession": current, "defaultLocale": "en"}
            if path not in values:
                raise properties.invalid(path)
            return values[path]
        if call.this.type == "ContainerView" and path == "view":
            return list(self._viewed(call.this.id.removeprefix("view-")))
        value = properties.read(self._properties(call.this), path)
        # A list in a returnval stands for itself, one element per item.
        return list(value) if isinstance(value, Array) else value

    def _properties(self, ref: Ref) -> Data:
        if ref.type == "ServiceInstance":
            return Data("ServiceInstance", content=properties.service_content(self.vcenter))
        if ref.type == "HostSystem":
            for host in self.vcenter.hosts:
                if host.moid == ref.id:
                    return properties.host_object(host, self.vcenter)
        vm = self._vm(ref)
        return properties.vm_object(vm, consoles=len(self._consoles.of(vm)))

    def _retrieve_properties(self, call: Call, _session: Session) -> list[Data]:
        found = []
        for spec in call.all("specSet"):
            wanted: dict[str, list[str]] = collections.defaultdict(list)
            for prop_set in spec.findall("{*}propSet"):
                kind = (prop_set.findtext("{*}type") or "").rpartition(":")[2]
                wanted[kind] += [path.text or "" for path in prop_set.findall("{*}pathSet")]
            # Each object is there once, however it is reached.
            for ref in dict.fromkeys(self._selected(spec)):
                found.append(self._object_content(ref, wanted[ref.type] or wanted["ManagedEntity"]))
        return found

    def _selected(self, spec: ElementTree.Element) -> Iterator[Ref]:
        """The objects that a filter names, and those that one step from them leads to."""
        for chosen in spec.findall("{*}objectSet"):
            element = chosen.find("{*}obj")
            if element is None:
                continue
            ref = Ref(element.get("type", ""), element.text or "")
            yield ref
            for path in chosen.findall("{*}selectSet/{*}path"):
                reached = properties.read(self._properties(ref), path.text or "")
                if isinstance(reached, Ref):
                    yield reached

    def _object_content(self, ref: Ref, paths: list[str]) -> Data:
        values = self._properties(ref)
        read = [(path, properties.read(values, path)) for path in paths]
        return Data(
            "ObjectContent",
            obj=ref,
            propSet=[
                Data("DynamicProperty", name=path, val=value)
                for path, value in read
                if value is not None
            ],
        )

    def _retrieve_properties_ex(self, call: Call, session: Session) -> Data | None:
        found = self._retrieve_properties(call, session)
        return Data("RetrieveResult", objects=found) if found else None

    def _query_options(self, call: Call, _session: Session) -> list[Data]:
        prefix = call.text("name") or ""
        options = properties.options(self.vcenter)
        found = [
            Data("OptionValue", key=key, value=value)
            for key, value in options.items()
            if key == prefix or not prefix or (prefix.endswith(".") and key.startswith(prefix))
        ]
        if not found:
            raise Fault("InvalidName", f"The name '{prefix}' is not valid.", name=prefix)
        return found

    def _has_privilege_on_entity(self, call: Call, session: Session) -> list[bool]:
        if call.text("sessionId") != session.key:
            return [False for _ in call.all("privId")]
        permitted = self.vcenter.state.permitted
        return [
            permitted if element.text == CONSOLE_PRIVILEGE else element.text in _READ_PRIVILEGES
            for element in call.all("privId")
        ]

    def _has_privilege_on_entities(self, call: Call, session: Session) -> list[Data]:
        known = call.text("sessionId") == session.key
        wanted = [element.text or "" for element in call.all("privId")]
        return [
            Data(
                "EntityPrivilege",
                entity=Ref("VirtualMachine", vm.moid),
                privAvailability=[
                    Data(
                        "PrivilegeAvailability",
                        privId=name,
                        isGranted=known and self._may(name, vm),
                    )
                    for name in wanted
                ],
            )
            for element in call.all("entity")
            if (vm := self.vm(element.text or "")) is not None
        ]

    def _may(self, privilege: str, vm: VM) -> bool:
        if privilege == CONSOLE_PRIVILEGE:
            return vm.state.permitted and self.vcenter.state.permitted
        return privilege in _READ_PRIVILEGES

    # Searches

    def _create_container_view(self, call: Call, _session: Session) -> Ref:
        return Ref("ContainerView", f"view-{call.text('type')}")

    def _viewed(self, kind: str) -> list[Ref]:
        if kind == "HostSystem":
            return [Ref(kind, host.moid) for host in self.vcenter.hosts]
        return [Ref(kind, vm.moid) for vm in self._inventory.vms_of(self.vcenter)]

    def _find(self, call: Call) -> list[Ref]:
        uuid = (call.text("uuid") or "").lower()
        if not call.flag("vmSearch"):
            return [Ref("HostSystem", h.moid) for h in self.vcenter.hosts if h.uuid == uuid]
        by_instance = call.flag("instanceUuid")
        vm = self._inventory.search(self.vcenter, uuid, instance=by_instance)
        return [] if vm is None else [Ref("VirtualMachine", vm.moid)]

    def _find_by_uuid(self, call: Call, _session: Session) -> Ref | None:
        found = self._find(call)
        return found[0] if found else None

    def _find_all_by_uuid(self, call: Call, _session: Session) -> list[Ref]:
        return self._find(call)

    # Consoles

    def _console_vm(self, call: Call) -> VM:
        """The VM of a call that needs the console privilege."""
        vm = self._vm(call.this)
        while vm.host.state.hung:
            gevent.sleep(_POLL)
        if vm.state.fault:
            name, *empty = vm.state.fault.split(":")
            raise Fault(name, "", **dict.fromkeys(empty, ""))
        if not (vm.state.permitted and self.vcenter.state.permitted):
            raise Fault(
                "NoPermission",
                "Permission to perform this operation was denied.",
                object=call.this,
                privilegeId=CONSOLE_PRIVILEGE,
            )
        return vm

    def _running_vm(self, call: Call) -> VM:
        """The VM of a call that needs a running console."""
        vm = self._console_vm(call)
        if not vm.host.state.connected:
            raise Fault(
                "HostNotConnected",
                "Unable to communicate with the remote host, since it is disconnected.",
            )
        if not vm.host.state.responding:
            raise Fault("HostNotReachable", "Unable to communicate with the remote host.")
        if properties.connection_state(vm) != "connected" or vm.state.crypto == "locked":
            raise Fault("InvalidState", "The operation is not allowed in the current state.")
        if vm.state.power != "on":
            raise Fault(
                "InvalidPowerState",
                "The attempted operation cannot be performed in the current state "
                f"({properties.POWER_WORDS[vm.state.power]}).",
                requestedState=properties.power_state("on"),
                existingState=properties.power_state(vm.state.power),
            )
        if self.vcenter.state.refuse_tickets:
            raise Fault("InvalidState", "The operation is not allowed in the current state.")
        if vm.state.limit_at == "ticket" and self._consoles.full(vm):
            raise Fault(
                "MksConnectionLimitReached",
                "A connection to the virtual machine's console could not be made: the limit of "
                f"{vm.state.max_connections} is reached.",
                connectionLimit=vm.state.max_connections,
            )
        return vm

    def _acquire_ticket(self, call: Call, session: Session) -> Data:
        vm = self._running_vm(call)
        kind = call.text("ticketType") or ""
        if kind not in ("mks", "webmks") or (kind == "webmks" and self._older_than(6)):
            raise Fault(
                "InvalidArgument",
                f'A specified parameter was not correct: ticketType ("{kind}")',
                invalidProperty="ticketType",
            )
        secret = self._issue(kind, session, vm)
        version = call.version or version_tuple(self.vcenter.state.api_version)
        return properties.ticket(vm, kind, secret, version)

    def _acquire_mks_ticket(self, call: Call, session: Session) -> Data:
        vm = self._running_vm(call)
        return properties.mks_ticket(vm, self._issue("mks", session, vm))

    def _acquire_clone_ticket(self, _call: Call, session: Session) -> str:
        return CLONE_PREFIX + self._issue("clone", session, None)

    def _issue(self, kind: str, session: Session, vm: VM | None) -> str:
        if vm is not None:
            self._consoles.events.record(ACQUIRED, self.vcenter, vm, session.user)
        return self._tickets.issue(kind, session.user, self.vcenter, vm)

    def _query_events(self, call: Call, _session: Session) -> list[Data]:
        kinds = {
            (element.text or "").removeprefix("vim.event.")
            for element in call.all("filter/eventTypeId")
        }
        begin = _time(call.all("filter/time/beginTime"))
        end = _time(call.all("filter/time/endTime"))
        found = [
            event
            for event in self._consoles.events.of(self.vcenter)
            if (not kinds or event.kind in kinds)
            and (begin is None or event.time >= begin)
            and (end is None or event.time <= end)
        ]
        # A real one gives no more at once, and does not say that there are.
        return [properties.event(each) for each in found[-MOST_EVENTS:]]

    def _query_connections(self, call: Call, _session: Session) -> list[Data]:
        return [
            Data(
                "VirtualMachineMksConnection",
                label=console.label,
                client=console.client,
                userName=console.user,
            )
            for console in self._consoles.of(self._console_vm(call))
        ]

    def _drop_connections(self, call: Call, _session: Session) -> bool:
        vm = self._console_vm(call)
        labels = {element.findtext("{*}label") or "" for element in call.all("listOfConnections")}
        return self._consoles.drop(vm, labels) == len(labels)

    def _older_than(self, *version: int) -> bool:
        return version_tuple(self.vcenter.state.api_version) < version


def _time(elements: list[ElementTree.Element]) -> datetime.datetime | None:
    """The first of *elements* as a time; None: there is none."""
    if not elements:
        return None
    # pyvmomi leaves trailing zeros of a second's fraction out, which Python 3.10 cannot read.
    time: datetime.datetime = timeutils.parse_isotime(elements[0].text or "")
    return time
