"""Byte transports for the relay: a non-blocking socket, with or without TLS, and nothing else.

The relay calls them from event loop callbacks, so no call blocks. What the kernel would not take at
once is copied and kept until :meth:`flush`; while something is kept the relay does not read from
the other side, so a transport keeps at most what one read brings.

All transports of a process read into the same buffers: a callback uses up what it read before it
returns, and an idle session then costs no buffer at all.
"""

from __future__ import annotations

import _socket  # the C socket: gevent's and the standard library's wrappers cost memory and time
import contextlib
import io
import ssl
from typing import Any, Final, Protocol

import gevent
import gevent.socket

__all__ = ["BUFFER_SIZE", "ROOM", "PlainTransport", "TLSStream", "TLSTransport", "Transport"]

import os as _os

BUFFER_SIZE: Final = int(_os.environ.get("MKS_BUF", "256")) * 1024
"""Bytes read at once; fewer, larger system calls are what makes bulk cheap."""

_RECORD: Final = 16 * 1024

ROOM: Final = BUFFER_SIZE + 2 * _RECORD
"""Size of the buffer that all transports of a process receive into."""

# OpenSSL's memory BIO grows to what is put into it at once and never shrinks; half as much at once
# measures no slower.
_AT_ONCE: Final = 4 * _RECORD
_ciphertext = memoryview(bytearray(BUFFER_SIZE // 2))


class Transport(Protocol):
    """What the relay needs of a connection.

    :ivar fd: the file descriptor, to watch.
    :ivar ended: the peer said in so many words that nothing more comes (TLS close_notify).
    """

    fd: int
    ended: bool

    def receive(self, buffer: memoryview, limit: int = BUFFER_SIZE) -> int:
        """Read into *buffer*.

        :param buffer: of :data:`ROOM` bytes, so that all that one read brings fits in.
        :param limit: bytes to read from the socket at most.
        :returns: number of bytes; 0 when the peer closed; -1 when nothing is there yet.
        :raises OSError: the connection is lost; ssl.SSLError when TLS is broken.
        """
        ...

    def send(self, data: bytes | memoryview) -> bool:
        """Send *data*, all of it, now or later.

        :returns: whether the kernel has all of it; else :meth:`flush` has to be called.
        :raises OSError: the connection is lost.
        """
        ...

    def flush(self) -> bool:
        """Send what is kept; returns and raises as :meth:`send` does."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes kept."""
        ...

    def close(self) -> None:
        """Say goodbye as far as that does not block, and close the socket."""
        ...


class PlainTransport:
    """TCP as it is.

    :param sock: a connected, non-blocking socket of any make; it is detached and must not be used
        any more.
    """

    __slots__ = ("_sock", "_unsent", "fd")

    ended = False

    def __init__(self, sock: Any) -> None:
        self._sock = _detach(sock)
        self.fd = self._sock.fileno()
        self._unsent: memoryview | None = None

    def receive(self, buffer: memoryview, limit: int = BUFFER_SIZE) -> int:
        """See :class:`Transport`."""
        try:
            return self._sock.recv_into(buffer, limit)
        except BlockingIOError:
            return -1

    def send(self, data: bytes | memoryview) -> bool:
        """See :class:`Transport`."""
        if self._unsent is not None:
            self._unsent = memoryview(b"".join((self._unsent, data)))
            return False
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self._unsent = memoryview(bytes(memoryview(data)[sent:]))
        return False

    def flush(self) -> bool:
        """See :class:`Transport`."""
        if self._unsent is None:
            return True
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return False
        if sent == len(self._unsent):
            self._unsent = None
            return True
        self._unsent = self._unsent[sent:]
        return False

    @property
    def unsent(self) -> int:
        """See :class:`Transport`."""
        return 0 if self._unsent is None else len(self._unsent)

    def close(self) -> None:
        """See :class:`Transport`."""
        self.fd = -1
        self._unsent = None
        with contextlib.suppress(OSError):  # the peer was faster
            self._sock.shutdown(_socket.SHUT_WR)
        self._sock.close()


class TLSTransport(PlainTransport):
    """TLS through memory BIOs: one large read from the socket, then as many records as it held.

    :param sock: as for :class:`PlainTransport`.
    :param tls: an object of ``SSLContext.wrap_bio`` whose handshake is done.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls", "ended")

    def __init__(
        self, sock: Any, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        super().__init__(sock)
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self.ended = False

    def receive(self, buffer: memoryview, limit: int = BUFFER_SIZE) -> int:
        """See :class:`Transport`."""
        incoming = self._incoming
        try:
            size = self._sock.recv_into(_ciphertext, min(limit, len(_ciphertext)))
        except BlockingIOError:
            return -1
        if not size:
            if self.ended:
                return 0
            # Without a close_notify somebody on the way may have cut the stream short.
            raise ConnectionAbortedError("TLS connection cut off")
        incoming.write(_ciphertext[:size])
        return self.decrypt(buffer)

    def decrypt(self, buffer: memoryview) -> int:
        """Decrypt what was received; the result is that of :meth:`receive`."""
        read = self._tls.read
        incoming = self._incoming
        total = 0
        try:
            while True:
                # One record at most; OpenSSL keeps nothing when there is room for a whole one.
                size = read(_RECORD, buffer[total:])
                if not size:
                    self.ended = True
                    break
                total += size  # type: ignore[operator]
                if not incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        if self._outgoing.pending:
            self._push()  # an answer of TLS itself, to a key update
        return total or (0 if self.ended else -1)

    def send(self, data: bytes | memoryview) -> bool:
        """See :class:`Transport`."""
        write = self._tls.write
        size = len(data)
        sent = write(data)
        if sent == size:
            return self._push()
        view = memoryview(data)
        drained = True
        while sent < size:
            # A few records at a time: the outgoing BIO grows to what it holds and never shrinks.
            until = min(size, sent + _AT_ONCE)
            while sent < until:
                sent += write(view[sent:until])
            drained = self._push()
        return drained

    def close(self) -> None:
        """See :class:`Transport`."""
        # Wants to read the peer's close_notify, for which nobody waits.
        with contextlib.suppress(OSError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            if self._outgoing.pending:
                self._push()
        super().close()

    def _push(self) -> bool:
        return PlainTransport.send(self, self._outgoing.read())


class TLSStream:
    """The same TLS for a greenlet, while there is a handshake and a request to read.

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
        return TLSTransport(self._sock, self.tls, self._incoming, self._outgoing)

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

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())

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


def _detach(sock: Any) -> _socket.socket:
    """The C socket over the same descriptor, non-blocking."""
    plain = _socket.socket(sock.family, sock.type & 0xF, sock.proto, sock.detach())
    plain.setblocking(False)
    if plain.family != _socket.AF_UNIX:
        # A key press must not wait for the acknowledgement of the one before.
        plain.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return plain
