"""The whole way: the real client, Nova, the page, the WebSocket, a simulated vSphere, pixels."""

from __future__ import annotations

import json

import pytest
import requests

from mksfilter.simulator.viewer import Viewer
from tests.support.proxy import start_proxy

from . import servers
from .conftest import PROXY
from .stack import CREDENTIALS

NOVA_SECTION = "[nova]\n{credentials}\nvalid_interfaces = public\ntimeout = 10\n"


@pytest.fixture
def proxy(vsphere, keys):
    """A proxy that has the keys of the filter in Nova."""
    options = {"key_repository": keys, "audience": "integration"}
    with start_proxy([vsphere.vcenter_settings()], **options) as running:
        yield running


@pytest.fixture
def proxy_for_nova(vsphere, stack, nova_api, tmp_path):
    """A proxy with ``[nova]`` credentials; it shares no key with anybody."""

    def start(user):
        credentials = CREDENTIALS.format(keystone=stack.keystone_url)
        if user != "nova":
            credentials = credentials.replace("= nova", f"= {user}").replace("service", "demo")
        path = tmp_path / "nova.conf"
        path.write_text(
            NOVA_SECTION.format(credentials=credentials.replace("nova-pw", f"{user}-pw"))
        )
        return start_proxy([vsphere.vcenter_settings()], "--config-file", str(path))

    return start


def test_console_url_of_the_client_shows_the_machines_screen(
    stack, filtered_paste, options, proxy, vsphere
):
    paste = filtered_paste.replace(PROXY, proxy.base_url)
    api = stack.nova_api(paste, "chain", options=options)
    try:
        done = stack.openstack(
            "member",
            *("console", "url", "show", "--mks", "-f", "json", "web-1"),
            OS_COMPUTE_ENDPOINT_OVERRIDE=f"{api.url}/v2.1",
        )
    finally:
        api.stop()
    assert done.returncode == 0, done.stderr
    url = json.loads(done.stdout)["url"]
    assert url.startswith(proxy.base_url)

    page = requests.get(url, timeout=30)
    assert page.status_code == 200
    assert "<html" in page.text

    with Viewer.open_page(url) as viewer:
        picture = viewer.framebuffer()
        vsphere.connections("web-1", count=1)
    assert picture.width > 0
    assert len(picture.getcolors(1 << 24)) > 1


def test_token_of_stock_nova_shows_the_machines_screen(stack, proxy_for_nova):
    token = stack.console_tokens[servers.WEB]

    with proxy_for_nova("nova") as proxy:
        with Viewer.open_page(proxy.page_url(token)) as viewer:
            assert len(viewer.framebuffer().getcolors(1 << 24)) > 1
        assert servers.WEB in proxy.log()
        assert token not in proxy.log()


def test_token_that_nova_does_not_know_is_denied(proxy_for_nova):
    with proxy_for_nova("nova") as proxy:
        answer = proxy.upgrade(servers.NONEXISTENT)

    assert (answer.status, answer.body) == (403, b"")


def test_user_who_may_not_ask_nova_is_the_operators_business(stack, proxy_for_nova):
    with proxy_for_nova("member") as proxy:
        answer = proxy.upgrade(stack.console_tokens[servers.WEB])
        line = proxy.wait_for_log("token-service-unavailable")

    assert answer.status == 503
    assert "os_compute_api:os-console-auth-tokens" in line
