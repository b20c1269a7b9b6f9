"""The page below a path prefix, behind a real nginx that strips the prefix or leaves it."""

from __future__ import annotations

import contextlib

import pytest

from mksfilter.simulator.client import WEB_1
from tests.support.nginx import start_nginx
from tests.support.ports import free_port

#: How nginx passes a request for ``/cell1/mks/...`` on.
STRIPS = "location /cell1/mks/ {{ proxy_pass http://127.0.0.1:{port}/; }}"
REWRITES = (
    "location ~ ^/cell1/mks(/|$)(.*) {{"
    " rewrite ^/cell1/mks(?:/|$)(.*) /$1 break; proxy_pass http://127.0.0.1:{port}; }}"
)
KEEPS = "location /cell1/mks {{ proxy_pass http://127.0.0.1:{port}; }}"


@pytest.fixture
def site(proxy_factory):
    """Starts nginx on the console's public address and a proxy behind it."""
    with contextlib.ExitStack() as stack:

        def start(location, base_path):
            public = free_port()
            base_url = f"http://127.0.0.1:{public}{base_path}" if base_path else ""
            proxy = proxy_factory(webmks_proxy_base_url=base_url, trusted_proxies="127.0.0.0/8")
            stack.enter_context(start_nginx(public, location.format(port=proxy.port)))
            return proxy, f"http://127.0.0.1:{public}"

        yield start


@pytest.mark.parametrize("location", [STRIPS, REWRITES, KEEPS], ids=["strips", "rewrites", "keeps"])
@pytest.mark.parametrize(
    "base_path",
    ["/cell1/mks/", "/cell1/mks", "/cell1/mks/vnc_auto.html?path=cell1/mks/websockify"],
    ids=["slash", "no-slash", "path"],
)
def test_a_console_opens_below_a_prefix(site, new_screen, location, base_path):
    proxy, public = site(location, base_path)
    mark = "&" if "?" in base_path else "?"
    screen = new_screen(f"{public}{base_path}{mark}token={proxy.token(WEB_1)}")
    screen.wait_until("connected")
    screen.wait_for_picture()
    assert screen.complaints == []
    assert screen.page.evaluate("getComputedStyle(document.querySelector('#bar')).position") == (
        "fixed"
    )


def test_behind_a_prefix_that_is_stripped_the_proxy_need_not_know_it(site, new_screen):
    proxy, public = site(STRIPS, "")
    screen = new_screen(f"{public}/cell1/mks/?token={proxy.token(WEB_1)}")
    screen.wait_until("connected")
    assert screen.complaints == []
