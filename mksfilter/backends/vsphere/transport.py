"""HTTPS connections to a vCenter that another thread can end, and pyvmomi's adapter on them."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Final

from pyVmomi import SoapStubAdapter

from mksfilter.config import VCenterSettings

__all__ = ["Adapter", "HTTPSConnection"]

# vCenter closes idle connections in its own time; ours are closed well before.
_IDLE_CONNECTION_SECONDS: Final = 55


class HTTPSConnection(http.client.HTTPSConnection):
    """Can be shut down by another thread from the first byte of the TLS handshake on."""

    uses = 0
    certificate: bytes | None = None
    announce: Callable[[HTTPSConnection], None] = staticmethod(lambda _connection: None)
    _handle: socket.socket | None = None
    _unsent: list[bytes] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A descriptor must not be closed, and used again by another socket, while it is shut down.
        self._handle_lock = threading.Lock()

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Head and body leave in one TLS record and one packet."""
        self._unsent = []
        try:
            super().request(*args, **kwargs)
            data = b"".join(self._unsent)
        finally:
            self._unsent = None
        self.send(data)

    def send(self, data: Any) -> None:
        if self._unsent is not None:
            self._unsent.append(data)
        else:
            super().send(data)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        # A duplicate of the descriptor: the TLS layer takes the original away, and shutting a
        # duplicate down shuts down the connection.
        self._handle = self.sock.dup()
        self.announce(self)
        try:
            self.sock = self._context.wrap_socket(  # type: ignore[attr-defined]
                self.sock, server_hostname=self.host
            )
        except BaseException:
            self.close()
            raise
        self.certificate = self.sock.getpeercert(True)

    def abort(self) -> None:
        with self._handle_lock, contextlib.suppress(OSError):
            if self._handle is not None:
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        super().close()
        with self._handle_lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None


class Adapter(SoapStubAdapter):  # type: ignore[misc]
    """pyvmomi's adapter on our connections; a kept connection that went stale is replaced once."""

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
        self.schemeArgs: dict[str, Any] = {}

    def GetConnection(self) -> Any:
        connection = super().GetConnection()
        connection.uses += 1
        self._local.connection = connection
        connection.announce(connection)
        return connection

    def InvokeMethod(self, mo: Any, info: Any, args: Any, outerStub: Any = None) -> Any:
        self._local.connection = None
        try:
            return super().InvokeMethod(mo, info, args, outerStub)
        except (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError):
            used = self._local.connection
            if used is None or used.uses < 2:
                raise
        return super().InvokeMethod(mo, info, args, outerStub)
