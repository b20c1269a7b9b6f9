"""A vCenter's SOAP service: sessions, searches, properties, tickets."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from mksfilter.simulator import properties, soap
from mksfilter.simulator.consoles import Consoles
from mksfilter.simulator.httpd import Request, Response
from mksfilter.simulator.inventory import Inventory, Machine, VCenter
from mksfilter.simulator.soap import Array, Call, Data, Fault, Ref, version_tuple
from mksfilter.simulator.tickets import CLONE_PREFIX, Tickets

__all__ = ["CONSOLE_PRIVILEGE", "Credentials", "Session", "VCenterService"]

_LOG = logging.getLogger(__name__)
_XML = "text/xml; charset=utf-8"
_Method = Callable[[Call, Any], Any]
_UNKNOWN_METHOD: tuple[tuple[int, ...], _Method] = ((99,), lambda *_: None)
_COOKIE = re.compile(r'vmware_soap_session="?([0-9a-zA-Z-]+)')

_READ_PRIVILEGES = ("System.Anonymous", "System.Read", "System.View")
CONSOLE_PRIVILEGE = "VirtualMachine.Interact.ConsoleInteract"


@dataclasses.dataclass(frozen=True)
class Credentials:
    """The one user of the simulated vCenters."""

    username: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(eq=False)
class Session:
    """A login. *key* is what it is called, the cookie that proves it is something else."""

    key: str
    user: str
    address: str
    since: datetime.datetime
    active: float


@dataclasses.dataclass
class Counts:
    """What this vCenter was asked.

    :ivar calls: number of calls by method.
    :ivar in_flight: calls being answered now; *max_in_flight* the most there ever were.
    """

    calls: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    in_flight: int = 0
    max_in_flight: int = 0
    connections: int = 0


class VCenterService:
    """One vCenter.

    :param clock: monotonic seconds, for sessions.
    """

    def __init__(
        self,
        vcenter: VCenter,
        inventory: Inventory,
        *,
        credentials: Credentials,
        tickets: Tickets,
        consoles: Consoles,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.vcenter = vcenter
        self.counts = Counts()
        self.released = Event()
        self._credentials = credentials
        self._tickets = tickets
        self._consoles = consoles
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._inventory = inventory
        self._by_moref: dict[str, Machine] = {}
        self._methods: dict[str, tuple[tuple[int, ...], _Method]] = {
            "RetrieveServiceContent": ((2,), lambda *_: properties.service_content(vcenter)),
            "CurrentTime": ((2,), lambda *_: _now()),
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
            "QueryConnections": ((7, 0, 1), self._query_connections),
            "DropConnections": ((7, 0, 1), self._drop_connections),
        }

    @property
    def sessions(self) -> list[Session]:
        return list(self._sessions.values())

    def expire_sessions(self) -> None:
        """End all sessions, as idle time or a restart of vCenter does."""
        self._sessions.clear()

    def reset(self) -> None:
        self.expire_sessions()
        self.counts = Counts()

    def handle(self, request: Request) -> Response:
        """Answer one HTTP request."""
        if request.path == "/sdk/vimServiceVersions.xml":
            return Response(200, properties.service_versions(self.vcenter), _XML)
        if request.path.rstrip("/") != "/sdk" or request.method != "POST":
            return Response(404)
        try:
            call = soap.parse(request.body, request.headers.get("soapaction", ""))
        except soap.Malformed as exc:
            fault = Fault("InvalidRequest", f"cannot read the request: {exc}")
            return Response(500, soap.fault_response(fault), _XML)
        counts = self.counts
        counts.calls[call.method] += 1
        counts.in_flight += 1
        counts.max_in_flight = max(counts.max_in_flight, counts.in_flight)
        try:
            return self._answer(call, request)
        finally:
            counts.in_flight -= 1

    def _answer(self, call: Call, request: Request) -> Response:
        if self.vcenter.state.silent:
            self.released.wait()
        if self.vcenter.state.delay:
            gevent.sleep(self.vcenter.state.delay)
        headers: list[tuple[str, str]] = []
        try:
            body = soap.response(call.method, self._dispatch(call, request, headers))
        except Fault as fault:
            _LOG.debug(
                "fault vcenter=%s method=%s fault=%s", self.vcenter.name, call.method, fault.type
            )
            return Response(500, soap.fault_response(fault), _XML)
        return Response(200, body, _XML, headers)

    def _dispatch(self, call: Call, request: Request, headers: list[tuple[str, str]]) -> Any:
        own_version = version_tuple(self.vcenter.state.api_version)
        if call.version > own_version:
            version = ".".join(map(str, call.version))
            raise Fault("InvalidRequest", f'Unsupported version URI "urn:vim25/{version}"')
        match = _COOKIE.search(request.headers.get("cookie", ""))
        session = self._session(match[1]) if match else None
        if call.method == "Login":
            return self._login(call, session, request.client, headers)
        known_since, method = self._methods.get(call.method, _UNKNOWN_METHOD)
        if (call.version or own_version) < known_since:
            raise Fault(
                "MethodNotFound",
                f"Unable to resolve WSDL method name {call.method}",
                receiver=call.this,
                method=call.method,
            )
        anonymous = call.method == "RetrieveServiceContent" or (
            call.method == "Fetch" and call.this.type in ("ServiceInstance", "SessionManager")
        )
        if session is None and not anonymous:
            raise Fault(
                "NotAuthenticated",
                "The session is not authenticated.",
                object=call.this,
                privilegeId="System.View",
            )
        return method(call, session)

    def _session(self, cookie: str) -> Session | None:
        session = self._sessions.get(cookie)
        now = self._clock()
        if session is None or now - session.active > self.vcenter.state.session_lifetime:
            self._sessions.pop(cookie, None)
            return None
        session.active = now
        return session

    def _login(
        self,
        call: Call,
        session: Session | None,
        client: str,
        headers: list[tuple[str, str]],
    ) -> Data:
        wanted = (self._credentials.username, self._credentials.password)
        given = (call.text("userName"), call.text("password"))
        # Documented: Login fails too when the session is logged in already.
        if session is not None or given != wanted or self.vcenter.state.refuse_logins:
            raise Fault(
                "InvalidLogin",
                "Cannot complete login due to an incorrect user name or password.",
            )
        session = Session(
            f"52{secrets.token_hex(14)}",
            self._credentials.username,
            client,
            _now(),
            self._clock(),
        )
        cookie = secrets.token_hex(20)
        self._sessions[cookie] = session
        headers.append(
            ("Set-Cookie", f'vmware_soap_session="{cookie}"; Path=/; HttpOnly; Secure; ')
        )
        return _user_session(session)

    def _logout(self, _call: Call, session: Session) -> None:
        for cookie, live in list(self._sessions.items()):
            if live is session:
                del self._sessions[cookie]

    def machine(self, moref: str) -> Machine | None:
        """The machine with a managed object id."""
        machine = self._by_moref.get(moref)
        if machine is None or machine.moref != moref or machine.vcenter is not self.vcenter:
            machines = self._inventory.machines_of(self.vcenter)
            self._by_moref = {machine.moref: machine for machine in machines}
            machine = self._by_moref.get(moref)
        return None if machine is None or machine.state.deleted else machine

    def _machine(self, ref: Ref) -> Machine:
        machine = self.machine(ref.id) if ref.type == "VirtualMachine" else None
        if machine is None:
            raise Fault(
                "ManagedObjectNotFound",
                f"The object 'vim.{ref.type}:{ref.id}' has already been deleted or has not been "
                "completely created",
                obj=ref,
            )
        return machine

    # Properties

    def _fetch(self, call: Call, session: Session | None) -> Any:
        path = call.text("prop") or ""
        if call.this.type == "SessionManager":
            current = None if session is None else _user_session(session)
            values = {"currentSession": current, "defaultLocale": "en"}
            if path not in values:
                raise properties.invalid(path)
            return values[path]
        value = properties.read(self._properties(call.this), path)
        # A list in a returnval stands for itself, one element per item.
        return list(value) if isinstance(value, Array) else value

    def _properties(self, ref: Ref) -> Data:
        if ref.type == "ServiceInstance":
            return Data("ServiceInstance", content=properties.service_content(self.vcenter))
        if ref.type == "HostSystem":
            for host in self.vcenter.hosts:
                if host.moref == ref.id:
                    return properties.host(host)
        return properties.machine(self._machine(ref))

    def _retrieve_properties(self, call: Call, _session: Session) -> list[Data]:
        found = []
        for spec in call.all("specSet"):
            wanted: dict[str, list[str]] = collections.defaultdict(list)
            for prop_set in spec.findall("{*}propSet"):
                kind = (prop_set.findtext("{*}type") or "").rpartition(":")[2]
                wanted[kind] += [path.text or "" for path in prop_set.findall("{*}pathSet")]
            for element in spec.findall("{*}objectSet/{*}obj"):
                ref = Ref(element.get("type", ""), element.text or "")
                found.append(self._object_content(ref, wanted[ref.type] or wanted["ManagedEntity"]))
        return found

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

    # Searches

    def _find(self, call: Call) -> list[Ref]:
        uuid = (call.text("uuid") or "").lower()
        if not call.flag("vmSearch"):
            return [Ref("HostSystem", h.moref) for h in self.vcenter.hosts if h.uuid == uuid]
        by_instance = call.flag("instanceUuid")
        machine = self._inventory.search(self.vcenter, uuid, instance=by_instance)
        return [] if machine is None else [Ref("VirtualMachine", machine.moref)]

    def _find_by_uuid(self, call: Call, _session: Session) -> Ref | None:
        found = self._find(call)
        return found[0] if found else None

    def _find_all_by_uuid(self, call: Call, _session: Session) -> list[Ref]:
        return self._find(call)

    # Consoles

    def _console_machine(self, call: Call) -> Machine:
        """The machine of a call that needs the console privilege."""
        machine = self._machine(call.this)
        if not (machine.state.permitted and self.vcenter.state.permitted):
            raise Fault(
                "NoPermission",
                "Permission to perform this operation was denied.",
                object=call.this,
                privilegeId=CONSOLE_PRIVILEGE,
            )
        return machine

    def _ready_machine(self, call: Call) -> Machine:
        """The machine of a call that needs a running console."""
        machine = self._console_machine(call)
        if not machine.host.state.connected:
            raise Fault(
                "HostNotConnected",
                "Unable to communicate with the remote host, since it is disconnected.",
            )
        if machine.state.power != "on":
            raise Fault(
                "InvalidPowerState",
                "The attempted operation cannot be performed in the current state "
                f"({properties.POWER_WORDS[machine.state.power]}).",
                requestedState=properties.power_state("on"),
                existingState=properties.power_state(machine.state.power),
            )
        if self.vcenter.state.refuse_tickets:
            raise Fault("InvalidState", "The operation is not allowed in the current state.")
        if self._consoles.full(machine):
            raise Fault(
                "MksConnectionLimitReached",
                "A connection to the virtual machine's console could not be made: the limit of "
                f"{machine.state.max_connections} is reached.",
                connectionLimit=machine.state.max_connections,
            )
        return machine

    def _acquire_ticket(self, call: Call, session: Session) -> Data:
        machine = self._ready_machine(call)
        kind = call.text("ticketType") or ""
        if kind not in ("mks", "webmks") or (kind == "webmks" and self._older_than(6)):
            raise Fault(
                "InvalidArgument",
                f'A specified parameter was not correct: ticketType ("{kind}")',
                invalidProperty="ticketType",
            )
        secret = self._issue(kind, session, machine)
        version = call.version or version_tuple(self.vcenter.state.api_version)
        return properties.ticket(machine, kind, secret, version)

    def _acquire_mks_ticket(self, call: Call, session: Session) -> Data:
        machine = self._ready_machine(call)
        return properties.mks_ticket(machine, self._issue("mks", session, machine))

    def _acquire_clone_ticket(self, _call: Call, session: Session) -> str:
        return CLONE_PREFIX + self._issue("clone", session, None)

    def _issue(self, kind: str, session: Session, machine: Machine | None) -> str:
        return self._tickets.issue(kind, session.user, self.vcenter, machine)

    def _query_connections(self, call: Call, _session: Session) -> list[Data]:
        return [
            Data(
                "VirtualMachineMksConnection",
                label=console.label,
                client=console.client,
                userName=console.user,
            )
            for console in self._consoles.of(self._console_machine(call))
        ]

    def _drop_connections(self, call: Call, _session: Session) -> bool:
        machine = self._console_machine(call)
        labels = {element.findtext("{*}label") or "" for element in call.all("listOfConnections")}
        return self._consoles.drop(machine, labels) == len(labels)

    def _older_than(self, *version: int) -> bool:
        return version_tuple(self.vcenter.state.api_version) < version


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _user_session(session: Session) -> Data:
    return Data(
        "UserSession",
        key=session.key,
        userName=session.user,
        fullName=session.user,
        loginTime=session.since,
        lastActiveTime=_now(),
        locale="en",
        messageLocale="en",
        extensionSession=False,
        ipAddress=session.address,
    )
