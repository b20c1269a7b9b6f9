"""What a stranger costs, and what he takes from others, through the running proxy.

The parts have tests of their own: ``tests/proxy/server`` (connections, lanes),
``tests/proxy/console`` (rates, turns, the log), ``tests/proxy/relay`` (frames, TLS).
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct

import pytest

from mksfilter.simulator.client import WEB_1
from tests.support.proxy import parse_head, read_head

FILE = b"GET /static/novnc/console.js HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.page
def test_a_thousand_who_do_not_read_keep_nobody_from_page_health_or_console(proxy_factory):
    """210 kB sent by one address made everything answer 503 for 20 seconds."""
    proxy = proxy_factory()
    with contextlib.ExitStack() as stack:
        for _ in range(1050):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", proxy.port))
            sock.sendall(FILE * 4)
        assert proxy.get("/healthz").status == 200
        assert proxy.get("/").status == 200
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101


def test_one_user_who_opens_many_consoles_delays_another_by_a_turn(proxy_factory, vsphere):
    """And all of the many are opened in the end."""
    proxy = proxy_factory(max_openings_per_user=1)
    vsphere.set_vcenter(delay=0.2)
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(proxy.connect()) for _ in range(6)]
        for sock in many:
            sock.sendall(proxy.handshake(proxy.token(WEB_1, user_id="alice")))
        bob = stack.enter_context(proxy.connect())
        bob.sendall(proxy.handshake(proxy.token(WEB_1, user_id="bob")))
        assert {parse_head(read_head(sock)).status for sock in [*many, bob]} == {101}
        opened = re.findall(r"event=session-opened .*? user=(\w+)", proxy.log())
    assert opened.index("bob") < 4


def test_a_frame_of_four_exabytes_never_reaches_the_host(proxy, vsphere):
    with proxy.connect() as sock:
        sock.sendall(proxy.handshake(proxy.token(WEB_1), subprotocols=["binary"]))
        assert parse_head(read_head(sock)).status == 101
        sock.sendall(b"\x82\xff" + struct.pack("!Q", 1 << 62) + bytes(4) + b"x")
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    assert struct.pack("!H", 1009) + b"client-protocol-error" in data


def test_what_is_refused_all_day_is_a_few_lines_in_the_log(proxy_factory):
    proxy = proxy_factory()
    for _ in range(200):
        assert proxy.upgrade("mks1.bad.token.x").status == 403
    refused = proxy.log().count("event=console-refused")
    assert 50 <= refused < 120
    assert proxy.metric("mksfilter_refusals_total", reason="token-malformed") == 200
