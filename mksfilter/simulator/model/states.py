"""What can be changed about VMs, hosts and vCenters while they run: how faults are injected.

Set by the control API, by ``--set`` and by the test fixture; every field is checked.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Protocol

__all__ = [
    "HOSTILE",
    "NIST_2024",
    "FieldValue",
    "HostState",
    "UnknownField",
    "VCenterState",
    "VMState",
    "change",
]

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


#: VMware's name of the profile that its hardening guide for 8.0 U3 and 9 suggests.
NIST_2024 = "NIST_2024_TLS_13_ONLY"

FieldValue = bool | int | float | str


class UnknownField(ValueError):
    """A state has no such field, or the field cannot take such a value."""


def _pattern(default: str, pattern: str) -> str:
    return dataclasses.field(default=default, metadata={"pattern": pattern})


def _choice(default: str, *others: str) -> str:
    return dataclasses.field(default=default, metadata={"choices": (default, *others)})


@dataclasses.dataclass
class VMState:
    """What can be changed about a VM.

    :ivar power: a console needs ``on``; any other value ends the open ones.
    :ivar host: index of its host among those of its vCenter; a change is a vMotion.
    :ivar vcenter: index of the vCenter it is in; a change is a vMotion between vCenters.
    :ivar registration: how often it was taken out of the inventory and put back, which gives it
        another managed object id each time.
    :ivar connection: ``runtime.connectionState``, where that is not its host's: a console needs
        ``host``.
    :ivar protected: vSphere HA starts it anew when its host fails (``runtime.dasVmProtection``).
    :ivar crypto: ``runtime.cryptoState``; no ticket is given for one that is ``locked``.
    :ivar question: ``runtime.question``: until it is empty again the guest takes no key.
    :ivar max_connections: ``RemoteDisplay.maxConnections``.
    :ivar limit_at: who enforces that limit: vCenter, which then gives no ticket, or only the
        console's own socket.
    :ivar permitted: false takes ``VirtualMachine.Interact.ConsoleInteract`` away.
    :ivar deleted: it cannot be found any more.
    :ivar reported_uuid: another ``instanceUuid`` than the one it is found by.
    :ivar screen: ``text``, ``echo``, ``stream``, or ``HOST:PORT`` of a VNC server.
    :ivar answers: how vCenter answers what concerns it: ``right``, or with what a client cannot
        read: a ``control-character`` in its name, an ``unknown-element`` in its ticket, an
        ``unreadable-number`` there, ``nothing`` in it.
    :ivar fault: the fault that its tickets are refused with, and after colons the fields of it
        that are there and empty; all others are missing.
    :ivar hostile: how its console misbehaves towards the client, one of :data:`HOSTILE`.
    :ivar key_messages: whether its host offers VMware's key messages; RFB's are always taken, by a
        US map.
    :ivar layout: the guest's keyboard layout, as X.org names it; another than ``us`` needs
        libxkbcommon.
    :ivar echo: false types into nothing, as at the prompt for a password.
    :ivar key_delay: seconds that the guest takes for a key that goes down or up.
    :ivar key_queue: how many of them wait for a slow guest; what is more is lost.
    """

    power: str = _choice("on", "off", "suspended")
    host: int = 0
    vcenter: int = 0
    registration: int = 0
    connection: str = _choice("host", "disconnected", "inaccessible", "orphaned", "invalid")
    protected: bool = False
    crypto: str = _choice("none", "unlocked", "locked")
    question: str = ""
    max_connections: int = 40
    limit_at: str = _choice("ticket", "socket")
    permitted: bool = True
    deleted: bool = False
    reported_uuid: str = ""
    screen: str = _pattern("text", r"text|echo|stream|\S+:\d+")
    answers: str = _choice(
        "right", "control-character", "unknown-element", "unreadable-number", "nothing"
    )
    fault: str = _pattern("", r"(\w+(:\w+)*)?")
    hostile: str = _choice(*HOSTILE)
    key_messages: bool = True
    layout: str = _pattern("us", r"\w+(\(\w+\))?")
    echo: bool = True
    key_delay: float = 0.0
    key_queue: int = 16


@dataclasses.dataclass
class HostState:
    """What can be changed about a host.

    :ivar silent: accepts connections and never says a word.
    :ivar hung: its vCenter never answers a call that goes to it, as for a ticket of one of its VMs.
    :ivar connected: false, and its vCenter answers ``HostNotConnected``.
    :ivar responding: false, and so it does with ``HostNotReachable``: the host has failed, or its
        network; its consoles end.
    :ivar maintenance: reported as ``runtime.inMaintenanceMode``.
    :ivar wrong_certificate: presents one that no ticket names.
    :ivar wrong_display_certificate: authd announces another one for the second TLS than it shows.
    :ivar refuse_tickets: answers every ticket as if it did not know it.
    :ivar tls_profile: which of ESXi's TLS profiles it has (8.0 U3 and later). By the second it
        speaks TLS 1.3 alone, and its tickets carry no SHA-1 thumbprint.
    :ivar handshake: whether authd's display stream starts with an RFB handshake (``full``) or at
        ServerInit (``missing``).
    """

    silent: bool = False
    hung: bool = False
    connected: bool = True
    responding: bool = True
    maintenance: bool = False
    wrong_certificate: bool = False
    wrong_display_certificate: bool = False
    refuse_tickets: bool = False
    tls_profile: str = _choice("COMPATIBLE", NIST_2024)
    handshake: str = _choice("missing", "full")


@dataclasses.dataclass
class VCenterState:
    """What can be changed about a vCenter.

    :ivar api_version: 5.5 to 9.0; decides which methods and ticket fields there are.
    :ivar certificate: which one it presents: the ``first``, a ``renewed`` one of the same CA, or
        one of another CA (``foreign``). A change is a restart: logins and connections end.
    :ivar silent: accepts connections and never says a word.
    :ivar delay: seconds that every call takes.
    :ivar clock_offset: seconds by which its clock is ahead.
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
    certificate: str = _choice("first", "renewed", "foreign")
    silent: bool = False
    delay: float = 0.0
    clock_offset: float = 0.0
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


class Changeable(Protocol):
    """A VM, a host or a vCenter.

    :ivar limits: indexes among the fields of its state, and what they have to be below.
    """

    @property
    def state(self) -> VMState | HostState | VCenterState: ...
    @property
    def limits(self) -> Mapping[str, int]: ...


def change(item: Changeable, changes: Mapping[str, object]) -> None:
    """Set fields of the state of a VM, host or vCenter, all or none.

    :raises UnknownField: a name or a value that the state does not know.
    """
    state, limits = item.state, item.limits
    fields = {field.name: field for field in dataclasses.fields(state)}
    checked: dict[str, FieldValue] = {}
    for name, value in changes.items():
        field = fields.get(name)
        if field is None:
            raise UnknownField(f"no field {name!r}; there are {', '.join(sorted(fields))}")
        converted = _convert(name, value, type(getattr(state, name)))
        choices = field.metadata.get("choices")
        if choices and converted not in choices:
            raise UnknownField(
                f"{name} cannot be {value!r}; it is one of {', '.join(map(repr, choices))}"
            )
        pattern = field.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, str(converted)):
            raise UnknownField(f"{name} cannot be {value!r}; it has the form {pattern}")
        if name in limits and not 0 <= int(converted) < limits[name]:
            raise UnknownField(f"{name} cannot be {value!r}; it is an index below {limits[name]}")
        checked[name] = converted
    for name, value in checked.items():
        setattr(state, name, value)


def _convert(name: str, value: object, wanted: type[FieldValue]) -> FieldValue:
    """JSON's value, or a command line's word, as the *wanted* type."""
    try:
        if wanted is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(value)
        return wanted(value)
    except (KeyError, TypeError, ValueError) as exc:
        raise UnknownField(f"{name} cannot be {value!r}; it is a {wanted.__name__}") from exc
