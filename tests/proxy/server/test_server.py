"""The server whose connections wait for whole requests without a greenlet."""

from __future__ import annotations

import gc

import gevent.event
import pytest

from mksfilter.proxy.server import server as server_module
from mksfilter.proxy.server.connection import Connection
from tests.proxy.server.running import (
    LAST,
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


def test_more_work_than_places_is_answered_and_not_queued(serve, application):
    gate = gevent.event.Event()

    def slow(environ, start_response):
        gate.wait()
        return hello(environ, start_response)

    server = serve(slow, size=1)
    with connect(server) as busy:
        busy.sendall(LAST)
        wait_for(lambda: server.pool.full())
        assert exchange(server, LAST).startswith(b"HTTP/1.1 503 ")
        gate.set()
        assert read_to_end(busy).endswith(b"hi")
    assert application.reasons == ["overload"]


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
