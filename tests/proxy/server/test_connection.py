"""A connection before a relay has it: what arrives, what is sent, and how it ends."""

from __future__ import annotations

import socket
import ssl
import time
import tracemalloc

import gevent
import gevent.ssl
import pytest

from mksfilter.exceptions import ProxyHeaderError
from mksfilter.proxy.server.connection import Connection
from tests.proxy.server.running import read_to_end, wait_for
from tests.support.certificates import SelfSigned

PEER = ("192.0.2.1", 5151)
V1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n"


@pytest.fixture
def pair():
    """Make a connection and its client."""
    opened = []

    def pair(context=None, **options):
        ours, theirs = gevent.socket.socketpair()
        connection = Connection(ours, PEER, context, **{"write_timeout": 5.0, **options})
        theirs.settimeout(5)
        opened.extend((connection, theirs))
        return connection, theirs

    yield pair
    for thing in opened:
        thing.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return SelfSigned(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def tls(pair, certificate):
    """Make a connection and its client, whose TLS handshake is done."""

    def tls(**options):
        connection, theirs = pair(certificate.context(), **options)
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificate.pem)
        wrapping = gevent.spawn(context.wrap_socket, theirs, server_hostname="localhost")
        pull_until(connection, wrapping.ready)
        return connection, wrapping.get()

    return tls


def pull_until(connection, condition):
    def pulled():
        assert connection.pull()
        return condition()

    wait_for(pulled)


class TestPlain:
    def test_nothing_blocks_where_nothing_has_arrived(self, pair):
        connection, client = pair()
        assert connection.pull()
        assert connection.received == b""
        client.sendall(b"GET")
        pull_until(connection, lambda: connection.received == b"GET")
        client.sendall(b" /")
        pull_until(connection, lambda: connection.received == b"GET /")

    def test_a_client_that_closes_is_told_from_one_that_is_silent(self, pair):
        connection, client = pair()
        client.sendall(b"last")
        client.shutdown(socket.SHUT_WR)
        assert connection.pull()
        assert not connection.pull()
        assert connection.received == b"last"

    def test_an_answer_leaves_as_its_reader_takes_it_and_nobody_waits(self, pair):
        connection, client = pair()
        parts = [b"head", bytes(range(256)) * 8_000, b"tail"]
        for part in parts:
            connection.sendall(part)
        assert not connection.flush()
        received = bytearray()
        while not connection.flush():
            received += client.recv(1 << 20)
        client.setblocking(False)
        while len(received) < sum(map(len, parts)):
            received += client.recv(1 << 20)
        assert received == b"".join(parts)

    def test_a_file_that_is_not_read_is_not_copied(self, pair):
        connection, _ = pair()
        file = bytes(3 << 20)
        tracemalloc.start()
        connection.sendall(file)
        assert not connection.flush()
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()

    def test_an_application_that_writes_without_end_waits_for_its_reader(self, pair):
        connection, client = pair()
        data = bytes(range(256)) * 40_000
        sending = gevent.spawn(connection.sendall, data)
        gevent.sleep(0)
        assert not sending.ready()
        received = bytearray()
        while len(received) < len(data):
            received += client.recv(1 << 20)
            connection.flush()
        assert received == data
        sending.get(timeout=5)

    def test_whose_reader_stops_costs_the_write_timeout_and_no_more(self, pair):
        connection, _ = pair(write_timeout=0.1)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connection.sendall(bytes(1 << 24))
        assert 0.1 <= time.monotonic() - started < 3

    def test_whose_reader_drips_costs_no_more_either(self, pair):
        """The time is for the whole answer, not for each piece of it."""
        connection, client = pair(write_timeout=0.3)
        reading = gevent.spawn(lambda: [client.recv(1 << 16) for _ in iter(_pause, None)])
        with pytest.raises(TimeoutError):
            connection.sendall(bytes(1 << 26))
        reading.kill()

    def test_what_a_lost_client_does_not_take_is_an_error(self, pair):
        connection, client = pair()
        connection.sendall(bytes(1 << 20))
        assert not connection.flush()
        client.close()
        with pytest.raises(OSError, match="pipe"):
            connection.flush()

    def test_a_client_that_does_not_read_is_not_handed_over(self, pair):
        connection, _ = pair()
        connection.sendall(bytes(1 << 20))
        with pytest.raises(ConnectionAbortedError, match="does not read"):
            connection.to_transport()

    def test_an_end_is_told_and_the_client_may_finish(self, pair):
        connection, client = pair()
        connection.finish()
        assert client.recv(1) == b""
        client.sendall(b"rest")
        pull_until(connection, lambda: connection.received == b"rest")
        connection.finish()

    def test_handed_over_it_is_closed(self, pair):
        connection, client = pair()
        transport = connection.to_transport()
        assert connection.fileno() == -1
        connection.close()
        assert transport.send(b"still here")
        assert client.recv(10) == b"still here"
        transport.close()


def _pause():
    gevent.sleep(0.01)
    return True


class TestTLS:
    def test_carries_both_ways(self, tls):
        connection, client = tls()
        client.sendall(b"GET /")
        pull_until(connection, lambda: connection.received == b"GET /")
        data = bytes(range(256)) * 4000
        connection.sendall(b"head")
        connection.sendall(data)
        assert not connection.flush()
        received = b""
        while len(received) < len(data) + 4:
            received += client.recv(1 << 20)
            connection.flush()
        assert received == b"head" + data

    def test_who_speaks_no_tls_is_an_error(self, pair, certificate):
        connection, client = pair(certificate.context())
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            pull_until(connection, lambda: False)

    def test_an_end_is_told_in_tls(self, tls):
        connection, client = tls()
        connection.sendall(b"bye")
        assert connection.flush()
        connection.finish()
        assert read_to_end(client) == b"bye", "without close_notify this raises"

    def test_an_end_is_understood_in_tls(self, tls):
        connection, client = tls()
        client.sendall(b"bye")
        gevent.spawn(client.unwrap)
        wait_for(lambda: not connection.pull())
        assert connection.received == b"bye"

    def test_handed_over_it_goes_on_as_it_stands(self, tls):
        connection, client = tls()
        transport = connection.to_transport()
        assert transport.send(b"still here")
        assert client.recv(10) == b"still here"
        client.sendall(b"me too")
        buffer = memoryview(bytearray(1 << 20))
        wait_for(lambda: transport.receive(buffer) > 0)
        assert bytes(buffer[:6]) == b"me too"
        transport.close()


class TestProxyHeader:
    def test_says_who_the_client_is_however_it_is_cut(self, pair):
        connection, client = pair(proxy_header=True)
        for byte in V1 + b"GET /":
            client.sendall(bytes([byte]))
            assert connection.pull()
        assert connection.address == ("203.0.113.9", 4711)
        assert connection.received == b"GET /"

    def test_may_leave_the_client_unnamed(self, pair):
        connection, client = pair(proxy_header=True)
        client.sendall(b"PROXY UNKNOWN\r\nGET /")
        pull_until(connection, lambda: connection.received == b"GET /")
        assert connection.address == PEER

    def test_comes_before_tls(self, pair, certificate):
        connection, client = pair(certificate.context(), proxy_header=True)
        client.sendall(V1)
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificate.pem)
        wrapping = gevent.spawn(context.wrap_socket, client, server_hostname="localhost")
        pull_until(connection, wrapping.ready)
        assert connection.address == ("203.0.113.9", 4711)
        wrapping.get().close()

    def test_that_is_missing_ends_the_connection(self, pair):
        connection, client = pair(proxy_header=True)
        client.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ProxyHeaderError, match="no PROXY header"):
            pull_until(connection, lambda: False)
