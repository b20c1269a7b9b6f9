"""The proxy behind load balancers: whose word on the client counts."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import subprocess
import time
from pathlib import Path

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.proxy.server.roster import DRAIN_SIGNAL
from mksfilter.simulator.client import WEB_1
from tests.support.behind import viewer_at
from tests.support.ports import free_port
from tests.support.proxy import parse_head, read_head, read_to_end

CLIENT = "198.51.100.9"
LINE = f"PROXY TCP4 {CLIENT} 10.0.0.1 5151 443\r\n".encode()
BLOCK = (
    b"\r\n\r\n\x00\r\nQUIT\n"
    + struct.pack("!BBH", 0x21, 0x11, 12)
    + bytes([198, 51, 100, 9, 10, 0, 0, 1])
    + struct.pack("!HH", 5151, 443)
)
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)
HEALTH = b"GET /healthz HTTP/1.0\r\n\r\n"


class TestProxyProtocol:
    @pytest.mark.parametrize("header", [LINE, BLOCK], ids=["v1", "v2"])
    def test_a_trusted_balancers_header_names_the_client(self, proxy_factory, header):
        proxy = proxy_factory(trusted_proxies="127.0.0.0/8", proxy_protocol="true")
        with proxy.connect() as sock:
            request = header + proxy.handshake(proxy.token(WEB_1))
            for byte in (request[:7], request[7:20], request[20:]):
                sock.sendall(byte)
            assert parse_head(read_head(sock)).status == 101
            assert f"client={CLIENT}" in proxy.wait_for_log("session-opened")
        assert proxy.exchange(LOCAL + HEALTH).endswith(b"ok\n")
        assert proxy.exchange(HEALTH) == b"", "a trusted peer has to say who its client is"

    def test_a_strangers_header_is_no_request(self, proxy_factory):
        proxy = proxy_factory(trusted_proxies="192.0.2.0/24", proxy_protocol="true")
        assert proxy.exchange(LINE + HEALTH).startswith(b"HTTP/1.1 400 ")
        assert proxy.exchange(BLOCK + HEALTH).startswith(b"HTTP/1.1 400 ")
        assert proxy.exchange(HEALTH).endswith(b"ok\n")


class TestForwardedFor:
    def test_a_trusted_balancer_names_the_client(self, proxy_factory):
        proxy = proxy_factory(trusted_proxies="127.0.0.0/8")
        headers = {"X-Forwarded-For": f"6.6.6.6, {CLIENT}"}
        assert proxy.upgrade(proxy.token(WEB_1), headers=headers).status == 101
        assert f"client={CLIENT}" in proxy.wait_for_log("session-opened")

    def test_anybody_else_does_not(self, proxy_factory):
        proxy = proxy_factory()
        headers = {"X-Forwarded-For": CLIENT, "Forwarded": f"for={CLIENT}", "X-Real-IP": CLIENT}
        assert proxy.upgrade(proxy.token(WEB_1), headers=headers).status == 101
        assert "client=127.0.0.1" in proxy.wait_for_log("session-opened")

    def test_the_rate_is_the_clients_and_not_the_balancers(self, proxy_factory):
        proxy = proxy_factory(trusted_proxies="127.0.0.0/8", connection_rate="0.1")
        token = proxy.token(WEB_1)

        def status(client: str) -> int:
            return proxy.upgrade(token, headers={"X-Forwarded-For": client}).status

        assert [status("192.0.2.1"), status("192.0.2.1"), status("192.0.2.2")] == [101, 429, 101]


HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
EXAMPLE = Path(__file__).parents[2] / "etc" / "haproxy" / "haproxy.cfg"


def _checked(node):
    return f"127.0.0.1:{node.port} check port {node.management}"


class TestHAProxy:
    """``etc/haproxy/haproxy.cfg`` as it is, but for its addresses."""

    @pytest.fixture
    def nodes(self, proxy_factory, tmp_path):
        assert HAPROXY, "haproxy is missing; run tools/install-test-tools"
        keys = tmp_path / "keys"
        KeyRepository(str(keys)).setup()
        shutil.copytree(keys, tmp_path / "keys-of-one")
        options = {"trusted_proxies": "127.0.0.0/8", "hsts_max_age": 3600}
        return [
            proxy_factory(key_repository=repository, **options)
            for repository in (tmp_path / "keys-of-one", keys)
        ]

    @pytest.fixture
    def port(self, nodes, certificate, tmp_path):
        port = free_port()
        pem = tmp_path / "console.pem"
        pem.write_bytes(
            (certificate / "cert.pem").read_bytes() + (certificate / "key.pem").read_bytes()
        )
        text = EXAMPLE.read_text()
        for old, new in (
            ("/etc/haproxy/console.pem", str(pem)),
            ("maxconn 20000", "maxconn 100"),
            ("log /dev/log", "log stderr format raw"),
            ("bind :443", f"bind 127.0.0.1:{port}"),
            *(
                (f"192.0.2.{number}:6090 check port 6091", _checked(node))
                for number, node in zip((11, 12), nodes, strict=True)
            ),
            ("192.0.2.11:6090", f"127.0.0.1:{nodes[0].port}"),
            ("192.0.2.12:6090", f"127.0.0.1:{nodes[1].port}"),
        ):
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "haproxy.cfg"
        path.write_text(text)
        process = subprocess.Popen([HAPROXY, "-db", "-f", path], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait(10)

    @pytest.fixture
    def context(self, certificate):
        return ssl.create_default_context(cafile=certificate / "cert.pem")

    def get(self, port, context, path):
        raw = socket.create_connection(("127.0.0.1", port), timeout=20)
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
            sock.sendall(request.encode())
            return parse_head(read_to_end(sock))

    def test_nobody_is_sent_to_a_node_that_is_not_ready(self, nodes, port, context, tmp_path):
        page = f"/?token={nodes[1].token(WEB_1)}"
        assert self.get(port, context, page).status == 200
        (tmp_path / "keys-of-one").rename(tmp_path / "gone")
        in_a_row, deadline = 0, time.monotonic() + 60
        while nodes[0].manage("/readyz").status == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        while in_a_row < 20:  # of which the balancer would send half to the other
            assert time.monotonic() < deadline
            in_a_row = in_a_row + 1 if self.get(port, context, page).status == 200 else 0
            time.sleep(0.1)
        assert nodes[0].get("/healthz").status == 200, "it runs all the same"

    def test_a_node_that_has_begun_to_drain_costs_nobody_a_try(self, nodes, port, context):
        """Before the balancer's next look at it."""
        nodes[0].process.send_signal(DRAIN_SIGNAL)
        nodes[0].wait_for_log("event=drain-ordered")
        token = nodes[0].token(WEB_1)
        for _ in range(8):
            with viewer_at(port, token, context) as viewer:
                assert viewer.name == "web-1"

    def test_where_no_node_is_ready_people_still_read_why(self, nodes, port, context, tmp_path):
        page = f"/?token={nodes[1].token(WEB_1)}"
        for name in ("keys-of-one", "keys"):
            (tmp_path / name).rename(tmp_path / f"{name}-gone")
        in_a_row, deadline = 0, time.monotonic() + 60
        while in_a_row < 80:  # eight seconds: the balancer has looked at both four times
            assert time.monotonic() < deadline
            answer = self.get(port, context, page)
            ours = answer.status == 503 and "content-security-policy" in answer.headers
            in_a_row = in_a_row + 1 if ours else 0
            time.sleep(0.1)

    def test_a_console_over_https(self, nodes, port, context):
        token = nodes[0].token(WEB_1)
        for _ in range(2):
            with viewer_at(port, token, context) as viewer:
                assert viewer.name == "web-1"
                viewer.framebuffer()
        assert sum(node.log().count("event=session-opened") for node in nodes) == 2

    def test_the_page_knows_that_it_came_over_tls(self, nodes, port, context):
        assert "strict-transport-security" in self.get(port, context, "/").headers

    def test_metrics_stay_inside(self, nodes, port, context):
        assert self.get(port, context, "/metrics").status == 404
