"""TLS for a greenlet: the handshakes and requests before the relay takes a connection over."""

from __future__ import annotations

import contextlib
import io
import ssl
from typing import Any, Final

import gevent.socket

from mksfilter.proxy.relay.transport import RecordFollower, TLSTransport, send_all

__all__ = ["TLSStream"]

_RECORD: Final = 16 * 1024


class TLSStream:
    """A TLS connection with the calls of a socket that blocks its greenlet.

    It has what gevent's and gunicorn's servers ask of a socket; :meth:`detach_transport` then hands
    the connection over to the relay, which a socket of :mod:`ssl` does not allow.

    :param sock: a connected gevent socket.
    :param context: a client's or a server's context.
    """

    def __init__(
        self,
        sock: gevent.socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        self._server_side = server_side
        self._records = RecordFollower()

    def do_handshake(self) -> None:
        """Shake hands; bounded by the caller.

        :raises OSError: the connection is lost; ssl.SSLError when the peers do not agree.
        """
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                self._flush_quietly()  # the alert that tells the peer why
                raise
            else:
                # A client's last flight travels with its request, which follows at once.
                if self._server_side:
                    self._flush()
                return

    def recv(self, size: int = _RECORD) -> bytes:
        """At most *size* bytes; empty at the end, which has to be told by close_notify.

        :raises OSError: the connection is lost or cut off.
        """
        while True:
            try:
                data = self.tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""
            else:
                return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # noqa: ARG002
        """As :meth:`recv`, into *buffer*."""
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view))
        view[: len(data)] = data
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:  # noqa: ARG002
        """Send all of *data*, waiting as long as it takes."""
        view = memoryview(data).cast("B")
        while view:
            view = view[self.tls.write(view) :]
        self._flush()

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ARG002
        """As :meth:`sendall`; returns the number of bytes."""
        self.sendall(data)
        return len(data)

    def detach_transport(self) -> TLSTransport:
        """The connection as a transport; this object is of no use afterwards."""
        return TLSTransport(self._sock, self.tls, self._incoming, self._outgoing, self._records)

    def detach_socket(self) -> gevent.socket.socket:
        """The raw socket, for a second TLS layer that follows this one instead of nesting in it.

        :raises ConnectionError: bytes of the next layer were read already; the peer spoke out of
            turn.
        """
        if self._incoming.pending:
            raise ConnectionError("bytes followed the last TLS record")
        return self._sock

    def unread(self) -> bytes:
        """What was received and decrypts without another read: what followed what was asked for."""
        data = b""
        while True:
            try:
                more = self.tls.read(_RECORD)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return data
            if not more:
                return data
            data += more

    # What servers ask of a socket.

    def makefile(self, mode: str = "r", buffering: int | None = None, **_: Any) -> Any:
        """A binary file object, for servers that read requests with one."""
        raw = _StreamIO(self, mode)
        if buffering == 0:
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
        return io.BufferedReader(raw, size) if "r" in mode else io.BufferedWriter(raw, size)

    def fileno(self) -> int:
        """The file descriptor; -1 when closed or handed over."""
        return int(self._sock.fileno())

    def getpeername(self) -> Any:
        """The peer's address."""
        return self._sock.getpeername()

    def getsockname(self) -> Any:
        """Our address."""
        return self._sock.getsockname()

    def setsockopt(self, *args: Any) -> None:
        """Pass an option to the socket."""
        self._sock.setsockopt(*args)

    def settimeout(self, timeout: float | None) -> None:
        """Bound each wait."""
        self._sock.settimeout(timeout)

    def gettimeout(self) -> float | None:
        """What bounds each wait."""
        timeout: float | None = self._sock.gettimeout()
        return timeout

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The peer's certificate, as :meth:`ssl.SSLObject.getpeercert` has it."""
        return self.tls.getpeercert(binary_form)

    def shutdown(self, how: int) -> None:
        """Shut the socket down."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """Say goodbye as far as that does not block, and close."""
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError, ValueError):
                self.tls.unwrap()
            self._flush_quietly()
        self._sock.close()

    def _fill(self) -> None:
        data = self._sock.recv(_RECORD)
        if not data:
            raise ConnectionAbortedError("TLS connection cut off")
        self._incoming.write(data)
        view, position = memoryview(data), 0
        while position < len(data):
            position = self._records.follow(view, position)

    def _flush(self) -> None:
        if self._outgoing.pending:
            send_all(self._sock, self._outgoing.read())

    def _flush_quietly(self) -> None:
        with contextlib.suppress(OSError):
            if self._outgoing.pending:
                self._sock.settimeout(0)
                self._sock.send(self._outgoing.read())


class _StreamIO(io.RawIOBase):
    def __init__(self, stream: TLSStream, mode: str) -> None:
        self._stream = stream
        self._mode = mode

    def readable(self) -> bool:
        return "r" in self._mode

    def writable(self) -> bool:
        return "w" in self._mode

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)

    def write(self, data: Any) -> int:
        return self._stream.send(data)
