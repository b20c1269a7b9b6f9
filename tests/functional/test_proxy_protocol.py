"""A real HAProxy in TCP mode tells who the client is, by both versions of the PROXY protocol."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from mksfilter.simulator.client import WEB_1
from tests.support.ports import free_port
from tests.support.proxy import parse_head, read_head

HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
#: HAProxy's own address is 127.0.0.1; the whole of 127.0.0.0/8 is this machine.
CLIENT = "127.0.0.77"


@pytest.fixture
def balancer(tmp_path):
    """Start HAProxy in front of a port; returns the port it listens on."""
    assert HAPROXY, "haproxy is missing; run tools/install-test-tools"
    running = []

    def start(server: int, option: str) -> int:
        port = free_port()
        config = tmp_path / f"{option}.cfg"
        config.write_text(
            "global\n  maxconn 100\n"
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n"
            "  timeout server 30s\n"
            f"listen consoles\n  bind 127.0.0.1:{port}\n"
            f"  server proxy 127.0.0.1:{server} {option}\n"
        )
        process = subprocess.Popen([HAPROXY, "-db", "-f", config], stderr=subprocess.DEVNULL)
        running.append(process)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return port
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(CLIENT, 0))


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"])
def test_haproxy_names_the_client(proxy_factory, balancer, option):
    proxy = proxy_factory(trusted_proxies="127.0.0.1/32", proxy_protocol="true")
    with connect(balancer(proxy.port, option)) as sock:
        # The client's own word about itself counts for nothing: it is not the load balancer.
        headers = {"X-Forwarded-For": "203.0.113.5"}
        sock.sendall(proxy.handshake(proxy.token(WEB_1), headers=headers))
        assert parse_head(read_head(sock)).status == 101
        assert f"client={CLIENT}" in proxy.wait_for_log("session-opened")


def test_tls_may_end_at_the_proxy_behind_it(proxy_factory, balancer, certificate):
    proxy = proxy_factory(
        *("--certfile", str(certificate / "cert.pem"), "--keyfile", str(certificate / "key.pem")),
        tls=True,
        trusted_proxies="127.0.0.1/32",
        proxy_protocol="true",
    )
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    raw = connect(balancer(proxy.port, "send-proxy-v2"))
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
        sock.sendall(proxy.handshake(proxy.token(WEB_1)))
        assert parse_head(read_head(sock)).status == 101
        assert f"client={CLIENT}" in proxy.wait_for_log("session-opened")


def test_a_header_from_somebody_else_is_no_request(proxy_factory, balancer):
    proxy = proxy_factory(trusted_proxies="192.0.2.0/24", proxy_protocol="true")
    with connect(balancer(proxy.port, "send-proxy")) as sock:
        sock.sendall(proxy.handshake(proxy.token(WEB_1)))
        assert parse_head(read_head(sock)).status == 400
