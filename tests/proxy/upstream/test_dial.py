"""The way to a console host: names, connections, and the deadline over all of it."""

from __future__ import annotations

import socket
import time

import gevent
import pytest

from mksfilter import exceptions, tcp
from tests.proxy.upstream.hosts import Console, connect, endpoint


def test_a_silent_host_is_given_up_in_time(serve):
    port = serve(lambda sock: gevent.sleep(30))
    started = time.monotonic()
    with pytest.raises(exceptions.HostUnreachable, match=r"no console within 0\.3 s"):
        connect(endpoint(port), timeout=0.3)
    with pytest.raises(exceptions.HostUnreachable):
        connect(endpoint(port, tls=True, insecure=True), timeout=0.3)
    assert time.monotonic() - started < 2


def test_a_host_that_trickles_is_given_up_in_time(serve):
    def trickle(sock):
        while True:
            sock.sendall(b"H")
            gevent.sleep(0.05)

    with pytest.raises(exceptions.HostUnreachable):
        connect(endpoint(serve(trickle)), timeout=0.3)


def test_nobody_listening_and_no_such_name_are_told_with_the_name():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(exceptions.HostUnreachable, match="refused"):
            connect(endpoint(nobody.getsockname()[1]))
    with pytest.raises(exceptions.HostUnresolvable, match=r"esx-17\.invalid"):
        connect(endpoint(443, host="esx-17.invalid"))


def test_a_host_that_vanishes_later_is_noticed_by_the_kernel(serve):
    upstream = connect(endpoint(serve(Console())))
    with socket.socket(fileno=socket.dup(upstream.transport.fd)) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        timeout = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert timeout == tcp.VANISHED_AFTER * 1000
    upstream.close()
