"""The server that waits for whole requests without a greenlet, and the handler behind it."""

from __future__ import annotations

import logging

import gevent
import gevent.event
import gevent.socket
import pytest
from gevent.pool import Pool

from mksfilter.proxy.server import server as server_module
from mksfilter.proxy.server.server import ConsoleServer
from mksfilter.proxy.server.state import ServerState
from mksfilter.proxy.server.worker import ConsoleHandler

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Log:
    """gunicorn's logger, as far as the handler uses it."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def access(self, response, request_headers, environ, request_time) -> None:
        self.lines.append((response.status, environ["RAW_URI"]))

    def log(self, *args) -> None:
        raise AssertionError(args)


class Application:
    """An application as the worker sees it."""

    handshake_timeout = 0.3
    sessions = 0

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def refused(self, reason: str) -> None:
        self.reasons.append(reason)

    def expects_proxy_header(self, peer: str) -> bool:
        return False


@pytest.fixture
def application():
    return Application()


@pytest.fixture
def serve(application):
    servers = []

    def serve(app, *, size: int = 10, **ssl_args) -> ConsoleServer:
        listener = gevent.socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        server = ConsoleServer(
            listener,
            application=app,
            spawn=Pool(size),
            log=Log(),
            handler_class=ConsoleHandler,
            state=ServerState([application]),
            **ssl_args,
        )
        server.start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.stop()


def hello(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"hi"]


def connect(server: ConsoleServer) -> gevent.socket.socket:
    sock = gevent.socket.create_connection(("127.0.0.1", server.address[1]))
    sock.settimeout(5)
    return sock


def read_to_end(sock) -> bytes:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def exchange(server: ConsoleServer, request: bytes) -> bytes:
    with connect(server) as sock:
        sock.sendall(request)
        return read_to_end(sock)


def wait_for(condition) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)


def test_a_request_costs_a_greenlet_only_once_it_is_whole(serve):
    server = serve(hello)
    with connect(server) as sock:
        sock.sendall(REQUEST[:-1])
        wait_for(lambda: server.arriving == 1)
        assert server.pool.free_count() == 10
        sock.sendall(REQUEST[-1:])
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")
        wait_for(lambda: server.pool.free_count() == 10)


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


def test_many_who_wait_make_room_for_who_comes(serve, application, monkeypatch):
    server = serve(hello)
    server._capacity = 3
    waiting = [connect(server) for _ in range(5)]
    assert exchange(server, LAST).endswith(b"hi")
    assert application.reasons == ["evicted"] * 3
    for sock in waiting:
        sock.close()


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


def test_an_answer_survives_what_the_client_was_still_sending(serve):
    """A close with unread bytes resets the connection, and the answer with it."""
    server = serve(hello)
    for _ in range(20):
        answer = exchange(server, b"GET / HTTP/1.1\r\n" + b"X-Y: z\r\n" * 10000)
        assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_fault_of_the_application_is_500_and_its_words_stay_inside(serve, caplog):
    def broken(environ, start_response):
        raise ValueError("mks1.0123456789ab.secret.mac")

    server = serve(broken)
    answer = exchange(server, b"GET /x?token=secret HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"Traceback" not in answer
    assert b"secret" not in answer
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "path=/x" in record.getMessage()
    assert "token" not in record.getMessage()
    assert server.log.lines == [("500 Internal Server Error", "/x?***")]


def test_an_accepted_upgrade_belongs_to_who_accepted_it(serve, caplog):
    taken = []

    def take(environ, start_response):
        taken.append(environ["mksfilter.connection"].accept([("Upgrade", "websocket")]))
        return []

    server = serve(take)
    with connect(server) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
        wait_for(lambda: server.pool.free_count() == 10)
        (transport,) = taken
        server.close()
        assert transport.send(b"still here")
        assert sock.recv(100) == b"still here"
        sock.sendall(b"me too")
        buffer = memoryview(bytearray(1 << 20))
        wait_for(lambda: transport.receive(buffer) > 0)
        assert bytes(buffer[:6]) == b"me too"
        transport.close()
        assert sock.recv(1) == b""
    assert server.log.lines == [("101 Switching Protocols", "/")]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_refused_upgrade_ends_with_its_last_words(serve):
    def refuse(environ, start_response):
        environ["mksfilter.connection"].refuse([("Upgrade", "websocket")], b"farewell")
        return []

    answer = exchange(serve(refuse), b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nfarewell")


def test_early_data_and_a_client_that_left_are_seen(serve):
    seen = []

    def look(environ, start_response):
        gevent.sleep(0.05)
        try:
            seen.append(environ["mksfilter.connection"].early_data())
        except OSError:
            seen.append("gone")
        return hello(environ, start_response)

    server = serve(look)
    upgrade = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n"
    with connect(server) as sock:
        sock.sendall(upgrade + b"too early")
        wait_for(lambda: seen)
    with connect(server) as sock:
        sock.sendall(upgrade)
    wait_for(lambda: len(seen) == 2)
    assert seen == [b"too early", "gone"]


def test_a_server_that_closes_lets_a_request_finish_that_is_on_its_way(serve):
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


def test_nobody_waiting_costs_no_timer(serve):
    server = serve(hello)
    assert exchange(server, LAST).endswith(b"hi")
    wait_for(lambda: server._timer is None)
