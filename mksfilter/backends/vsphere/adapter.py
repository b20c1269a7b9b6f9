"""The one module that uses names of pyvmomi outside its documented API.

That API is ``pyVim.connect`` and the types under ``vim`` and ``vmodl``. ``SmartConnect`` cannot be
used: it keeps a process-global, probes versions without a time-out and cannot verify certificates
reliably (see :mod:`mksfilter.tls`). So its SOAP adapter is used directly:

=================================  ================================================================
``SoapStubAdapter``                exported, not documented; subclassed
``.scheme``, ``.schemeArgs``       what makes a connection, and its keyword arguments; replaced
``.GetConnection``                 takes a connection out of the pool, or makes one; extended
``.InvokeMethod``                  one call; extended by one repetition
``.version``                       pyvmomi's name of the API version that is spoken
``.ComputeVersionInfo``            speak a newer version from now on
``.DropConnections``               close what is in the pool
``VmomiSupport.versionIdMap``      pyvmomi's name of a version -> its number
``VmomiSupport.nsMap``             pyvmomi's name of a version -> its namespace
``ManagedObject._moId``            a managed object's id (``_GetMoId()`` is private too)
=================================  ================================================================
"""

from __future__ import annotations

import errno
import http.client
import ssl
import threading
from collections.abc import Callable
from typing import Final

from pyVmomi import SoapStubAdapter, VmomiSupport, vim

from mksfilter.backends.vsphere.managed_objects import (
    ManagedObject,
    ServiceContent,
    VirtualMachine,
)
from mksfilter.backends.vsphere.transport import HTTPSConnection
from mksfilter.config import VCenterSettings

__all__ = ["Adapter", "known_versions", "moid_of"]

# vCenter closes idle connections in its own time; ours are closed well before.
_IDLE_CONNECTION_SECONDS: Final = 55
_NAMESPACE: Final = "vim25"
_VANISHED: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})


class Adapter(SoapStubAdapter):  # type: ignore[misc]  # pyvmomi's classes have no types
    """pyvmomi's adapter on our connections; a kept connection that went stale is replaced once.

    :param version: pyvmomi's name of the API version to speak.
    :param connect: makes a connection; called with ``host`` and ``port``.
    """

    version: str

    def __init__(
        self, settings: VCenterSettings, version: str, connect: Callable[..., HTTPSConnection]
    ) -> None:
        super().__init__(
            host=settings.host,
            port=settings.port,
            version=version,
            poolSize=settings.pool_size,
            connectionPoolTimeout=_IDLE_CONNECTION_SECONDS,
        )
        self._local = threading.local()
        self.scheme = connect
        self.schemeArgs: dict[str, object] = {}

    def service_content(self) -> ServiceContent:
        """What the server is, and its singletons (``RetrieveServiceContent``)."""
        content: ServiceContent = vim.ServiceInstance(
            "ServiceInstance", self
        ).RetrieveServiceContent()
        return content

    def vm(self, moid: str) -> VirtualMachine:
        """A VM by its id; asks nothing."""
        vm: VirtualMachine = vim.VirtualMachine(moid, self)
        return vm

    def speak(self, version: str) -> None:
        """Speak *version* from now on, if it is newer than what is spoken."""
        self.ComputeVersionInfo(version)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.DropConnections()

    def GetConnection(self) -> HTTPSConnection:
        connection: HTTPSConnection = super().GetConnection()
        connection.uses += 1
        self._local.connection = connection
        connection.announce(connection)
        return connection

    def InvokeMethod(
        self, mo: object, info: object, args: object, outerStub: object = None
    ) -> object:
        self._local.connection = None
        try:
            return super().InvokeMethod(mo, info, args, outerStub)
        except (OSError, http.client.BadStatusLine) as exc:
            if not _went_stale(exc):
                raise
            used: HTTPSConnection | None = self._local.connection
            if used is None or used.uses < 2:
                raise
        return super().InvokeMethod(mo, info, args, outerStub)


def _went_stale(exc: Exception) -> bool:
    """Whether a kept connection was dead before it was used: closed, or its peer had vanished and
    the kernel has found out (RFC 5482, RFC 1122 section 4.2.3.6). A time-out of ours has no
    number."""
    return isinstance(exc, (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError)) or (
        isinstance(exc, OSError) and exc.errno in _VANISHED
    )


def known_versions() -> dict[str, str]:
    """pyvmomi's name -> number, of each release of the vSphere API that it knows.

    Unreleased versions have no number and are left out.
    """
    return {
        name: number
        for name, number in VmomiSupport.versionIdMap.items()
        if VmomiSupport.nsMap.get(name) == _NAMESPACE and number.replace(".", "").isdecimal()
    }


def moid_of(managed_object: ManagedObject) -> str:
    """The id of a managed object, such as ``vm-42``."""
    return str(managed_object._moId)
