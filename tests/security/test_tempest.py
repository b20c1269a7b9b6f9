"""Tempest, OpenStack's official test client, as its console tests look at a proxy."""

from __future__ import annotations

import time

import pytest

from mksfilter.simulator.client import WEB_1
from tests.support.proxy import parse_head, read_head, read_to_end


@pytest.mark.parametrize("token", ["", "bad", "mks1.a.b.c", "5f1c7e20-0000-4000-8000-000000000001"])
def test_a_bad_token_is_403_without_a_body_and_the_end_of_the_connection(proxy, token):
    with proxy.connect() as sock:
        sock.sendall(proxy.handshake(token))
        answer = parse_head(read_head(sock))
        started = time.monotonic()
        assert read_to_end(sock) == b""
        assert time.monotonic() - started < 1
    assert answer.status == 403
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-length"] == "0"
    assert "transfer-encoding" not in answer.headers


def test_a_good_token_talks_rfb_over_binary(proxy):
    with proxy.connect() as sock:
        # Tempest's own handshake, header by header.
        sock.sendall(
            (
                f"GET /websockify?token={proxy.token(WEB_1)} HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{proxy.port}\r\n"
                "Upgrade: websocket\r\n"
                "Connection: Upgrade\r\n"
                "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
                "Sec-WebSocket-Version: 13\r\n"
                f"Origin: http://127.0.0.1:{proxy.port}\r\n"
                "Sec-WebSocket-Protocol: binary\r\n\r\n"
            ).encode()
        )
        answer = parse_head(read_head(sock))
        assert answer.status == 101
        assert answer.headers["sec-websocket-accept"] == "HSmrc0sMlYUkAGmm5OPpG2HaGWk="
        assert sock.recv(14) == b"\x82\x0cRFB 003.008\n"


def test_the_page_is_a_novnc_page(proxy):
    answer = proxy.get(f"/?token={proxy.token(WEB_1)}")
    assert answer.status == 200
    for needle in (b"<html", b"noVNC", b"<script"):
        assert needle in answer.body
