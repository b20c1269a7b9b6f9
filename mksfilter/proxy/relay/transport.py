"""Byte transports for the relay: a non-blocking socket, with or without TLS, and nothing else.

The relay calls them from event loop callbacks, so no call blocks. What the kernel would not take at
once is copied and kept until :meth:`flush`; while something is kept the relay does not read from
the other side, so a transport keeps at most what one read brings.

All transports of a process read into the same buffers: a callback uses up what it read before it
returns, and an idle session then costs no buffer at all.
"""

from __future__ import annotations

# A private name of the standard library: the C socket, since gevent's wrapper and its own cost
# memory and time.
import _socket
import dataclasses
import ssl
import struct
from typing import Any, Final, Literal, Protocol

from mksfilter import tcp
from mksfilter.proxy.relay.options import BUFFER_SIZE
from mksfilter.proxy.relay.tls_buffers import TLSBuffers

__all__ = [
    "ROOM",
    "PlainTransport",
    "RecordFollower",
    "TLSTransport",
    "Transport",
    "Upstream",
    "release_handshake",
]

_RECORD: Final = 16 * 1024
_APPLICATION_DATA: Final = 23  # RFC 8446 section 5.1

ROOM: Final = BUFFER_SIZE + 2 * _RECORD
"""Size of the buffer that all transports of a process receive into."""

_MOST_UNSENT: Final = 2 * ROOM
"""Bytes kept for a peer before TLS may answer it no more; without answers it is half of that."""

_ciphertext = memoryview(bytearray(BUFFER_SIZE))
_record_header = struct.Struct("!BxxH").unpack_from


class Transport(Protocol):
    """What the relay needs of a connection.

    :ivar ended: the peer said in so many words that nothing more comes (TLS close_notify).
    :ivar unusual: a read brought more than data, now or earlier: ``ended``, or an answer of TLS
        itself that the kernel did not take (``unsent``), so that :meth:`flush` has to be called.
    """

    ended: bool
    unusual: bool

    @property
    def fd(self) -> int:
        """The file descriptor, to watch; -1 once closed."""
        ...

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

    def watch_peer(self, seconds: int, *, unread: float = 0) -> None:
        """See :func:`mksfilter.tcp.watch_peer`."""
        ...

    def close(self) -> None:
        """Send close_notify as far as that does not block, and close the socket."""
        ...


class PlainTransport:
    """TCP as it is.

    :param sock: a connected, non-blocking socket of any make; it is detached and must not be used
        any more.
    """

    __slots__ = ("_sock", "_unsent")

    ended = False
    unusual = False

    def __init__(self, sock: Any) -> None:
        self._sock = _detach(sock)
        self._unsent: memoryview | None = None

    @property
    def fd(self) -> int:
        """See :class:`Transport`."""
        return self._sock.fileno()

    def receive(self, buffer: memoryview, limit: int = BUFFER_SIZE) -> int:
        """See :class:`Transport`."""
        try:
            return self._sock.recv_into(buffer, limit)
        except BlockingIOError:
            return -1

    def send(self, data: bytes | memoryview) -> bool:
        """See :class:`Transport`."""
        if self._unsent is not None:
            return self._keep(data)
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        return self._keep(memoryview(data)[sent:])

    def _keep(self, data: bytes | memoryview) -> bool:
        self._unsent = memoryview(b"".join((self._unsent or b"", data)))
        return False

    def _send_all(self, parts: list[bytes]) -> bool:
        """Send *parts* one behind the other, in one system call."""
        if self._unsent is not None:
            return self._keep(b"".join(parts))
        try:
            sent = self._sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        for number, part in enumerate(parts):
            if sent < len(part):
                return self._keep(b"".join([part[sent:], *parts[number + 1 :]]))
            sent -= len(part)
        return True

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

    def watch_peer(self, seconds: int, *, unread: float = 0) -> None:
        """See :class:`Transport`."""
        try:  # noqa: SIM105
            tcp.watch_peer(self._sock, seconds, unread=unread)
        except OSError:  # the connection is lost, as reading will tell
            pass

    def close(self) -> None:
        """See :class:`Transport`."""
        self._unsent = None
        try:  # noqa: SIM105
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:  # the peer was faster
            pass
        self._sock.close()


@dataclasses.dataclass
class Upstream:
    """A console host that is ready to talk.

    :param transport: for the relay.
    :param early: bytes that followed its handshake.
    :param framing: ``websocket``, or ``bytes`` for a stream without messages.
    """

    transport: Transport
    early: bytes
    framing: Literal["websocket", "bytes"]

    def close(self) -> None:
        """For a session that does not come about."""
        self.transport.close()


class RecordFollower:
    """Where TLS records end in a stream of them (RFC 8446 section 5.1).

    OpenSSL tells that a record is not whole yet by an exception, which costs as much as decrypting
    a short one. A reader that follows the records asks only for whole ones, and can give them to
    OpenSSL one at a time, so that its buffer for what was received stays small and warm.

    :ivar missing: bytes of the present record that have not come; 0 between two records, and
        :data:`LOST` when the stream was not followed from its start.
    :ivar head: what has come of a header that is not whole; else empty.
    """

    __slots__ = ("head", "missing")

    LOST = -1

    def __init__(self) -> None:
        self.missing = 0
        self.head = b""

    def follow(self, data: memoryview, position: int) -> int:
        """The place in *data* where the record that goes on at *position* ends, or the end of
        *data* when more of it is to come."""
        size = len(data)
        if not self.missing:
            if self.head or size - position < 5:
                return self._begin(data, position)
            kind, length = _record_header(data, position)
            if kind & 0xFC != 0x14:  # 20 to 23
                self.missing = self.LOST  # not TLS; OpenSSL will say so
                return size
            self.missing = length + 5
        end = position + self.missing
        if end > size:
            self.missing = end - size
            return size
        self.missing = 0
        return end

    def follow_all(self, data: memoryview) -> None:
        """Follow *data* to its end, for a reader that leaves the records to OpenSSL."""
        position, size = 0, len(data)
        if not self.missing and not self.head:
            # Whole records, as nearly all are.
            while size - position > 5:
                kind, length = _record_header(data, position)
                end = position + 5 + length
                if kind & 0xFC != 0x14 or end > size:
                    break
                position = end
        while position < size:
            position = self.follow(data, position)

    def _begin(self, data: memoryview, position: int) -> int:
        """The same for a record whose header comes in pieces."""
        wanted = 5 - len(self.head)
        self.head += bytes(data[position : position + wanted])
        if len(self.head) < 5:
            return len(data)
        head, self.head = self.head, b""
        kind, length = _record_header(head)
        if kind & 0xFC != 0x14:
            self.missing = self.LOST
            return len(data)
        if not length:
            return position + wanted
        self.missing = length
        return self.follow(data, position + wanted)


class TLSTransport(PlainTransport):
    """TLS through memory BIOs: one large read from the socket, then the records it held.

    The BIOs are all connections' (see :mod:`.tls_buffers`): whatever is put in is taken out again
    before a method ends, be it by an error.

    :param sock: as for :class:`PlainTransport`.
    :param tls: an object of ``SSLContext.wrap_bio`` with *buffers*, whose handshake is done.
    :param records: where the stream stands; None when it was not followed so far.
    :param rest: bytes that came and that OpenSSL has not been given.
    """

    __slots__ = ("_incoming", "_outgoing", "_records", "_rest", "_tls", "ended", "unusual")

    def __init__(
        self,
        sock: Any,
        tls: ssl.SSLObject,
        buffers: TLSBuffers,
        records: RecordFollower | None = None,
        rest: bytes = b"",
    ) -> None:
        super().__init__(sock)
        # A private name: SSLObject around it takes memory, and time at each key press.
        self._tls: Any = tls._sslobj  # type: ignore[attr-defined]
        self._incoming = buffers.incoming
        self._outgoing = buffers.outgoing
        self._records = records or RecordFollower()
        self._rest = bytearray(rest) if rest else None
        if records is None or rest:
            self._records.missing = RecordFollower.LOST
        self.ended = self.unusual = False

    def receive(self, buffer: memoryview, limit: int = BUFFER_SIZE) -> int:
        """See :class:`Transport`."""
        try:
            size = self._sock.recv_into(_ciphertext, limit)
        except BlockingIOError:
            return -1
        if not size:
            if self.ended:
                return 0
            # Without a close_notify the stream may have been cut short on the way (RFC 8446, 6.1).
            raise ConnectionAbortedError("TLS connection cut off")
        records = self._records
        if size > 5 and not records.missing and not records.head:
            kind, length = _record_header(_ciphertext)
            alone = kind == _APPLICATION_DATA and length + 5 == size
        else:
            alone = False
        try:
            if alone:
                # One record and nothing else, as a key press is and its answer.
                self._incoming.write(_ciphertext[:size])
                total = self._read_record(buffer)
            elif records.missing < 0:
                total = self._receive_unfollowed(buffer, _ciphertext[:size])
            else:
                total = self._receive_records(buffer, _ciphertext[:size])
        except BaseException:
            self._give_up()
            raise
        if self._outgoing.pending:
            self._answer()
        return total or (0 if self.ended else -1)

    def _read_record(self, buffer: memoryview) -> int:
        """Bytes of data in the record that OpenSSL was given."""
        try:
            size: int = self._tls.read(_RECORD, buffer)
        except ssl.SSLWantReadError:
            # TLS's own: a session ticket, a key update, or part of a header.
            release_handshake(self._tls)
            return 0
        if not size:
            self.ended = self.unusual = True
            self._incoming.read()  # after the end OpenSSL takes nothing more
        return size

    def _receive_records(self, buffer: memoryview, data: memoryview) -> int:
        records, put = self._records, self._incoming.write
        position = total = 0
        size = len(data)
        while position < size and not self.ended:
            end = records.follow(data, position)
            if records.missing > 0:
                self._keep_rest(data[position:end])
                break
            if self._rest is not None:
                put(self._rest)
                self._rest = None
            put(data[position:end])
            position = end
            total += self._read_record(buffer[total:])
        return total

    def _receive_unfollowed(self, buffer: memoryview, data: memoryview) -> int:
        incoming, read = self._incoming, self._tls.read
        if self._rest is not None:
            incoming.write(self._rest)
            self._rest = None
        incoming.write(data)
        total = 0
        try:
            while True:
                got = read(_RECORD, buffer[total:])
                if not got:
                    self.ended = self.unusual = True
                    incoming.read()  # what follows the end counts for nothing
                    break
                total += got
                if not incoming.pending:
                    # OpenSSL reads no further than the record it returns: here one ends.
                    self._records = RecordFollower()
                    break
        except ssl.SSLWantReadError:
            pass  # it has taken all, the beginning of a record included
        return total

    def _keep_rest(self, data: memoryview) -> None:
        """The beginning of a record, until the rest of it comes."""
        if self._rest is None:
            self._rest = bytearray(data)
        else:
            self._rest += data

    def send(self, data: bytes | memoryview) -> bool:
        """See :class:`Transport`."""
        write, outgoing = self._tls.write, self._outgoing
        size = len(data)
        try:
            sent = write(data)
            if sent == size:
                encrypted = None
            else:
                # Record by record, or the outgoing BIO would grow to the size of all.
                view = memoryview(data)
                encrypted = [outgoing.read()]
                while sent < size:
                    sent += write(view[sent:])
                    encrypted.append(outgoing.read())
        except BaseException:
            self._give_up()
            raise
        if encrypted is None:
            return PlainTransport.send(self, outgoing.read())
        return self._send_all(encrypted)

    def close(self) -> None:
        """See :class:`Transport`."""
        # contextlib.suppress is two calls more, each time a session ends.
        try:  # noqa: SIM105
            self._tls.shutdown()
        except OSError:  # wants to read the peer's close_notify, which is not waited for
            pass
        try:
            if self._outgoing.pending:
                self._push()
        except OSError:  # the peer was faster
            pass
        self._rest = None
        PlainTransport.close(self)

    def _answer(self) -> None:
        """Send what TLS itself answers, to a key update (RFC 8446 section 4.6.3) for example.

        A peer that asks and does not read what it gets is a slow reader like any other.
        """
        answer = self._outgoing.read()
        if self.unsent > _MOST_UNSENT:
            raise ConnectionAbortedError("TLS is asked for answers that nobody reads")
        if not PlainTransport.send(self, answer):
            self.unusual = True

    def _push(self) -> bool:
        return PlainTransport.send(self, self._outgoing.read())

    def _give_up(self) -> None:
        """TLS is broken: leave nothing of this connection in the buffers, and tell the peer why."""
        self._incoming.read()
        try:
            if self._outgoing.pending:
                self._push()
        except OSError:  # it has gone already
            pass


def release_handshake(tls: Any) -> None:
    """Have OpenSSL give back its buffer for messages of the handshake.

    One is made for a session ticket that comes after it (RFC 8446 section 4.6.1), 16 KiB, and is
    kept until something is written, which a user who only looks on never does. To write nothing is
    enough, and sends nothing (SSL_write_ex(3)).

    :param tls: an :class:`ssl.SSLObject`, or the object of ``_ssl`` in it.
    """
    tls.write(b"")


def _detach(sock: Any) -> _socket.socket:
    """The C socket over the same descriptor, non-blocking."""
    # What kind of socket it is the kernel is asked, which takes less than to ask gevent's wrapper.
    plain = _socket.socket(fileno=sock.detach())
    plain.setblocking(False)
    if plain.family != _socket.AF_UNIX:
        # A key press must not wait for the acknowledgement of the one before.
        plain.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return plain
