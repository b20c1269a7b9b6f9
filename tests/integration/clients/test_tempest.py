"""Tempest's own console code, before the real proxy and the simulated vSphere."""

from __future__ import annotations

from pathlib import Path

import pytest

from mksfilter.simulator.client import WEB_1

PROGRAM = Path(__file__).with_name("tempest_console.py")


@pytest.mark.parametrize(
    "link",
    [
        "?token={}",
        "?token={}&language=en",
        "vnc_auto.html?token={}",
        "vnc_lite.html?path=%3Ftoken%3D{}",
        "vnc_auto.html?path=websockify&token={}",
    ],
)
def test_it_finds_a_console_at_every_form_of_link(tempest, proxy, link):
    assert tempest.run(PROGRAM, proxy.base_url + link.format(proxy.token(WEB_1))) == "ok\n"
    proxy.wait_for_log("event=session-opened")


def test_it_sees_that_a_link_is_no_good(tempest, proxy):
    """So that the tests above prove something."""
    with pytest.raises(AssertionError, match="Got a Bad HTTP Response on the initial call: 403"):
        tempest.run(PROGRAM, f"{proxy.base_url}?token=mks1.bad")
