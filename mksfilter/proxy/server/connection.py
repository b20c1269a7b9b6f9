"""One connection from a browser, plain or TLS, from its acceptance until it is closed or handed
over to a relay.

What is sent is queued, and leaves as fast as the peer takes it: nobody waits in a greenlet for a
peer that does not read. The body of a static file is queued as the one object that all answers
share, encrypted piece by piece, and the kernel is given little of it at a time, so that such a peer
costs next to nothing.

TLS runs over :class:`ssl.MemoryBIO` and not in gevent's SSLSocket, so that waiting for a client
needs no greenlet and the relay can take the connection over as it stands.
"""

from __future__ import annotations

import _socket  # the C socket: gevent's wrapper watches the hub, and none of it is wanted here
import contextlib
import ssl
import time
from io import BytesIO
from socket import socket
from typing import Any

from gevent.socket import wait_write

from mksfilter.proxy.relay.tls_buffers import shared_buffers
from mksfilter.proxy.relay.transport import PlainTransport, TLSTransport, Transport
from mksfilter.proxy.server import proxy_protocol

__all__ = ["Address", "Connection", "TLSState"]

#: As ``accept`` returns it: host and port first, or the name of a Unix socket, often empty.
Address = tuple[Any, ...] | str | bytes

_CHUNK = 16384
#: Bytes encrypted at once.
_ENCRYPTED = 65536
#: Bytes queued before whoever writes more waits for the peer. No answer of ours is as long.
_MOST_QUEUED = 4 << 20
#: Bytes of a long answer that the kernel holds beyond what the peer's window has room for (tcp(7)).
_UNSENT_IN_KERNEL = 16384
#: Buffers in one call of sendmsg; far below IOV_MAX.
_PARTS = 64


class TLSState:
    """The server's end of a TLS connection, over the buffers that all connections share.

    Both are empty whenever nobody is in one of :class:`Connection`'s methods (see
    :mod:`mksfilter.proxy.relay.tls_buffers`).
    """

    __slots__ = ("buffers", "ready", "sslobj")

    def __init__(self, context: ssl.SSLContext) -> None:
        buffers = self.buffers = shared_buffers()
        self.sslobj = context.wrap_bio(buffers.incoming, buffers.outgoing, server_side=True)
        self.ready = False


class Connection:
    """What pywsgi's handler knows as its socket.

    :ivar address: the peer, as ``accept`` returned it.
    :ivar arrived: bytes that came since somebody set it to 0, those of TLS and PROXY included: what
        a peer can make us keep, as long as nothing of it is complete.
    :ivar received: bytes that have arrived and that nobody has read yet.
    """

    __slots__ = (
        "_encrypted",
        "_preface",
        "_queue",
        "_queued",
        "_sock",
        "_write_timeout",
        "address",
        "arrived",
        "received",
        "tls",
    )

    def __init__(
        self,
        sock: socket,
        address: Address,
        context: ssl.SSLContext | None,
        *,
        write_timeout: float,
        proxy_header: bool = False,
    ) -> None:
        """
        :param sock: connected, of any make; it is detached and must not be used any more.
        :param write_timeout: seconds for the peer to take a part of an answer without end.
        :param proxy_header: a PROXY protocol header comes first, and says who the client is.
        """
        self._sock = _socket.socket(fileno=sock.detach())
        self._sock.setblocking(False)
        self._write_timeout = write_timeout
        self._preface = bytearray() if proxy_header else None
        self._queue: list[memoryview] | None = None
        self._queued = 0
        self._encrypted = b""
        self.address = address
        self.arrived = 0
        self.received = bytearray()
        self.tls = None if context is None else TLSState(context)

    def __repr__(self) -> str:
        return f"<connection from {self.address!r}>"

    def fileno(self) -> int:
        """The file descriptor, -1 once closed or handed over."""
        return self._sock.fileno()

    def pull(self) -> bool:
        """Read what there is, without blocking, into ``received``.

        :returns: False when the peer has closed.
        :raises OSError: the connection failed, or the peer does not speak TLS where it has to.
        :raises ProxyHeaderError: it does not begin with a PROXY header where it has to.
        """
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return True
        self.arrived += len(data)
        if self._preface is not None and data:
            data = self._strip_preface(data)
            if not data:
                return True
        if self.tls is None:
            self.received += data
            return bool(data)
        return bool(data) and self._decrypt(self.tls, data)

    def _strip_preface(self, data: bytes) -> bytes:
        """What follows the PROXY header; nothing while it is incomplete."""
        assert self._preface is not None
        self._preface += data
        header = proxy_protocol.parse(self._preface)
        if header is None:
            return b""
        rest = bytes(self._preface[header.size :])
        self.address = header.source or self.address
        self._preface = None
        return rest

    def _decrypt(self, tls: TLSState, data: bytes) -> bool:
        buffers = tls.buffers
        try:
            buffers.incoming.write(data)
            if not tls.ready:
                tls.sslobj.do_handshake()
                tls.ready = True
            while True:
                data = tls.sslobj.read(_CHUNK)
                if not data:
                    return False
                self.received += data
        except ssl.SSLWantReadError:
            return True
        except ssl.SSLZeroReturnError:
            return False
        finally:
            if buffers.incoming.pending:  # it follows the end, or an error
                buffers.incoming.read()
            self._flush_unblocked(tls)

    def _flush_unblocked(self, tls: TLSState) -> None:
        # A handshake's answers fit into an empty socket buffer; a peer whose buffer they do not
        # fit into has been writing without reading, and loses its connection.
        data = tls.buffers.outgoing.read()
        if data and self._sock.send(data) != len(data):
            raise ConnectionAbortedError("the peer does not read")

    def sendall(self, data: bytes | bytearray) -> None:
        """Queue *data*, which :meth:`flush` sends. Waits only where an application writes without
        end and the peer does not keep up.

        :param data: not copied when it is bytes.
        :raises OSError: that peer is gone, or has not read for as long as the write timeout.
        """
        if self._queue is None:
            self._queue = []
        self._queue.append(memoryview(data if isinstance(data, bytes) else bytes(data)))
        self._queued += len(data)
        if self._queued > _UNSENT_IN_KERNEL and self._sock.family != _socket.AF_UNIX:
            self._sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NOTSENT_LOWAT, _UNSENT_IN_KERNEL)
        deadline = time.monotonic() + self._write_timeout
        while self._queued > _MOST_QUEUED and not self.flush():
            wait_write(
                self._sock.fileno(),
                max(0.0, deadline - time.monotonic()),
                TimeoutError("the peer does not read"),
            )

    def flush(self) -> bool:
        """Send what is queued as far as the peer takes it, without blocking.

        :returns: whether all of it is sent.
        :raises OSError: the peer is gone.
        """
        while self._encrypted or self._queue:
            try:
                if self.tls is None:
                    assert self._queue is not None
                    self._unqueue(self._sock.sendmsg(self._queue[:_PARTS]))
                else:
                    if not self._encrypted:
                        self._encrypted = self._encrypt(self.tls)
                    self._encrypted = self._encrypted[self._sock.send(self._encrypted) :]
            except (BlockingIOError, InterruptedError):
                return False
        self._queue = None
        return True

    def _encrypt(self, tls: TLSState) -> bytes:
        """The next part of the queue as TLS records."""
        assert self._queue is not None
        room = _ENCRYPTED
        encrypted = b""
        try:
            while self._queue and room > 0:
                part = self._queue[0][:room]
                written = tls.sslobj.write(part)
                self._unqueue(written)
                room -= written
        finally:
            encrypted = tls.buffers.outgoing.read()
        return encrypted

    def _unqueue(self, size: int) -> None:
        assert self._queue is not None
        self._queued -= size
        while size:
            part = self._queue[0]
            if size < len(part):
                self._queue[0] = part[size:]
                return
            size -= len(part)
            del self._queue[0]

    def makefile(self, *_args: object) -> BytesIO:
        """No request of ours has a body; pywsgi asks for a file nonetheless."""
        return BytesIO()

    def finish(self) -> None:
        """Say that nothing more is coming; the peer may still be sending."""
        with contextlib.suppress(OSError):
            if self.tls is not None and self.tls.ready:
                with contextlib.suppress(ssl.SSLError):
                    self.tls.sslobj.unwrap()
                self._flush_unblocked(self.tls)
            self._sock.shutdown(_socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket, unless it was handed over."""
        self._sock.close()

    def to_transport(self) -> Transport:
        """Hand the connection over to a relay, as it stands; this object is then closed.

        :raises ConnectionAbortedError: the peer has not taken what it was sent.
        """
        if not self.flush():
            raise ConnectionAbortedError("the peer does not read")
        if self.tls is None:
            return PlainTransport(self._sock)
        return TLSTransport(self._sock, self.tls.sslobj, self.tls.buffers)
