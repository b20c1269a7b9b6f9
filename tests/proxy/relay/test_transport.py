"""Transports over real sockets: TLS both ways, back-pressure, and how a connection ends."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import ssl
import struct

import gevent
import gevent.socket
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.proxy.relay.tls_buffers import shared_buffers
from mksfilter.proxy.relay.tls_stream import TLSStream
from mksfilter.proxy.relay.transport import ROOM, PlainTransport, RecordFollower, TLSTransport
from tests.support.certificates import SelfSigned
from tests.support.key_updates import KeyUpdates, client_secret
from tests.support.tls_stream import TLSServerStream

LIMIT = 10  # seconds for which a test waits


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return SelfSigned(tmp_path_factory.mktemp("transport"))


@pytest.fixture(params=["plain", "TLSv1.2", "TLSv1.3"])
def pair(request, certificate):
    """Two transports of one connection: a client's and a server's."""
    ends = gevent.socket.socketpair()
    if request.param == "plain":
        transports = [PlainTransport(end) for end in ends]
    else:
        transports = tls_pair(ends, certificate, request.param)
    yield transports
    for transport in transports:
        if transport.fd >= 0:
            transport.close()


def tls_pair(ends, certificate, version: str, *, key_log=None) -> list[TLSTransport]:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    if key_log is not None:
        client.keylog_filename = str(key_log)
    client.minimum_version = client.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    streams = [
        TLSStream(ends[0], client),
        TLSServerStream(ends[1], certificate.context()),
    ]

    def client_handshake():
        streams[0].do_handshake()
        # The client's last flight leaves with what it says first.
        streams[0].sendall(b"hello")

    handshakes = [gevent.spawn(client_handshake), gevent.spawn(streams[1].do_handshake)]
    gevent.joinall(handshakes, timeout=LIMIT, raise_error=True)
    assert streams[1].recv(5) == b"hello"
    assert streams[0].tls.version() == version
    return [stream.detach_transport() for stream in streams]


def read(transport, size: int) -> bytes:
    """Exactly *size* bytes, waiting for them."""
    buffer = memoryview(bytearray(ROOM))
    data = b""
    with gevent.Timeout(LIMIT):
        while len(data) < size:
            got = transport.receive(buffer)
            if got < 0:
                gevent.socket.wait_read(transport.fd)
                continue
            assert got, "the connection ended too early"
            data += buffer[:got]
    return data


def read_to_end(transport) -> None:
    buffer = memoryview(bytearray(ROOM))
    with gevent.Timeout(LIMIT):
        while not transport.ended and transport.receive(buffer):
            gevent.socket.wait_read(transport.fd)


def flush(transport) -> None:
    with gevent.Timeout(LIMIT):
        while not transport.flush():
            gevent.socket.wait_write(transport.fd)


def test_what_is_sent_arrives(pair):
    client, server = pair
    assert client.send(b"to the server")
    assert read(server, 13) == b"to the server"
    assert server.send(memoryview(b"to the client"))
    assert read(client, 13) == b"to the client"


def test_nothing_there_is_not_the_end(pair):
    assert pair[0].receive(memoryview(bytearray(ROOM))) == -1


@pytest.mark.parametrize("size", [1, 16384, 16385, 100_000, 280_000])
def test_sizes_around_those_of_tls_records(pair, size):
    payload = bytes(range(256)) * (size // 256 + 1)
    for sender, receiver in (pair, pair[::-1]):
        sending = gevent.spawn(lambda sender=sender: (sender.send(payload[:size]), flush(sender)))
        assert read(receiver, size) == payload[:size]
        sending.get(timeout=LIMIT)


def test_what_the_kernel_does_not_take_is_kept_in_order(pair):
    sender, receiver = pair
    sent = b""
    number = 0
    while sender.send(chunk := number.to_bytes(4, "big") * 10_000):
        sent += chunk
        number += 1
    sent += chunk
    assert 0 < sender.unsent < len(sent)
    assert not sender.send(b"and this")
    assert not sender.flush()
    sending = gevent.spawn(flush, sender)
    assert read(receiver, len(sent) + 8) == sent + b"and this"
    sending.get(timeout=LIMIT)
    assert sender.unsent == 0


def test_a_limit_bounds_what_one_call_reads(pair):
    sender, receiver = pair
    sender.send(bytes(100_000))
    gevent.sleep(0)
    gevent.socket.wait_read(receiver.fd, timeout=LIMIT)
    buffer = memoryview(bytearray(ROOM))
    # A record begun by an earlier read may be completed by this one.
    assert receiver.receive(buffer, 20_000) <= 20_000 + 16_384
    assert len(read(receiver, 40_000)) >= 40_000


def test_a_closed_connection_is_at_its_end(pair):
    client, server = pair
    client.send(b"last words")
    client.close()
    assert read(server, 10) == b"last words"
    read_to_end(server)


def test_tls_that_is_cut_off_is_lost_not_ended(certificate):
    ends = gevent.socket.socketpair()
    client, server = tls_pair(ends, certificate, "TLSv1.3")
    client.send(b"some")
    PlainTransport.close(client)
    assert read(server, 4) == b"some"
    with pytest.raises(ConnectionError):
        read_to_end(server)
    server.close()


def test_bytes_that_are_not_tls_are_an_error(certificate):
    ends = gevent.socket.socketpair()
    raw = ends[0].dup()
    _client, server = tls_pair(ends, certificate, "TLSv1.3")
    raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
    gevent.socket.wait_read(server.fd, timeout=LIMIT)
    with pytest.raises(ssl.SSLError):
        server.receive(memoryview(bytearray(ROOM)))


class TestSharedBuffers:
    """All connections of a thread have the same two: nobody finds bytes of another in them."""

    @pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
    def test_connections_that_stop_in_the_middle_of_records_get_what_is_theirs(
        self, certificate, version
    ):
        pairs = [tls_pair(gevent.socket.socketpair(), certificate, version) for _ in range(3)]
        sent = [bytes([number]) * 50_000 for number in range(3)]
        got = [b"", b"", b""]
        for (client, _), payload in zip(pairs, sent, strict=True):
            client.send(payload)
        buffer = memoryview(bytearray(ROOM))
        # Never a whole record, often not even a header; each of them between those of two others.
        limits = itertools.cycle([1, 3, 9, 700, 4001, 16_390])
        with gevent.Timeout(LIMIT):
            while got != sent:
                for number, (client, server) in enumerate(pairs):
                    client.flush()
                    size = server.receive(buffer, next(limits))
                    got[number] += bytes(buffer[: max(0, size)])
                    assert nothing_is_left()
                assert all(map(bytes.startswith, sent, got))
                gevent.sleep(0)
        for transport in itertools.chain(*pairs):
            transport.close()

    def test_handshakes_at_the_same_time(self, certificate):
        handshakes = [
            gevent.spawn(tls_pair, gevent.socket.socketpair(), certificate, "TLSv1.3")
            for _ in range(10)
        ]
        for number, handshake in enumerate(handshakes):
            client, server = handshake.get(timeout=LIMIT)
            client.send(str(number).encode())
            assert read(server, 1) == str(number).encode()
            assert nothing_is_left()

    @pytest.mark.parametrize("followed", [True, False])
    def test_a_record_that_is_forged_ends_its_connection_alone(self, certificate, followed):
        ends = gevent.socket.socketpair()
        raw = ends[0].dup()
        client, server = tls_pair(ends, certificate, "TLSv1.3")
        if not followed:
            server._records.missing = RecordFollower.LOST
        other = tls_pair(gevent.socket.socketpair(), certificate, "TLSv1.3")
        forged = struct.pack("!BHH", 23, 0x303, 40) + bytes(40)
        raw.sendall(forged * 3)
        gevent.socket.wait_read(server.fd, timeout=LIMIT)
        with pytest.raises(ssl.SSLError):
            server.receive(memoryview(bytearray(ROOM)))
        assert nothing_is_left()
        other[0].send(b"mine")
        assert read(other[1], 4) == b"mine"
        # Its peer is told why (RFC 8446 section 6.2).
        gevent.socket.wait_read(client.fd, timeout=LIMIT)
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            client.receive(memoryview(bytearray(ROOM)))
        assert nothing_is_left()

    @pytest.mark.parametrize("followed", [True, False])
    def test_what_follows_the_end_is_nobodys(self, certificate, followed):
        ends = gevent.socket.socketpair()
        raw = ends[0].dup()
        client, server = tls_pair(ends, certificate, "TLSv1.3")
        if not followed:
            server._records.missing = RecordFollower.LOST
        with contextlib.suppress(ssl.SSLWantReadError):
            client._tls.shutdown()
        raw.sendall(client._outgoing.read() + struct.pack("!BHH", 23, 0x303, 40) + bytes(40))
        read_to_end(server)
        assert nothing_is_left()
        raw.sendall(struct.pack("!BHH", 23, 0x303, 40) + bytes(40))
        assert server.receive(memoryview(bytearray(ROOM))) == 0
        assert nothing_is_left()

    def test_a_handshake_that_fails_leaves_nothing(self, certificate):
        ends = gevent.socket.socketpair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        stream = TLSStream(ends[0], context)
        ends[1].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            stream.do_handshake()
        assert nothing_is_left()

    def test_a_connection_that_has_moved_a_picture_keeps_no_buffer(self, certificate):
        """22 kB each way, with buffers of its own."""

        def connection():
            client, server = tls_pair(gevent.socket.socketpair(), certificate, "TLSv1.3")
            return client, server

        def move(client, server):
            sending = gevent.spawn(lambda: (client.send(bytes(200_000)), flush(client)))
            assert read(server, 200_000) == bytes(200_000)
            sending.get(timeout=LIMIT)

        kept = [connection() for _ in range(20)]
        move(*kept[0])
        before = allocated()
        for pair in kept[1:]:
            move(*pair)
        assert allocated() - before < 2048 * len(kept)


def nothing_is_left() -> bool:
    buffers = shared_buffers()
    return not (buffers.incoming.pending or buffers.outgoing.pending)


def test_closing_twice_and_after_the_peer_harms_nobody(pair):
    client, server = pair
    client.close()
    server.close()
    with contextlib.suppress(OSError):
        server.close()
    assert server.fd == -1


@given(
    st.lists(st.tuples(st.integers(20, 23), st.integers(0, 70)), max_size=8),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_records_are_followed_however_they_are_cut(records, cuts):
    stream = b"".join(
        struct.pack("!BHH", kind, 0x303, size) + bytes(size) for kind, size in records
    )
    ends, position = [], 0
    for _, size in records:
        position += 5 + size
        ends.append(position)
    follower, found = RecordFollower(), []
    skipper = RecordFollower()
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(edges):
        piece, position = memoryview(stream[start:end]), 0
        while position < len(piece):
            position = follower.follow(piece, position)
            if not (follower.missing or follower.head):
                found.append(start + position)
        skipper.follow_all(piece)
        assert (skipper.missing, skipper.head) == (follower.missing, follower.head)
    assert found == ends


def test_what_is_no_record_is_followed_no_further():
    follower = RecordFollower()
    follower.follow_all(memoryview(bytes((23, 3, 3, 0, 1, 0)) + b"HTTP/1.1 400"))
    assert follower.missing == RecordFollower.LOST


def test_a_stream_that_was_not_followed_from_its_start_is_picked_up(certificate):
    """What a server hands over; its relay finds the next end of a record by itself."""
    ends = gevent.socket.socketpair()
    client, server = tls_pair(ends, certificate, "TLSv1.3")
    server._records.missing = RecordFollower.LOST
    client.send(b"one")
    assert read(server, 3) == b"one"
    assert server._records.missing == 0
    sending = gevent.spawn(lambda: (client.send(bytes(200_000)), flush(client)))
    assert read(server, 200_000) == bytes(200_000)
    sending.get(timeout=LIMIT)
    client.close()
    server.close()


class TestStream:
    """TLS for a greenlet, as dialling uses it."""

    @pytest.fixture
    def streams(self, certificate):
        ends = gevent.socket.socketpair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client = TLSStream(ends[0], context)
        server = TLSServerStream(ends[1], certificate.context())

        def client_handshake():
            client.do_handshake()
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")

        gevent.joinall(
            [gevent.spawn(client_handshake), gevent.spawn(server.do_handshake)],
            timeout=LIMIT,
            raise_error=True,
        )
        yield client, server
        for end in ends:
            end.close()

    def test_the_end_is_empty(self, streams):
        client, server = streams
        assert server.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
        client.detach_transport().close()
        assert server.recv(100) == b""

    def test_what_followed_is_not_lost_when_the_relay_takes_over(self, streams):
        client, server = streams
        server.sendall(b"HTTP/1.1 101\r\n\r\nfirst frame")
        assert client.recv(16) == b"HTTP/1.1 101\r\n\r\n"
        assert client.unread() == b"first frame"
        transport = client.detach_transport()
        server.sendall(b"second")
        assert read(transport, 6) == b"second"

    def test_session_tickets_leave_no_buffer_behind(self, certificate):
        """16 KiB each, which OpenSSL would keep until a silent user says something."""
        with_tickets, without = (bytes_of_a_silent_client(certificate, number) for number in (2, 0))
        assert with_tickets < without + 4096


def bytes_of_a_silent_client(certificate, tickets: int) -> float:
    """Of glibc's, for the client's end of a TLS connection over which an answer came.

    :param tickets: that the server sends before it.
    """
    context = certificate.context()
    context.num_tickets = tickets
    kept, before = [], 0
    for number in range(21):
        if number == 1:  # what only the first one costs is there
            before = allocated()
        kept.append(answered(context))
    return (allocated() - before) / (len(kept) - 1)


def answered(context: ssl.SSLContext) -> tuple[TLSTransport, TLSServerStream]:
    """The two ends of a connection whose client has asked and been answered."""
    ends = gevent.socket.socketpair()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    client, server = TLSStream(ends[0], trusting), TLSServerStream(ends[1], context)

    def ask():
        client.do_handshake()
        client.sendall(b"GET")

    asking = gevent.spawn(ask)
    server.do_handshake()
    asking.get(timeout=LIMIT)
    server.sendall(b"101")
    assert client.recv(3) == b"101"
    assert client.unread() == b""
    return client.detach_transport(), server


def allocated() -> int:
    """Bytes that glibc's malloc has given out and not got back (mallinfo2(3))."""

    class Info(ctypes.Structure):
        _fields_ = tuple((f"field{number}", ctypes.c_size_t) for number in range(10))

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("no glibc of 2.33 or later")
    libc.mallinfo2.restype = Info
    gc.collect()
    return int(libc.mallinfo2().field7)  # uordblks


@pytest.fixture
def asking(certificate, tmp_path):
    """A server's transport, and the socket and records of a client that asks for new keys."""
    ends = gevent.socket.socketpair()
    ends[1].setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_SNDBUF, 1)
    key_log = tmp_path / "keys.log"
    client, server = tls_pair(ends, certificate, "TLSv1.3", key_log=key_log)
    # The first record had the greeting.
    yield server, client._sock, KeyUpdates(client_secret(key_log), sequence=1)
    client.close()
    server.close()


def test_a_peer_that_asks_for_new_keys_gets_them(asking):
    server, sock, updates = asking
    sock.send(updates.record() + updates.data(b"and goes on"))
    assert read(server, 11) == b"and goes on"
    assert not server.unusual


def test_what_tls_answers_to_a_peer_that_does_not_read_is_bounded_and_told(asking, monkeypatch):
    monkeypatch.setattr("mksfilter.proxy.relay.transport._MOST_UNSENT", 20_000)
    server, sock, updates = asking
    buffer = memoryview(bytearray(ROOM))
    told_at = 0

    def ask():
        nonlocal told_at
        for _ in range(40):
            with contextlib.suppress(BlockingIOError):
                sock.send(b"".join(updates.record() for _ in range(100)))
            server.receive(buffer, 8192)
            if server.unusual and not told_at:
                told_at = server.unsent

    with pytest.raises(ConnectionAbortedError, match="nobody reads"):
        ask()
    assert nothing_is_left()
    assert 0 < told_at < 8192, "it is told with the first answer that is not taken"
    assert server.unsent < 30_000
