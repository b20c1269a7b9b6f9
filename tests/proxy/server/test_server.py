"""The server whose connections wait for whole requests without a greenlet."""

from __future__ import annotations

import contextlib
import gc
import socket

import gevent.event
import pytest

from mksfilter.proxy.server import server as server_module
from mksfilter.proxy.server import waiting_list
from mksfilter.proxy.server.connection import Connection
from tests.proxy.server.running import (
    LAST,
    LAST_UPGRADE,
    REQUEST,
    connect,
    exchange,
    hello,
    read_to_end,
    wait_for,
)


def test_a_request_costs_a_greenlet_only_once_it_is_whole(serve):
    server = serve(hello)
    with connect(server) as sock:
        sock.sendall(REQUEST[:-1])
        wait_for(lambda: server.arriving == 1)
        assert server.pool.free_count() == 10
        sock.sendall(REQUEST[-1:])
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")
        wait_for(lambda: server.pool.free_count() == 10)


def test_two_requests_that_come_at_once_are_answered_one_after_the_other(serve):
    answer = exchange(serve(hello), REQUEST + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"\r\n\r\nhi") == 2


def test_who_does_not_finish_in_time_is_closed_and_counted(serve, application):
    server = serve(hello)
    with connect(server) as sock:
        sock.sendall(b"GET /")
        assert sock.recv(1) == b""
    assert application.reasons == ["request-timeout"]


def test_a_kept_connection_is_closed_when_it_idles(serve, monkeypatch, application):
    monkeypatch.setattr(server_module, "_IDLE_SECONDS", 0.1)
    server = serve(hello)
    with connect(server) as sock:
        sock.sendall(REQUEST)
        assert sock.recv(1000).endswith(b"hi")
        assert sock.recv(1) == b""
    assert application.reasons == []


def test_a_client_that_does_not_close_is_closed(serve, monkeypatch, application):
    monkeypatch.setattr(server_module, "_LINGER_SECONDS", 0.1)
    server = serve(hello)
    with connect(server) as sock:
        sock.sendall(LAST)
        assert read_to_end(sock).endswith(b"hi")
        assert server.waiting == 1
        wait_for(lambda: server.waiting == 0)
    assert application.reasons == []


def test_a_load_balancer_that_sends_no_proxy_header_is_closed_and_counted(serve, application):
    application.proxy_headers = True
    server = serve(hello)
    assert exchange(server, LAST) == b""
    assert application.reasons == ["bad-proxy-header"]
    assert exchange(server, b"PROXY UNKNOWN\r\n" + LAST).endswith(b"hi")


def test_many_who_wait_make_room_for_who_comes(serve, application):
    server = serve(hello)
    server._capacity = 3
    waiting = [connect(server) for _ in range(5)]
    assert exchange(server, LAST).endswith(b"hi")
    assert application.reasons == ["evicted"] * 3
    for sock in waiting:
        sock.close()


def test_who_lingers_makes_room_before_who_idles_and_who_is_slow(serve, monkeypatch, application):
    application.handshake_timeout = 60
    monkeypatch.setattr(server_module, "_IDLE_SECONDS", 60)
    monkeypatch.setattr(server_module, "_LINGER_SECONDS", 60)
    server = serve(hello)
    server._capacity = 3
    with connect(server) as slow, connect(server) as idle, connect(server) as lingering:
        slow.sendall(REQUEST[:-1])
        idle.sendall(REQUEST)
        assert idle.recv(1000).endswith(b"hi")
        lingering.sendall(LAST)
        assert read_to_end(lingering).endswith(b"hi")
        wait_for(lambda: server.waiting == 3)
        with connect(server):
            wait_for(lambda: application.reasons == ["evicted"])
            with connect(server):
                assert idle.recv(1) == b""
                assert application.reasons == ["evicted", "evicted"]
                with connect(server):
                    assert slow.recv(1) == b""


class Gate:
    """A WSGI application that waits; it says in which order it was called, by path."""

    def __init__(self):
        self.event = gevent.event.Event()
        self.called = []

    def __call__(self, environ, start_response):
        self.called.append(environ["PATH_INFO"])
        self.event.wait()
        return hello(environ, start_response)

    def fill(self, server):
        """A client who waits where there is one place."""
        client = connect(server)
        client.sendall(LAST_UPGRADE)
        wait_for(lambda: self.called)
        return client


@pytest.fixture
def gate():
    return Gate()


def asked_for(server, path):
    """A client who wants a console too."""
    client = connect(server)
    client.sendall(LAST_UPGRADE.replace(b"GET /", b"GET " + path.encode()))
    return client


def test_more_consoles_than_places_are_held_without_a_greenlet_and_opened_in_their_order(
    serve, application, gate
):
    server = serve(gate, size=1)
    with gate.fill(server) as first, contextlib.ExitStack() as stack:
        others = []
        for number in range(20):
            others.append(stack.enter_context(asked_for(server, f"/{number}")))
            wait_for(lambda: server.waiting == len(others))
        assert len(server.pool) == 1
        assert server.arriving == 20, "a worker that has to go waits for them"
        gate.event.set()
        assert all(b"\r\n\r\nhi" in read_to_end(client) for client in (first, *others))
    assert gate.called == ["/", *(f"/{number}" for number in range(20))]
    assert application.reasons == []


def test_who_was_held_for_too_long_is_told_so(serve, application, gate, monkeypatch):
    monkeypatch.setattr(server_module, "_HOLD_SECONDS", 0.2)
    server = serve(gate, size=1)
    with gate.fill(server), asked_for(server, "/late") as late:
        wait_for(lambda: server.waiting == 1)
        assert read_to_end(late).startswith(b"HTTP/1.1 503 ")
        gate.event.set()
    assert gate.called == ["/"]
    assert application.reasons == ["overload"]


def test_nobody_is_held_for_whom_it_would_take_too_long(serve, application, gate, monkeypatch):
    """Three are as many as are opened in that time."""
    monkeypatch.setattr(server_module, "_PATIENCE", 3 / server_module._EXPECTED_PACE)
    server = serve(gate, size=1)
    with gate.fill(server), asked_for(server, "/2"), asked_for(server, "/3"):
        wait_for(lambda: server.waiting == 2)
        with asked_for(server, "/4") as late:
            assert read_to_end(late).startswith(b"HTTP/1.1 503 ")
        gate.event.set()
    assert application.reasons == ["overload"]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"\r\nCookie: " + b"c" * 4096 + b"\r\n\r\n", id="a long head"),
        pytest.param(b"\r\n\r\nearly", id="data behind it"),
    ],
)
def test_nobody_is_held_who_would_cost_memory(serve, application, gate, more):
    server = serve(gate, size=1)
    with gate.fill(server), connect(server) as dear:
        dear.sendall(LAST_UPGRADE.removesuffix(b"\r\n\r\n") + more)
        assert read_to_end(dear).startswith(b"HTTP/1.1 503 ")
        gate.event.set()
    assert application.reasons == ["overload"]


def test_who_sends_more_while_he_is_held_is_not_held_any_longer(serve, gate):
    server = serve(gate, size=1)
    with gate.fill(server), asked_for(server, "/early") as early:
        wait_for(lambda: server.waiting == 1)
        early.sendall(b"data")
        assert read_to_end(early).startswith(b"HTTP/1.1 503 ")
        gate.event.set()


def test_who_leaves_while_he_is_held_takes_no_place(serve, gate):
    server = serve(gate, size=1)
    with gate.fill(server) as first, asked_for(server, "/stays") as stays:
        wait_for(lambda: server.waiting == 1)
        with asked_for(server, "/leaves"):
            wait_for(lambda: server.waiting == 2)
        wait_for(lambda: server.waiting == 1)
        gate.event.set()
        assert b"\r\n\r\nhi" in read_to_end(first)
        assert b"\r\n\r\nhi" in read_to_end(stays)
    assert gate.called == ["/", "/stays"]


def test_a_server_that_closes_serves_those_it_holds_and_holds_nobody_else(serve, gate):
    server = serve(gate, size=1)
    with gate.fill(server), asked_for(server, "/held") as held, connect(server) as slow:
        wait_for(lambda: server.waiting == 2)
        server.close()
        slow.sendall(LAST_UPGRADE)
        assert read_to_end(slow).startswith(b"HTTP/1.1 503 ")
        gate.event.set()
        assert b"\r\n\r\nhi" in read_to_end(held)


def test_a_page_is_answered_while_consoles_take_all_places(serve, application):
    gate = gevent.event.Event()

    def app(environ, start_response):
        if "HTTP_UPGRADE" in environ:
            gate.wait()
        return hello(environ, start_response)

    server = serve(app, size=1)
    with connect(server) as busy:
        busy.sendall(LAST_UPGRADE)
        wait_for(lambda: server.pool.full())
        assert exchange(server, LAST).endswith(b"hi")
        gate.set()
    assert application.reasons == []


def test_a_burst_that_nobody_has_looked_at_is_served_and_not_refused(serve, application):
    server = serve(hello, size=2)
    clients = [connect(server) for _ in range(40)]
    for number, client in enumerate(clients):
        client.sendall(LAST if number % 2 else LAST_UPGRADE)
    assert all(b" 200 OK" in read_to_end(client) for client in clients)
    assert application.reasons == []


def test_an_answer_that_is_not_read_holds_no_greenlet_and_ends(serve, monkeypatch, application):
    monkeypatch.setattr(server_module, "_WRITE_SECONDS", 0.2)
    body = bytes(3 << 20)

    def large(environ, start_response):
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server = serve(large, size=1)
    clients = [connect(server) for _ in range(20)]
    for client in clients:
        client.sendall(REQUEST * 4)
    wait_for(lambda: server.waiting == 20)
    assert server.pool.free_count() == 1
    assert server.arriving == 20
    wait_for(lambda: server.waiting == 0)
    assert application.reasons == ["answer-not-read"] * 20
    for client in clients:
        client.close()


def test_requests_behind_one_whose_answer_is_not_read_are_served_when_it_is(serve):
    body = bytes(range(256)) * 8000

    def large(environ, start_response):
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server = serve(large)
    with connect(server) as client:
        client.sendall(REQUEST * 3 + LAST)
        wait_for(lambda: server.waiting == 1)
        answers = read_to_end(client)
    assert answers.count(body) == 4


def test_who_does_not_read_makes_room_before_who_idles(serve, monkeypatch, application):
    monkeypatch.setattr(server_module, "_IDLE_SECONDS", 60)

    def app(environ, start_response):
        size = 2 if environ["PATH_INFO"] == "/" else 3 << 20
        start_response("200 OK", [("Content-Length", str(size))])
        return [bytes(size)]

    server = serve(app)
    server._capacity = 2
    with connect(server) as idle, connect(server) as unread:
        idle.sendall(REQUEST)
        assert idle.recv(1000)
        unread.sendall(REQUEST.replace(b"/ ", b"/large "))
        wait_for(lambda: server.waiting == 2)
        with connect(server) as newcomer:
            newcomer.sendall(LAST)
            assert read_to_end(newcomer)
            idle.sendall(LAST)
            assert read_to_end(idle)
    assert application.reasons == ["evicted"]


def test_long_heads_that_do_not_end_make_room_for_each_other_and_not_for_short_ones(
    serve, application, monkeypatch
):
    application.handshake_timeout = 60
    monkeypatch.setattr(waiting_list, "MOST_LONG_HEADS", 3)
    server = serve(hello)
    short = [connect(server) for _ in range(5)]
    for client in short:
        client.sendall(REQUEST[:-1])
    wait_for(lambda: server.arriving == 5)
    long = [connect(server) for _ in range(10)]
    for number, client in enumerate(long):
        client.sendall(REQUEST[:-2] + b"X-Y: " + b"z" * 5000)
        wait_for(
            lambda number=number: (
                len(server._arriving._long) + len(application.reasons) == number + 1
            )
        )
    assert application.reasons == ["evicted"] * 7
    for client in long[:7]:
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    for client in short:
        client.sendall(REQUEST[-1:])
        assert client.recv(1000).endswith(b"hi")
    for client in long[7:]:
        client.sendall(b"\r\n\r\n")
        assert client.recv(1000).endswith(b"hi")
    assert not server._arriving._long


@pytest.mark.parametrize(
    ("start", "status"),
    [(b"\x16\x03\x01\x02", 400), (b"GET /" + b"a" * 9000, 414)],
    ids=["a TLS hello", "a long line"],
)
def test_a_head_that_cannot_become_good_is_answered_at_once(serve, application, start, status):
    application.handshake_timeout = 60
    assert exchange(serve(hello), start).startswith(b"HTTP/1.1 %d " % status)
    assert application.reasons == ["bad-request"]


def test_an_answer_survives_what_the_client_was_still_sending(serve):
    """A close with unread bytes resets the connection, and the answer with it."""
    server = serve(hello)
    for _ in range(20):
        answer = exchange(server, b"GET / HTTP/1.1\r\n" + b"X-Y: z\r\n" * 10000)
        assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_server_that_closes_lets_a_request_finish_that_is_on_its_way(serve, application):
    application.handshake_timeout = 60
    server = serve(hello)
    with connect(server) as arriving, connect(server) as idle:
        idle.sendall(REQUEST)
        assert idle.recv(1000).endswith(b"hi")
        arriving.sendall(REQUEST[:10])
        wait_for(lambda: server.arriving == 1)
        server.close()
        assert idle.recv(1) == b""
        arriving.sendall(REQUEST[10:])
        assert read_to_end(arriving).endswith(b"hi")
        wait_for(lambda: server.arriving == 0)


def test_who_has_connected_before_the_socket_is_closed_is_answered(serve):
    server = serve(hello)
    # A socket of the system's: the loop, which accepts, does not run meanwhile.
    with socket.create_connection(server.address, timeout=5) as waiting:
        server.accept_waiting()
        server.close()
        waiting.sendall(LAST)
        answer = gevent.get_hub().threadpool.apply(read_to_end, [waiting])
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_worker_that_drains_keeps_no_connection_alive(serve):
    server = serve(hello)
    server.state.draining = True
    assert exchange(server, REQUEST).endswith(b"hi")


def test_who_has_left_is_not_remembered(serve):
    def connections():
        return {id(thing) for thing in gc.get_objects() if type(thing) is Connection}

    others = connections()
    server = serve(hello)
    assert exchange(server, LAST).endswith(b"hi")
    wait_for(lambda: server.waiting == 0)
    assert connections() <= others
