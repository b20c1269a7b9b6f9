"""A typed client for one vCenter's API over pyvmomi; nothing in it waits for a turn or retries.

The adapter is built here with an explicit API version and with connections that check the server's
certificate and can be shut down from another thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.client
import socket
import ssl
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Final
from xml.parsers.expat import ExpatError

from pyVmomi import vim, vmodl

from mksfilter.backends.vsphere import managed_objects, versions
from mksfilter.backends.vsphere.adapter import Adapter, moid_of
from mksfilter.backends.vsphere.transport import HTTPSConnection
from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest
from mksfilter.exceptions import (
    AnswerUnreadable,
    BackendError,
    CertificateMismatch,
    VCenterUnreachable,
)
from mksfilter.tcp import host_and_port
from mksfilter.tls import FollowingContext, pins

__all__ = ["VM", "About", "Connection", "ConsoleEvent", "Ticket", "VSphereClient"]

_PROPERTIES: Final = (
    "config.instanceUuid",
    "name",
    "runtime.connectionState",
    "runtime.host",
    "runtime.powerState",
)
# Why it may have no console, or a picture that stands still; not every account may read all of it.
_TROUBLE: Final = ("runtime.dasVmProtection.dasProtected", "runtime.question.text")
_CRYPTO_STATE: Final = "runtime.cryptoState"
_CRYPTO_SINCE: Final = (6, 7)
_HOST_STATE: Final = "runtime.connectionState"
_CONSOLE_COUNTS: Final = ("runtime.numMksConnections", "config.maxMksConnections")
_CONSOLE_EVENTS: Final = (
    "VmAcquiredTicketEvent",
    "VmRemoteConsoleConnectedEvent",
    "VmRemoteConsoleDisconnectedEvent",
)
_MAX_VERSIONS_BYTES: Final = 256 * 1024


@dataclasses.dataclass(frozen=True)
class About:
    """What a server says about itself; ``api_version`` is what it speaks, as numbers."""

    full_name: str
    api_version: tuple[int, ...]
    instance_uuid: str
    is_vcenter: bool


@dataclasses.dataclass(frozen=True)
class VM:
    """A VM as vCenter describes it. ``moid`` is good within one vCenter session only.

    :param remembered: it was read some time ago; its states may be other ones by now.
    :param host: the host's id; ``""``: not known.
    :param host_state: ``runtime.connectionState`` of that host; ``""``: not known.
    :param protected: vSphere HA starts it on another host when this one fails.
    :param locked: it is encrypted, and its host does not have the key.
    :param question: what it waits to be told, as vCenter has it; ``""``: nothing.
    """

    moid: str
    instance_uuid: str
    name: str
    power_state: str
    connection_state: str
    remembered: bool = False
    host: str = ""
    host_state: str = ""
    protected: bool = False
    locked: bool = False
    question: str = ""


@dataclasses.dataclass(frozen=True)
class Ticket:
    """``VirtualMachine.Ticket``; every field but ``ticket`` may be missing."""

    ticket: str = dataclasses.field(repr=False)
    config_file: str = ""
    host: str = ""
    port: int | None = None
    url: str = dataclasses.field(default="", repr=False)
    digests: tuple[CertificateDigest, ...] = ()


@dataclasses.dataclass(frozen=True)
class Connection:
    """A live console of a VM (``VirtualMachine.Connection``, API 7.0.1.0 and later)."""

    label: str
    client: str
    user: str


@dataclasses.dataclass(frozen=True)
class ConsoleEvent:
    """What vCenter's event log says of a console or its ticket.

    :param kind: the name of the event's type, without name space.
    :param time: seconds since the epoch, by vCenter's clock.
    :param user: the account of the vCenter session; who looks at the console is not known there.
    :param moid: of the VM.
    """

    key: int
    kind: str
    time: float
    user: str
    moid: str
    vm_name: str
    host: str


class VSphereClient:
    """One server's API. Methods raise pyvmomi's faults as they are, and for everything else

    :raises VCenterUnreachable: no connection, no answer, or not the answer of a vSphere API.
    :raises CertificateMismatch: the server is not who it should be.

    :param abortable: is given, before any byte is awaited, a function that ends the I/O.
    """

    def __init__(
        self,
        settings: VCenterSettings,
        *,
        abortable: Callable[[Callable[[], None]], None] = lambda _abort: None,
    ) -> None:
        self.settings = settings
        self._timeout = settings.timeout
        self.about: About | None = None
        self.certificate: bytes | None = None
        self.subject = f"vcenter {settings.name} ({host_and_port(settings.host, settings.port)})"
        self._errors = _Translated(self.subject)
        self._context = FollowingContext(settings)
        self._pins = pins(settings)
        self._abortable = abortable
        self._adapter: Adapter | None = None
        self._content: managed_objects.ServiceContent | None = None

    # -- connecting

    def new_connection(self, host: str, port: int) -> HTTPSConnection:
        return HTTPSConnection(
            host,
            port,
            timeout=self._timeout,
            context=self._context.current,
            digests=self._pins,
            subject=self.subject,
            announce=self.announce,
        )

    def announce(self, connection: HTTPSConnection) -> None:
        if connection.certificate is not None:
            self.certificate = connection.certificate
        self._abortable(connection.abort)

    def open(self) -> About:
        """Agree on an API version and read what the server is; no log-in yet."""
        with self._errors:
            adapter = Adapter(self.settings, self._negotiate(), self.new_connection)
            content = adapter.service_content()
            if adapter.version == versions.OLDEST:  # no list was to be had, only the release
                adapter.speak(versions.newest_until(content.about.apiVersion or ""))
        former, self._adapter, self._content = self._adapter, adapter, content
        if former is not None:
            former.close()
        self.about = About(
            full_name=str(content.about.fullName or ""),
            api_version=max(
                versions.api_version(content.about.apiVersion or ""),
                versions.version_number(adapter.version),
            ),
            instance_uuid=str(content.about.instanceUuid or "").lower(),
            is_vcenter=content.about.apiType == "VirtualCenter",
        )
        return self.about

    def _negotiate(self) -> str:
        """The newest version that both sides know, by the list that the server publishes.

        ``about.apiVersion`` names the release; a patched server speaks newer versions than that,
        and digests stronger than SHA-1 come with such a one (7.0.3.1).
        """
        connection = self.new_connection(self.settings.host, self.settings.port)
        try:
            connection.request("GET", "/sdk/vimServiceVersions.xml", headers={"Accept": "*/*"})
            response = connection.getresponse()
            if response.status != 200:
                return versions.OLDEST
            return versions.newest_of(versions.published(response.read(_MAX_VERSIONS_BYTES)))
        except ElementTree.ParseError:
            return versions.OLDEST
        finally:
            connection.close()

    def probe(self) -> None:
        """Ask what needs neither a session nor a VM, on a connection that is kept for it."""
        with self._errors:
            if self._adapter is None:
                self._adapter = Adapter(self.settings, versions.OLDEST, self.new_connection)
            self._adapter.service_content()

    def login(self, password: str) -> None:
        """Log in, or once more on the same adapter after the session has expired."""
        with self._errors:
            self._service.sessionManager.Login(self.settings.username, password, None)

    def logout(self) -> None:
        with self._errors:
            self._service.sessionManager.Logout()

    def leave(self, seconds: float) -> None:
        """Log out on a connection that waits for no more than *seconds* at each step."""
        self._timeout = seconds
        self.close()
        self.logout()
        self.close()

    def close(self) -> None:
        if self._adapter is not None:
            self._adapter.close()

    # -- asking

    def find(self, instance_uuid: str) -> str | None:
        """The moid of the VM with this instance UUID, by ``SearchIndex.FindByUuid``."""
        with self._errors:
            vm = self._service.searchIndex.FindByUuid(None, instance_uuid, True, True)
            return None if vm is None else moid_of(vm)

    def vm(self, moid: str) -> VM:
        """The VM's identity and states, in one request."""
        with self._errors:
            found = self._retrieve([moid])
            for item in found:
                for refused in item.missingSet or ():
                    if refused.path in _PROPERTIES:
                        raise refused.fault
            return _described(found).get(moid) or VM(moid, "", "", "", "")

    def vms(self, moids: Sequence[str]) -> dict[str, VM]:
        """By id, the same of several VMs; what may not be read is not known."""
        with self._errors:
            return _described(self._retrieve(moids))

    def _retrieve(self, moids: Sequence[str]) -> list[managed_objects.ObjectContent]:
        """VMs and their hosts."""
        assert self._adapter is not None, "open() comes first"
        adapter = self._adapter
        collector = vmodl.query.PropertyCollector
        paths = [*_PROPERTIES, *_TROUBLE]
        if versions.version_number(adapter.version) >= _CRYPTO_SINCE:
            paths.append(_CRYPTO_STATE)
        to_host = collector.TraversalSpec(type=vim.VirtualMachine, path="runtime.host", skip=False)
        spec = collector.FilterSpec(
            objectSet=[
                collector.ObjectSpec(obj=adapter.vm(moid), selectSet=[to_host]) for moid in moids
            ],
            propSet=[
                collector.PropertySpec(type=vim.VirtualMachine, pathSet=paths),
                collector.PropertySpec(type=vim.HostSystem, pathSet=[_HOST_STATE]),
            ],
        )
        return list(self._service.propertyCollector.RetrieveContents([spec]))

    def console_counts(self, moid: str) -> tuple[int, int]:
        """How many consoles of the VM are in use, and how many there may be; 0 is not known."""
        values = self._read(moid, _CONSOLE_COUNTS)
        used, allowed = (
            count if isinstance(count := values.get(name), int) else 0 for name in _CONSOLE_COUNTS
        )
        return used, max(0, allowed)

    def ticket(self, moid: str, kind: str) -> Ticket:
        """``VirtualMachine.AcquireTicket``; *kind* is ``webmks`` or ``mks``."""
        with self._errors:
            ticket = self._vm(moid).AcquireTicket(kind)
            return Ticket(
                ticket=str(ticket.ticket or ""),
                config_file=str(ticket.cfgFile or ""),
                host=str(ticket.host or ""),
                port=ticket.port or None,
                url=str(ticket.url or ""),
                digests=tuple(_digests(ticket)),
            )

    def clone_ticket(self) -> str:
        """``SessionManager.AcquireCloneTicket``: its bearer gets this session's rights."""
        with self._errors:
            return str(self._service.sessionManager.AcquireCloneTicket())

    def option(self, name: str) -> str:
        """A vCenter setting, ``""`` when there is none."""
        with self._errors:
            try:
                values = self._service.setting.QueryOptions(name)
            except vim.fault.InvalidName:
                return ""
            return str(values[0].value) if values else ""

    def connections(self, moid: str) -> list[Connection]:
        """``VirtualMachine.QueryConnections``: the VM's live consoles."""
        with self._errors:
            return [_connection(one) for one in self._vm(moid).QueryConnections() or ()]

    def drop(self, moid: str, unwanted: Callable[[list[Connection]], Container[Connection]]) -> int:
        """``VirtualMachine.DropConnections``; returns how many were asked to end.

        The very objects that vCenter listed are sent back: a console is one of a subtype, whose
        name must not get lost.

        :param unwanted: given the live consoles, picks those to end.
        """
        with self._errors:
            listed = [(_connection(one), one) for one in self._vm(moid).QueryConnections() or ()]
            picked = unwanted([connection for connection, _ in listed])
            ending = [one for connection, one in listed if connection in picked]
            if ending:
                self._vm(moid).DropConnections(ending)
            return len(ending)

    def console_events(self, begin: float, end: float) -> list[ConsoleEvent]:
        """``EventManager.QueryEvents``: tickets taken, consoles connected and disconnected.

        vCenter gives a thousand at the most, and does not say that there are more.

        :param begin: seconds since the epoch; *end* too, both included.
        """
        spec = vim.event.EventFilterSpec(
            time=vim.event.EventFilterSpec.ByTime(beginTime=_moment(begin), endTime=_moment(end)),
            # Both spellings are found in the field.
            eventTypeId=[*_CONSOLE_EVENTS, *(f"vim.event.{name}" for name in _CONSOLE_EVENTS)],
        )
        with self._errors:
            return [
                _console_event(event, kind)
                for event in self._service.eventManager.QueryEvents(spec) or ()
                if (kind := type(event).__name__.rpartition(".")[2]) in _CONSOLE_EVENTS
            ]

    def privileges(self, names: list[str]) -> list[bool]:
        """Which of *names* this session has on the root folder (API 5.5 and later)."""
        with self._errors:
            session = self._service.sessionManager.currentSession
            return [
                bool(has)
                for has in self._service.authorizationManager.HasPrivilegeOnEntity(
                    self._service.rootFolder, session.key, names
                )
            ]

    def clock(self) -> float:
        """Seconds since the epoch by the server's clock."""
        assert self._adapter is not None, "open() comes first"
        with self._errors:
            return self._adapter.current_time().timestamp()

    def entities(self, kind: str) -> list[str]:
        """The ids of all ``VirtualMachine`` or ``HostSystem`` that this session sees."""
        with self._errors:
            view = self._service.viewManager.CreateContainerView(
                self._service.rootFolder, [getattr(vim, kind)], True
            )
            try:
                return [moid_of(each) for each in view.view or ()]
            finally:
                view.Destroy()

    def properties(
        self, kind: str, moids: Sequence[str], paths: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        """By id, single properties of several objects; what may not be read is left out."""
        assert self._adapter is not None, "open() comes first"
        collector = vmodl.query.PropertyCollector
        adapter = self._adapter
        spec = collector.FilterSpec(
            objectSet=[collector.ObjectSpec(obj=adapter.managed(kind, moid)) for moid in moids],
            propSet=[collector.PropertySpec(type=getattr(vim, kind), pathSet=list(paths))],
        )
        with self._errors:
            found = self._service.propertyCollector.RetrieveContents([spec])
            return {
                moid_of(item.obj): {prop.name: prop.val for prop in item.propSet or ()}
                for item in found
            }

    def privileges_on(self, moids: Sequence[str], names: list[str]) -> dict[str, list[bool]]:
        """By VM, which of *names* this session has on it (API 5.5 and later)."""
        assert self._adapter is not None, "open() comes first"
        adapter = self._adapter
        with self._errors:
            session = self._service.sessionManager.currentSession
            found = self._service.authorizationManager.HasPrivilegeOnEntities(
                [adapter.managed("VirtualMachine", moid) for moid in moids], session.key, names
            )
            granted = {
                moid_of(each.entity): {one.privId for one in each.privAvailability if one.isGranted}
                for each in found or ()
            }
        return {moid: [name in has for name in names] for moid, has in granted.items()}

    def _read(self, moid: str, paths: Sequence[str]) -> dict[str, object]:
        """Single properties of a VM; never the whole ``config``, which is large."""
        collector = vmodl.query.PropertyCollector
        spec = collector.FilterSpec(
            objectSet=[collector.ObjectSpec(obj=self._vm(moid))],
            propSet=[collector.PropertySpec(type=vim.VirtualMachine, pathSet=list(paths))],
        )
        with self._errors:
            found = self._service.propertyCollector.RetrieveContents([spec])
            for refused in (refusal for item in found for refusal in item.missingSet or ()):
                raise refused.fault
            return {prop.name: prop.val for item in found for prop in item.propSet or ()}

    @property
    def _service(self) -> managed_objects.ServiceContent:
        assert self._content is not None, "open() comes first"
        return self._content

    def _vm(self, moid: str) -> managed_objects.VirtualMachine:
        assert self._adapter is not None, "open() comes first"
        return self._adapter.vm(moid)


def _described(found: Iterable[managed_objects.ObjectContent]) -> dict[str, VM]:
    """By id, the VMs among *found*, whose hosts are there too as far as they may be read."""
    vms: dict[str, dict[str, object]] = {}
    hosts: dict[str, str] = {}
    for item in found:
        values = {prop.name: prop.val for prop in item.propSet or ()}
        if isinstance(item.obj, vim.HostSystem):
            hosts[moid_of(item.obj)] = str(values.get(_HOST_STATE) or "")
        else:
            vms[moid_of(item.obj)] = values
    return {
        moid: VM(
            moid=moid,
            instance_uuid=str(values.get("config.instanceUuid") or "").lower(),
            name=str(values.get("name") or ""),
            power_state=str(values.get("runtime.powerState") or ""),
            connection_state=str(values.get("runtime.connectionState") or ""),
            host=(host := _moid(values.get("runtime.host"))),
            host_state=hosts.get(host, ""),
            protected=values.get("runtime.dasVmProtection.dasProtected") is True,
            locked=values.get(_CRYPTO_STATE) == "locked",
            question=str(values.get("runtime.question.text") or ""),
        )
        for moid, values in vms.items()
    }


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)


def _console_event(event: managed_objects.Event, kind: str) -> ConsoleEvent:
    return ConsoleEvent(
        key=event.key,
        kind=kind,
        time=event.createdTime.timestamp(),
        user=str(event.userName or ""),
        moid="" if event.vm is None else moid_of(event.vm.vm),
        vm_name="" if event.vm is None else str(event.vm.name or ""),
        host="" if event.host is None else str(event.host.name or ""),
    )


def _moid(value: object) -> str:
    return moid_of(value) if isinstance(value, vim.ManagedEntity) else ""


def _connection(one: managed_objects.Connection) -> Connection:
    return Connection(str(one.label or ""), str(one.client or ""), str(one.userName or ""))


class _Translated:
    """Says what an error of the libraries is by the errors of ours; may be entered again and again.

    :param subject: the server.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            _raise_translated(error, self._subject)


def _raise_translated(error: BaseException, subject: str) -> None:
    """Raise *error* as one of ours, or as it is."""
    try:
        raise error
    except (BackendError, vmodl.MethodFault):
        raise
    except ssl.SSLCertVerificationError as exc:
        raise CertificateMismatch(
            f"{subject}: {exc.verify_message or 'certificate not verified'}; "
            f"set ca_file or thumbprint"
        ) from None
    except socket.gaierror:
        raise VCenterUnreachable(
            f"{subject}: the name does not resolve; check host and DNS"
        ) from None
    except TimeoutError:
        raise VCenterUnreachable(f"{subject}: no answer in time; check the network") from None
    except ssl.SSLError as exc:
        raise VCenterUnreachable(f"{subject}: TLS failed: {exc.reason or exc}") from None
    except http.client.HTTPException as exc:  # RemoteDisconnected is an OSError too
        what = "" if type(exc) is http.client.HTTPException else f"{type(exc).__name__}: "
        text = " ".join(f"{what}{exc}".split())[:200]
        raise VCenterUnreachable(f"{subject}: {text}; is the vSphere API up?") from None
    except OSError as exc:
        raise VCenterUnreachable(
            f"{subject}: {exc.strerror or type(exc).__name__}; check host, port and firewall"
        ) from None
    except ExpatError:
        raise AnswerUnreadable(f"{subject}: the answer is not XML; is it a vCenter?") from None
    except (AttributeError, KeyError, LookupError, TypeError, ValueError) as exc:
        # pyvmomi meets an answer that its type tables cannot hold in many ways.
        raise AnswerUnreadable(
            f"{subject}: the answer was not understood: {type(exc).__name__}"
        ) from exc


def _digests(ticket: managed_objects.Ticket) -> Iterable[CertificateDigest]:
    """Every readable digest of the host's certificate that the ticket offers.

    One that cannot be read is left out, which never means that nothing is checked: without any
    digest the endpoint is verified by CA.
    """
    texts: list[tuple[str | None, str | None]] = [(ticket.sslThumbprint, "sha1")]
    for one in ticket.certThumbprintList or ():
        texts.append((one.thumbprint, one.hashAlgorithm))
    for text, algorithm in texts:
        if text:
            try:
                yield CertificateDigest.parse(text, algorithm or None)
            except ValueError:
                continue
    if ticket.sslCertificate:
        with contextlib.suppress(ValueError):
            yield CertificateDigest.of(ssl.PEM_cert_to_DER_cert(ticket.sslCertificate.strip()))
