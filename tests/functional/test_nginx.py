"""``etc/nginx/mksproxy.conf`` as it is, but for its addresses; and nginx as it comes."""

from __future__ import annotations

import http.client
import socket
import ssl

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.exceptions import UpgradeOverHTTP10
from mksfilter.simulator.client import WEB_1
from tests.support.behind import viewer_at
from tests.support.nginx import start_nginx_with
from tests.support.ports import free_port
from tests.support.proxy import KEY, parse_head, read_to_end
from tests.support.source import ROOT

EXAMPLE = ROOT / "etc" / "nginx" / "mksproxy.conf"
#: What an operator has who knows nothing of WebSockets.
AS_IT_COMES = """\
server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{proxy}; {more} }}
}}
"""


@pytest.fixture
def site(proxy_factory, certificate, tmp_path):
    """The port of nginx, the two nodes behind it, and how to speak to it."""
    keys = tmp_path / "keys"
    KeyRepository(str(keys)).setup()
    options = {"trusted_proxies": "127.0.0.0/8", "key_repository": keys}
    nodes = [proxy_factory(**options) for _ in range(2)]
    port = free_port()
    pem = tmp_path / "console.pem"
    pem.write_bytes(
        b"".join((certificate / f"{part}.pem").read_bytes() for part in ("cert", "key"))
    )
    text = EXAMPLE.read_text()
    for old, new in (
        ("/etc/nginx/console.pem", str(pem)),
        ("/var/log/nginx/mksproxy.log", str(tmp_path / "access.log")),
        ("/var/log/nginx/mksproxy-error.log", str(tmp_path / "error.log")),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("192.0.2.11:6090", f"127.0.0.1:{nodes[0].port}"),
        ("192.0.2.12:6090", f"127.0.0.1:{nodes[1].port}"),
    ):
        assert old in text
        text = text.replace(old, new)
    with start_nginx_with(port, text):
        yield port, nodes, ssl.create_default_context(cafile=certificate / "cert.pem")


def get(port: int, context: ssl.SSLContext, path: str):
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        )
        return parse_head(read_to_end(sock))


@pytest.mark.parametrize("prefix", ["/", "/cell1/mks/"])
def test_a_console_opens_through_the_example(site, prefix, tmp_path):
    port, nodes, context = site
    token = nodes[0].token(WEB_1)
    with viewer_at(port, token, context, prefix=prefix) as viewer:
        assert viewer.name == "web-1"
    assert get(port, context, f"{prefix}metrics").status == 404
    assert get(port, context, f"{prefix}healthz").status == 200
    logged = (tmp_path / "access.log").read_text()
    assert f"GET {prefix}healthz" in logged
    assert token not in logged


def test_a_link_with_a_long_title_passes_the_example(site):
    port, nodes, context = site
    link = f"/?token={nodes[0].token(WEB_1)}&title="
    assert get(port, context, link + "n" * 10_000).status == 200
    assert get(port, context, "/" + "n" * 10_000).status == 414


def test_a_node_that_is_gone_is_not_noticed(site, tmp_path):
    port, nodes, context = site
    token = nodes[1].token(WEB_1)
    nodes[0].stop()
    for _ in range(4):
        with viewer_at(port, token, context) as viewer:
            assert viewer.name == "web-1"
    assert token not in (tmp_path / "error.log").read_text()


@pytest.mark.parametrize(
    "more",
    ["", "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"],
    ids=["as-it-comes", "without-proxy_http_version"],
)
def test_an_nginx_that_speaks_http_1_0_is_told_which_line_it_lacks(proxy_factory, more):
    proxy = proxy_factory()
    port = free_port()
    offered = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": KEY}
    with start_nginx_with(port, AS_IT_COMES.format(port=port, proxy=proxy.port, more=more)):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("GET", f"/websockify?token={proxy.token(WEB_1)}", headers=offered)
        answer = client.getresponse()
        said = answer.read().decode()
        client.close()
    assert answer.status == 426
    assert said == f"{UpgradeOverHTTP10.hint}\n"
    assert "proxy_http_version 1.1" in proxy.wait_for_log("reason=upgrade-over-old-http")
