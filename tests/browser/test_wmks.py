"""``console_client = wmks``: the page around VMware's HTML Console SDK.

VMware's own file may not be handed out, and is not here: ``sdk/`` holds a stand-in of its
documented API, which opens the WebSocket and speaks RFB.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from mksfilter.proxy.sdk import read
from mksfilter.proxy.web.page import Pages
from mksfilter.simulator.client import WEB_1

SDK = Path(__file__).parent / "sdk"


@pytest.fixture
def site(proxy_factory):
    return proxy_factory(console_client="wmks", wmks_dir=SDK)


@pytest.fixture
def console(site, new_screen):
    """web-1's console, open and drawn by the SDK."""
    screen = new_screen(site.page_url(site.token(WEB_1)))
    screen.wait_until("connected")
    screen.wait_for_picture()
    return screen


def calls(screen):
    return screen.page.evaluate("window.standIn.calls")


def test_the_sdk_shows_the_console_and_no_byte_of_novnc_is_loaded(console, vsphere, site):
    assert console.size()[0] > 640
    urls = console.page.evaluate("performance.getEntriesByType('resource').map(({name}) => name)")
    names = {re.sub(r".*/static/[0-9a-f]{16}/", "", url) for url in urls}
    assert {"wmks/wmks.min.js", "wmks/jquery.min.js", "wmks/css/wmks-all.css"} <= names
    assert "novnc/wmks.js" in names
    assert "novnc/console.js" not in names
    assert console.page.evaluate("window.standIn.opened") == "binary"
    # The SDK's markup has a style attribute, and has it taken.
    assert console.page.evaluate("window.standIn.canvas.style.position") == "absolute"
    assert console.violations() == []
    assert console.complaints == []
    assert "mks1." not in site.log()


def test_keys_chords_and_text_reach_the_machine(console, vsphere):
    console.type("Live: 1!")
    assert any("Live: 1!" in line for line in vsphere.screen("web-1", text="Live: 1!"))
    console.open_strip()
    # The SDK types by itself, for a machine with a US keyboard.
    expect(console.find("#layout")).to_be_hidden()
    console.find("#paste-text").fill("Text: Ab~Ö")
    expect(console.find("#paste-note")).to_contain_text("Ö")
    console.find("#paste-send").click()
    assert vsphere.shows("web-1", "Text: Ab~", timeout=20)
    assert ["sendInputString", "T"] in calls(console)
    console.open_bar()
    console.button("Ctrl-Alt-Del").click()
    console.open_bar()
    console.button("Keys").click()
    console.page.get_by_role("menuitem", name="Alt-F4", exact=True).click()
    console.open_bar()
    console.button("Keys").click()
    console.page.get_by_role("menuitem", name="Windows key").click()
    assert ["sendCAD"] in calls(console)
    assert ["sendKeyCodes", [18, 115]] in calls(console)
    assert ["sendKeyCodes", [91]] in calls(console)


def test_a_cut_console_comes_back_with_a_viewer_of_its_own(console, vsphere, site):
    console.page.evaluate("window.first = window.standIn")
    vsphere.drop("web-1")
    console.wait_until("waiting")
    console.wait_until("connected")
    console.wait_for_picture()
    assert console.page.evaluate("window.first.isDestroyed && window.first !== window.standIn")
    assert console.find("#stage .sdk").count() == 1
    console.type("back")
    assert any("back" in line for line in vsphere.screen("web-1", text="back"))
    console.page.reload()
    console.wait_until("connected")
    assert console.complaints == []


def test_the_page_hears_of_ends_and_sends_signs_of_life_as_with_novnc(console, site):
    console.open_bar()
    expect(console.find("#round-trip")).to_have_text(re.compile(r"\d ms"))
    console.button("Disconnect").click()
    console.wait_until("ended")
    console.wait_for_words("You disconnected from the console")
    assert console.find("#stage .sdk").count() == 0
    console.button("Reconnect").click()
    console.wait_until("connected")


def test_a_viewer_without_rights_sends_nothing(site, new_screen, vsphere):
    screen = new_screen(site.page_url(site.token(WEB_1, mode="view")))
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.page.mouse.click(300, 300)
    screen.page.keyboard.type("x")
    expect(screen.find("#hint")).to_have_text("View only: keys do not reach the machine")
    assert calls(screen) == []
    assert vsphere.keys("web-1") == []


def test_an_sdk_that_does_not_run_is_told_in_words(proxy_factory, new_screen, tmp_path):
    shutil.copytree(SDK, tmp_path / "sdk")
    (tmp_path / "sdk" / "wmks.min.js").write_text("throw new Error('broken');")
    site = proxy_factory(console_client="wmks", wmks_dir=tmp_path / "sdk")
    screen = new_screen(site.page_url(site.token(WEB_1)))
    screen.wait_until("ended")
    screen.wait_for_words("The console's viewer did not load, or gave up.")


def test_an_sdk_that_gives_up_ends_the_console(console):
    console.page.evaluate("window.standIn.fail()")
    console.wait_until("ended")
    console.wait_for_words("The console's viewer did not load, or gave up.")


def test_the_policy_is_looser_for_this_client_by_style_attributes_alone():
    stock = dict(Pages().console(tls=False).headers)["Content-Security-Policy"]
    pages = Pages(sdk=read(str(SDK)))
    policy = dict(pages.console(tls=False).headers)["Content-Security-Policy"]
    assert policy == f"{stock}; style-src-attr 'unsafe-inline'"
    refusal = dict(pages.message(403, "a", "b", tls=False).headers)["Content-Security-Policy"]
    assert refusal == stock


def test_the_sdk_s_files_have_their_types_are_kept_and_are_all_there_is(site):
    page = site.get("/").body.decode()
    (script,) = re.findall(r'<script defer src="(static/[0-9a-f]{16}/wmks/wmks.min.js)"', page)
    answer = site.get(f"/{script}")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    style = site.get("/static/wmks/css/wmks-all.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    for path in (
        "/static/wmks/",
        "/static/wmks/../novnc/console.js",
        "/static/wmks/..%2f..%2fetc/passwd",
        "/static/wmks/css/../../wmks.min.js",
        "/static/wmks/.hidden.js",
        "/static/wmks/css",
    ):
        assert site.get(path).status == 404, path
