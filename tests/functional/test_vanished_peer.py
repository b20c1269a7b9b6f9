"""A machine that vanishes without a reset: no power, no network, nobody who answers for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from mksfilter.exceptions import UpstreamLost
from mksfilter.simulator.client import DB_1, WEB_1, start
from tests.support.network import FAR, NEAR, Network, network
from tests.support.page_client import view_page
from tests.support.proxy import parse_head, read_head, start_proxy

HAPPENINGS = {"power": Network.lose_power, "route": Network.lose_route}
SECONDS = 2


@pytest.fixture
def machines() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.mark.parametrize("happening", HAPPENINGS)
def test_a_console_host_that_vanished_is_told_to_the_page_which_comes_back(
    machines: Network, happening: str
) -> None:
    """Idle or in the middle of typing; the kernel's own times are two hours and a quarter."""
    with contextlib.ExitStack() as stack:
        with machines.on("far"):
            vsphere = stack.enter_context(start("--host", FAR))
        stack.enter_context(machines.on("near"))
        proxy = stack.enter_context(
            start_proxy(
                [vsphere.vcenter_settings(timeout=2)],
                allowed_networks=f"{FAR}/32",
                tcp_user_timeout=SECONDS,
                ping_interval=0,
                stall_timeout=60,
            )
        )
        idle, typing = (
            stack.enter_context(view_page(proxy, proxy.token(name))) for name in (WEB_1, DB_1)
        )
        for viewer in (idle, typing):
            viewer.framebuffer()
        HAPPENINGS[happening](machines)
        typing.type("hello")
        for viewer in (typing, idle):
            assert viewer.until_closed() == UpstreamLost.close_code
            assert json.loads(viewer.notes[-1])["reason"] == "upstream-lost"
        assert UpstreamLost.retry == "automatic", "the page looks for the machine by itself"
        machines.restore()
        hello = json.loads(idle.notes[0])
        resume = hello["resume"]
        with view_page(proxy, resume) as viewer:
            assert viewer.framebuffer()


def test_a_browser_that_vanished_gives_the_machines_console_free(machines: Network) -> None:
    with contextlib.ExitStack() as stack:
        with machines.on("near"):
            vsphere = stack.enter_context(start())
            proxy = stack.enter_context(
                start_proxy(
                    [vsphere.vcenter_settings()],
                    host=NEAR,
                    tcp_user_timeout=SECONDS,
                    ping_interval=0,
                    stall_timeout=SECONDS,
                )
            )
        with machines.on("far"):
            browser = stack.enter_context(proxy.connect())
            browser.sendall(proxy.handshake(proxy.token(WEB_1)))
            assert parse_head(read_head(browser)).status == 101
        machines.lose_power()
        proxy.wait_for_log("reason=client-lost", timeout=30)
        with machines.on("near"):
            assert vsphere.connections(WEB_1, count=0) == []
