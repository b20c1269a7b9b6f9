"""What is asked of the vSphere API, as types: pyvmomi makes its classes at run time.

Names and signatures are those of the vSphere Web Services API reference. Optional properties that
the server may leave out are None.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Protocol

__all__ = [
    "AboutInfo",
    "Connection",
    "ManagedObject",
    "ObjectContent",
    "ServiceContent",
    "Ticket",
    "VirtualMachine",
]


class ManagedObject(Protocol):
    _moId: str


class AboutInfo(Protocol):
    apiType: str
    apiVersion: str | None
    fullName: str | None
    instanceUuid: str | None


class UserSession(Protocol):
    key: str


class SessionManager(Protocol):
    currentSession: UserSession

    def Login(self, userName: str, password: str, locale: str | None) -> UserSession: ...
    def Logout(self) -> None: ...
    def AcquireCloneTicket(self) -> str: ...


class SearchIndex(Protocol):
    def FindByUuid(
        self, datacenter: None, uuid: str, vmSearch: bool, instanceUuid: bool
    ) -> ManagedObject | None: ...


class OptionValue(Protocol):
    value: object


class OptionManager(Protocol):
    def QueryOptions(self, name: str) -> Sequence[OptionValue] | None: ...


class PrivilegeAvailability(Protocol):
    privId: str
    isGranted: bool


class EntityPrivilege(Protocol):
    entity: ManagedObject
    privAvailability: Sequence[PrivilegeAvailability]


class ContainerView(Protocol):
    view: Sequence[ManagedObject] | None

    def Destroy(self) -> None: ...


class ViewManager(Protocol):
    def CreateContainerView(
        self, container: ManagedObject, type: Sequence[type], recursive: bool
    ) -> ContainerView: ...


class AuthorizationManager(Protocol):
    def HasPrivilegeOnEntities(
        self, entity: Sequence[ManagedObject], sessionId: str, privId: Sequence[str]
    ) -> Sequence[EntityPrivilege] | None: ...
    def HasPrivilegeOnEntity(
        self, entity: ManagedObject, sessionId: str, privId: Sequence[str]
    ) -> Sequence[bool]: ...


class NamedArgument(Protocol):
    """``HostEventArgument``."""

    name: str


class VmEventArgument(Protocol):
    name: str
    vm: ManagedObject


class Event(Protocol):
    """``VmEvent``."""

    key: int
    createdTime: datetime.datetime
    userName: str | None
    host: NamedArgument | None
    vm: VmEventArgument | None


class EventManager(Protocol):
    def QueryEvents(self, filter: object) -> Sequence[Event] | None: ...


class DynamicProperty(Protocol):
    name: str
    val: object


class MissingProperty(Protocol):
    path: str
    fault: Exception


class ObjectContent(Protocol):
    obj: ManagedObject
    propSet: Sequence[DynamicProperty] | None
    missingSet: Sequence[MissingProperty] | None


class PropertyCollector(Protocol):
    def RetrieveContents(self, specSet: Sequence[object]) -> Sequence[ObjectContent]: ...


class ServiceContent(Protocol):
    about: AboutInfo
    authorizationManager: AuthorizationManager
    eventManager: EventManager
    propertyCollector: PropertyCollector
    rootFolder: ManagedObject
    searchIndex: SearchIndex
    sessionManager: SessionManager
    setting: OptionManager
    viewManager: ViewManager


class CertThumbprint(Protocol):
    thumbprint: str
    hashAlgorithm: str | None


class Ticket(Protocol):
    """``VirtualMachine.Ticket``."""

    ticket: str | None
    cfgFile: str | None
    host: str | None
    port: int | None
    url: str | None
    sslThumbprint: str | None
    certThumbprintList: Sequence[CertThumbprint] | None
    sslCertificate: str | None


class Connection(Protocol):
    """``VirtualMachine.Connection`` (API 7.0.1.0 and later)."""

    label: str | None
    client: str | None
    userName: str | None


class VirtualMachine(ManagedObject, Protocol):
    def AcquireTicket(self, ticketType: str) -> Ticket: ...
    def QueryConnections(self) -> Sequence[Connection] | None: ...
    def DropConnections(self, listOfConnections: Sequence[Connection]) -> bool: ...
