"""Tempest, OpenStack's official test client, as its console tests look at a proxy."""

from __future__ import annotations

import time
from urllib.parse import parse_qs

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


def upgrade(proxy, query: str, origin: str = "") -> bytes:
    """What Tempest's ``create_websocket`` sends for a link with this query, byte for byte: the
    query is the cookie, and the path is the query's ``path``."""
    path = parse_qs(query).get("path", ["websockify"])[0]
    return (
        f"GET /{path} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{proxy.port}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Cookie: {query}\r\n"
        f"{origin}"
        "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: binary\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    "query",
    [
        "token={}",
        "token={}&language=en",
        "region=1&token={}",
        "path=%3Ftoken%3D{}",
        "path=websockify%3Ftoken%3D{}",
        "path=websockify&token={}",
    ],
)
def test_a_good_link_talks_rfb_over_binary(proxy, query):
    with proxy.connect() as sock:
        sock.sendall(upgrade(proxy, query.format(proxy.token(WEB_1))))
        answer = parse_head(read_head(sock))
        assert answer.status == 101
        assert answer.headers["sec-websocket-accept"] == "HSmrc0sMlYUkAGmm5OPpG2HaGWk="
        assert answer.headers["sec-websocket-protocol"] == "binary"
        assert sock.recv(14) == b"\x82\x0cRFB 003.008\n"


def test_a_browsers_cookie_opens_nothing(proxy):
    """A browser sends cookies by itself, and always an Origin."""
    origin = f"Origin: http://127.0.0.1:{proxy.port}\r\n"
    answer = proxy.exchange(upgrade(proxy, f"token={proxy.token(WEB_1)}", origin))
    assert parse_head(answer).status == 403


def test_the_page_is_a_novnc_page(proxy):
    answer = proxy.get(f"/?token={proxy.token(WEB_1)}")
    assert answer.status == 200
    for needle in (b"<html", b"noVNC", b"<script"):
        assert needle in answer.body
