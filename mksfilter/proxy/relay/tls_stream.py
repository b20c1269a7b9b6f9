"""TLS for a greenlet: the handshakes and requests before the relay takes a connection over."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

import gevent.socket

from mksfilter import tcp
from mksfilter.proxy.relay.tls_buffers import shared_buffers
from mksfilter.proxy.relay.transport import (
    RecordFollower,
    TLSTransport,
    release_handshake,
)

__all__ = ["TLSStream"]

_RECORD: Final = 16 * 1024
_Result = TypeVar("_Result")


class TLSStream:
    """A TLS connection to a console host, each call of which waits in its greenlet.

    :meth:`detach_transport` then hands the connection over to the relay, which a socket of
    :mod:`ssl` does not allow.

    OpenSSL's buffers are all connections' (see :mod:`.tls_buffers`), so each call of it goes
    through :meth:`_call`.

    :param sock: a connected gevent socket; its time-out bounds each wait.
    :param context: a client's context.
    :param server_hostname: sent as SNI, and what the certificate is compared with.
    :param session: an earlier TLS session of *context* to resume.
    :ivar tls: the :class:`ssl.SSLObject`.
    """

    def __init__(
        self,
        sock: gevent.socket.socket,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._sock = sock
        self._buffers = shared_buffers()
        self._received: bytes = b""  # and not given to OpenSSL
        self._unsent: bytes = b""
        self.tls = context.wrap_bio(
            self._buffers.incoming,
            self._buffers.outgoing,
            server_hostname=server_hostname,
            session=session,
        )
        self._records = RecordFollower()

    def do_handshake(self) -> None:
        """TLS's handshake; its duration is bounded by the caller.

        :raises OSError: the connection is lost; ssl.SSLError when the peers do not agree.
        """
        while True:
            try:
                self._call(self.tls.do_handshake)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                self._flush_quietly()  # the alert that tells the peer why
                raise
            else:
                return  # a client's last flight travels with its request, which follows at once

    def recv(self, size: int = _RECORD) -> bytes:
        """At most *size* bytes; empty at the end, which has to be told by close_notify.

        :raises OSError: the connection is lost or cut off.
        """
        # Where nothing waits OpenSSL would say so, by an exception that takes longer than a read.
        if not (self._received or self.tls.pending()):
            self._flush()
            self._fill()
        while True:
            try:
                data = self._call(self.tls.read, size)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""
            else:
                return data

    def sendall(self, data: bytes) -> None:
        """Send all of *data*, waiting as long as it takes.

        :raises OSError: the connection is lost.
        """
        view = memoryview(data)
        while view:
            view = view[self._call(self.tls.write, view) :]
        self._flush()

    def detach_transport(self) -> TLSTransport:
        """The connection as a transport; this object is of no use afterwards.

        What :meth:`unread` would give is not seen before the peer says more.
        """
        self._call(release_handshake, self.tls)
        return TLSTransport(self._sock, self.tls, self._buffers, self._records, self._received)

    def detach_socket(self) -> gevent.socket.socket:
        """The raw socket, for a second TLS layer that follows this one instead of nesting in it.

        :raises ConnectionError: bytes of the next layer were read already; the peer spoke out of
            turn.
        """
        if self._received:
            raise ConnectionError("bytes followed the last TLS record")
        return self._sock

    def unread(self) -> bytes:
        """What was received and decrypts without another read: what followed what was asked for."""
        data = b""
        while self._received or self.tls.pending():
            try:
                more = self._call(self.tls.read, _RECORD)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return data
            if not more:
                return data
            data += more
        return data

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The peer's certificate, as :meth:`ssl.SSLObject.getpeercert` has it."""
        return self.tls.getpeercert(binary_form)

    def _call(self, function: Callable[..., _Result], *args: object) -> _Result:
        """Call OpenSSL with what was received, and keep what it leaves and what it has to say.

        Nothing here gives way to another greenlet.
        """
        buffers = self._buffers
        try:
            if self._received:
                received, self._received = self._received, b""
                buffers.incoming.write(received)
            return function(*args)
        finally:
            if buffers.incoming.pending:
                self._received = buffers.incoming.read()
            if buffers.outgoing.pending:
                self._unsent += buffers.outgoing.read()

    def _fill(self) -> None:
        data = self._sock.recv(_RECORD)
        if not data:
            raise ConnectionAbortedError("TLS connection cut off")
        self._received += data
        self._records.follow_all(memoryview(data))

    def _flush(self) -> None:
        if self._unsent:
            data, self._unsent = self._unsent, b""
            tcp.send_all(self._sock, data)

    def _flush_quietly(self) -> None:
        with contextlib.suppress(OSError):
            if self._unsent:
                self._sock.settimeout(0)
                self._sock.send(self._unsent)
