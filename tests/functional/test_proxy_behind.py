"""The proxy behind load balancers: whose word on the client counts."""

from __future__ import annotations

import struct

import pytest

from mksfilter.simulator.client import WEB_1
from tests.support.proxy import parse_head, read_head

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
