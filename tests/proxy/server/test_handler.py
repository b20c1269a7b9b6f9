"""One request: its answer, its line in the access log, or the connection in other hands."""

from __future__ import annotations

import logging

import gevent
import pytest

from tests.proxy.server.running import (
    LAST,
    UPGRADE,
    connect,
    exchange,
    hello,
    read_to_end,
    wait_for,
)

HEADERS = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def test_an_unreadable_request_is_refused_and_counted(serve, application):
    server = serve(hello)
    assert exchange(server, b"GET / HTTP/1.1\r\nHost : h\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert application.reasons == ["bad-request"]


def test_a_connection_is_kept_as_the_client_wishes(serve):
    answer = exchange(
        serve(hello),
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
        b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
        b"GET / HTTP/1.0\r\n\r\n"
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_fault_of_the_application_is_500_and_its_words_stay_inside(serve, caplog):
    def broken(environ, start_response):
        raise ValueError("mks1.0123456789ab.secret.mac")

    server = serve(broken)
    answer = exchange(server, b"GET /x?token=secret HTTP/1.1\r\nHost: h\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"Connection: close" in head
    assert body == b""
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "path=/x" in record.getMessage()
    assert "token" not in record.getMessage()
    assert server.log.lines == [("500 Internal Server Error", "/x?***")]


def test_a_fault_behind_the_head_ends_the_connection(serve, caplog):
    def broken(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])
        yield b"hi"
        raise ValueError

    answer = exchange(serve(broken), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"\r\n\r\nhi")
    assert "event=unexpected-error" in caplog.text


class TestUpgrade:
    """gevent-websocket writes the 101, but only when the application says so."""

    def test_is_for_the_application_to_decide(self, serve):
        seen = []

        def refuse(environ, start_response):
            seen.append(environ.get("wsgi.websocket"))
            start_response("403 Forbidden", [("Content-Length", "0"), ("Connection", "close")])
            return []

        # All that gevent-websocket asks for, and on its own it would answer 101.
        request = (
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = exchange(serve(refuse), request)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"Date: " in answer
        assert seen == [None]

    def test_belongs_to_who_accepted_it(self, serve, caplog):
        caplog.set_level(logging.DEBUG)
        taken = []

        def take(environ, start_response):
            taken.append(environ["mksfilter.connection"].accept(HEADERS))
            return []

        server = serve(take)
        with connect(server) as sock:
            sock.sendall(UPGRADE)
            assert sock.recv(1000) == SWITCHED, "a 101 has neither Date nor length"
            wait_for(lambda: server.pool.free_count() == 10)
            (transport,) = taken
            server.close()
            assert transport.send(b"still here")
            assert sock.recv(100) == b"still here"
            sock.sendall(b"me too")
            buffer = memoryview(bytearray(1 << 20))
            wait_for(lambda: transport.receive(buffer) > 0)
            assert bytes(buffer[:6]) == b"me too"
            assert server.waiting == 0
            transport.close()
            assert sock.recv(1) == b""
        assert server.log.lines == [("101 Switching Protocols", "/")]
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    def test_that_is_refused_with_words_ends_with_them(self, serve):
        def refuse(environ, start_response):
            environ["mksfilter.connection"].refuse(HEADERS, b"why, and a close frame")
            return []

        server = serve(refuse)
        with connect(server) as sock:
            sock.sendall(UPGRADE + b"a frame of the client's")
            assert read_to_end(sock) == SWITCHED + b"why, and a close frame"
            # Not for another request: what a client sends now are frames.
            assert server.waiting == 1
            assert server.arriving == 0
        wait_for(lambda: server.waiting == 0)

    def test_of_a_client_that_left_is_an_error_that_the_application_sees(self, serve):
        seen = []

        def late(environ, start_response):
            connection = environ["mksfilter.connection"]
            while True:
                try:
                    connection.early_data()
                    gevent.sleep(0.005)
                except OSError:
                    break
            try:
                connection.refuse(HEADERS, b"x" * (1 << 24))
            except OSError as exc:
                seen.append(exc)
            return []

        server = serve(late)
        with connect(server) as sock:
            sock.sendall(UPGRADE)
        wait_for(lambda: seen)
        wait_for(lambda: server.waiting == 0)
        assert [status.split(":")[0] for status, _ in server.log.lines] == ["socket error"]

    def test_sees_early_data(self, serve):
        seen = []

        def look(environ, start_response):
            while not (early := environ["mksfilter.connection"].early_data()):
                gevent.sleep(0.005)
            seen.append(early)
            return hello(environ, start_response)

        server = serve(look)
        with connect(server) as sock:
            sock.sendall(UPGRADE)
            sock.sendall(b"too early")
            wait_for(lambda: seen)
        assert seen == [b"too early"]

    def test_is_offered_to_no_other_request(self, serve):
        seen = []

        def look(environ, start_response):
            seen.append("mksfilter.connection" in environ)
            return hello(environ, start_response)

        exchange(serve(look), LAST)
        assert seen == [False]


@pytest.mark.parametrize("header", ["Authorization: Basic c2VjcmV0", "Cookie: token=secret"])
def test_the_access_log_is_given_no_secret(serve, header):
    given = []
    server = serve(hello)
    server.log.access = lambda response, headers, environ, time: given.append(
        (list(headers), dict(environ))
    )
    exchange(server, b"GET /?token=secret HTTP/1.1\r\n" + header.encode() + b"\r\n" + LAST[16:])
    assert len(given) == 1
    assert "secret" not in str(given)
    assert "c2VjcmV0" not in str(given)
