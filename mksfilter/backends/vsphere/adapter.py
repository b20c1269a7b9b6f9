"""The one module that uses names of pyvmomi outside its documented API.

That API is ``pyVim.connect`` and the types under ``vim`` and ``vmodl``. ``SmartConnect`` cannot be
used: it keeps a process-global, probes versions without a time-out and cannot verify certificates
reliably (see :mod:`mksfilter.tls`). So its SOAP adapter is used directly:

=================================  ================================================================
``SoapStubAdapter``                exported, not documented; subclassed
``.scheme``, ``.schemeArgs``       what makes a connection, and its keyword arguments; replaced
``.GetConnection``                 takes a connection out of the pool, or makes one; extended
``.InvokeMethod``                  one call; replaced, for what it costs
``.SerializeRequest``              a call as SOAP
``SoapResponseDeserializer``       an answer from SOAP; ``.Deserialize``
``.ReturnConnection``              put a connection back into the pool
``.path``, ``.versionId``,         the request's path, its ``SOAPAction``, and the cookie of the
``.cookie``                        session
``.version``                       pyvmomi's name of the API version that is spoken
``.ComputeVersionInfo``            speak a newer version from now on
``.DropConnections``               close what is in the pool
``VmomiSupport.versionIdMap``      pyvmomi's name of a version -> its number
``VmomiSupport.nsMap``             pyvmomi's name of a version -> its namespace
``VmomiSupport._lazyLock``         held while a type is looked up; replaced where gevent has made it
``SoapAdapter.isDynamicType``,     what is asked about each element of an answer, and has one answer
``.GetWsdlType``,                  for ever; what was answered is remembered
``.GetCompatibleType``,
``SoapDeserializer.SplitTag``,
``DataObject._GetPropertyInfo``,
``._GetPropertyList``
``ManagedObject._moId``            a managed object's id (``_GetMoId()`` is private too)
=================================  ================================================================
"""

from __future__ import annotations

import _thread
import datetime
import errno
import functools
import http.client
import io
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast
from xml.sax.saxutils import escape

from pyVmomi import SoapAdapter, SoapStubAdapter, VmomiSupport, vim
from pyVmomi.SoapAdapter import SoapDeserializer, SoapResponseDeserializer
from pyVmomi.VmomiSupport import DataObject

from mksfilter import __version__
from mksfilter.backends.vsphere.bare_fault import bare_fault
from mksfilter.backends.vsphere.http_answer import Answer
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
# Calls that an opening makes, whose text is kept; their arguments are few words.
_REPEATED: Final = frozenset({"AcquireTicket"})
# Stands for a VM's id in a text that is kept; no id has a space.
_SLOT: Final = "the VM"
_USER_AGENT: Final = f"mksfilter/{__version__}"

# It is taken for each element of an answer. gevent's is written in Python, and costs a sixth of the
# reading. What it guards never waits, so that no greenlet can find it taken by another one of the
# same thread; threads are kept apart by this one too.
VmomiSupport._lazyLock = _thread.RLock()

# Types and elements that the API has, and no more: what is unknown raises, and is not remembered.
_remembered: Any = functools.lru_cache(maxsize=4096)
#: Characters of an element's name with its namespace.
_LONGEST_TAG: Final = 256
_split = SoapDeserializer.SplitTag
_list = DataObject._GetPropertyList.__func__


def _split_tag(tag: str) -> tuple[str, str]:
    if len(tag) > _LONGEST_TAG:
        raise ValueError("the name of an element is too long")
    return cast("tuple[str, str]", _split(None, tag))


def _property_list(kind: object, with_bases: bool = True) -> tuple[object, ...]:
    return tuple(_list(kind, with_bases))


SoapDeserializer.SplitTag = staticmethod(_remembered(_split_tag))
DataObject._GetPropertyInfo = classmethod(_remembered(VmomiSupport.GetPropertyInfo))
DataObject._GetPropertyList = classmethod(_remembered(_property_list))
SoapAdapter.isDynamicType = _remembered(SoapAdapter.isDynamicType)
SoapAdapter.GetWsdlType = _remembered(SoapAdapter.GetWsdlType)
SoapAdapter.GetCompatibleType = _remembered(SoapAdapter.GetCompatibleType)


class Method(Protocol):
    """What pyvmomi knows of a method."""

    name: str
    result: object


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
        self._texts: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
        self._head, self._head_for = b"", ("", "")
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

    def managed(self, kind: str, moid: str) -> ManagedObject:
        """A managed object of a type of ``vim`` by its id; asks nothing."""
        managed: ManagedObject = getattr(vim, kind)(moid, self)
        return managed

    def current_time(self) -> datetime.datetime:
        """The server's clock (``CurrentTime``)."""
        now: datetime.datetime = vim.ServiceInstance("ServiceInstance", self).CurrentTime()
        return now

    def speak(self, version: str) -> None:
        """Speak *version* from now on, if it is newer than what is spoken."""
        self.ComputeVersionInfo(version)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.DropConnections()

    def GetConnection(self) -> HTTPSConnection:
        connection: HTTPSConnection = super().GetConnection()
        connection.uses += 1
        connection.announce(connection)
        return connection

    def InvokeMethod(self, mo: ManagedObject, info: Method, args: Sequence[object]) -> object:
        """One call: pyvmomi's text, one exchange on a kept connection, pyvmomi's understanding.

        pyvmomi's own way through :mod:`http.client` does the same and takes three times as long.
        """
        text = self._text(mo, info, args)
        connection = self.GetConnection()
        try:
            answer = self._exchange(connection, text)
        except (OSError, http.client.BadStatusLine) as exc:
            if connection.uses < 2 or not _went_stale(exc):
                raise
            connection = self.GetConnection()
            answer = self._exchange(connection, text)
        cookie = answer.fields.get(b"set-cookie")
        if cookie:
            self.cookie = cookie.decode("latin-1")
        if answer.status not in (200, 500):
            self._discard(connection)
            raise http.client.HTTPException(f"{answer.status} {answer.reason}")
        try:
            result = SoapResponseDeserializer(self).Deserialize(
                io.BytesIO(answer.body), info.result
            )
        except BaseException as exc:
            self._discard(connection)
            fault = None
            if answer.status == 500 and isinstance(exc, Exception):
                fault = bare_fault(answer.body)
            if fault is None:
                raise
            raise fault from exc
        self.ReturnConnection(connection)
        if answer.status == 200:
            return result
        if not isinstance(result, Exception):
            raise http.client.HTTPException("500 without a fault")
        raise result

    def _text(self, mo: ManagedObject, info: Method, args: Sequence[object]) -> bytes:
        """The request's body. Of the call that opens a console it is made once, but for the VM.

        A slot is left for its id; everything else is as pyvmomi wrote it.
        """
        if info.name not in _REPEATED:
            return cast("bytes", self.SerializeRequest(mo, info, args))
        key = (self.version, info.name, *args)
        parts = self._texts.get(key)
        if parts is None:
            whole: bytes = self.SerializeRequest(self.vm(_SLOT), info, args)
            before, _, after = whole.partition(_SLOT.encode("ascii"))
            parts = self._texts[key] = before, after
        return parts[0] + escape(mo._moId).encode() + parts[1]

    def _exchange(self, connection: HTTPSConnection, text: bytes) -> Answer:
        if (self.cookie, self.versionId) != self._head_for:
            self._head_for = (self.cookie, self.versionId)
            self._head = (
                f"POST {self.path} HTTP/1.1\r\nHost: {self.host}\r\n"
                f"Content-Type: text/xml; charset=UTF-8\r\nSOAPAction: {self.versionId}\r\n"
                f"User-Agent: {_USER_AGENT}\r\nAccept-Encoding: identity\r\n"
                f"Cookie: {self.cookie}\r\nContent-Length: "
            ).encode("latin-1")
        try:
            return connection.exchange(self._head + b"%d\r\n\r\n" % len(text), text)
        except (OSError, http.client.HTTPException):
            self._discard(connection)
            raise

    def _discard(self, connection: HTTPSConnection) -> None:
        """The server is not well, or no server of ours: no kept connection is trusted any more."""
        connection.close()
        self.DropConnections()


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
