"""From a console URL to a machine's screen: Chromium, the proxy, the simulated vSphere."""

from __future__ import annotations

import http.client
import io
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import expect

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.request import ConsoleRequest

PICTURE = Path(__file__).parents[2] / "docs" / "console.png"


@pytest.fixture
def open_console(proxy, vsphere, new_screen):
    """Opens a machine's console by its name."""

    def open_by_name(name, *, title="", through=proxy, **claims):
        token = through.token(vsphere.vm(name)["uuid"], **claims)
        return new_screen(through.page_url(token) + (title and f"&title={title}"))

    return open_by_name


@pytest.fixture
def console(open_console):
    """web-1's console, open and drawn."""
    screen = open_console("web-1")
    screen.wait_until("connected")
    screen.wait_for_picture()
    return screen


def machines_picture(vsphere, name):
    """The machine's screen as the machine has it."""
    control = urlsplit(vsphere.control)
    connection = http.client.HTTPConnection(control.netloc)
    connection.request("GET", f"/vms/{name}/screen.png")
    picture = Image.open(io.BytesIO(connection.getresponse().read())).convert("RGB")
    connection.close()
    return picture


def wait_for_same_picture(screen, vsphere, name):
    deadline = time.monotonic() + 10
    while screen.picture().tobytes() != machines_picture(vsphere, name).tobytes():
        assert time.monotonic() < deadline, "the browser shows another picture than the machine"


def test_the_page_shows_the_machine_and_types_on_it(open_console, proxy, vsphere):
    uuid = vsphere.vm("web-1")["uuid"]
    token = proxy.token(uuid)
    screen = open_console("web-1", title=f"db-1({uuid})")
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.type("Hello, World!")
    assert any("Hello, World!" in line for line in vsphere.screen("web-1", text="Hello, World!"))
    wait_for_same_picture(screen, vsphere, "web-1")
    # vCenter's name, not what the link says.
    expect(screen.find("#title")).to_have_text("web-1")
    assert "token" not in screen.page.url
    assert "mks1." not in screen.page.url
    assert "mks1." not in screen.page.content()
    assert screen.complaints == []
    assert screen.violations() == []
    assert token.rpartition(".")[0] not in proxy.log()
    if os.environ.get("MKSFILTER_WRITE_SCREENSHOT"):
        screen.page.set_viewport_size({"width": 1080, "height": 660})
        screen.open_bar()
        expect(screen.find("#hint")).to_be_hidden(timeout=10_000)
        screen.page.screenshot(path=PICTURE)


def test_two_consoles_of_one_browser_each_show_their_own_machine_cve_2014_8750(
    open_console, vsphere
):
    screens = {name: open_console(name) for name in ("web-1", "db-1")}
    for name, screen in screens.items():
        screen.wait_until("connected")
        screen.wait_for_picture()
        screen.type(f"I am {name}")
    for name, screen in screens.items():
        assert any(f"I am {name}" in line for line in vsphere.screen(name, text="I am"))
        wait_for_same_picture(screen, vsphere, name)


def test_an_expired_link_is_a_page_that_says_so(proxy_factory, vsphere, new_screen, tmp_path):
    keys = KeyRepository(str(tmp_path / "keys"))
    keys.setup()
    proxy = proxy_factory(key_repository=tmp_path / "keys")
    yesterday = TokenCodec(keys, "tests", clock=lambda: time.time() - 86400)
    token = yesterday.issue(ConsoleRequest(vsphere.vm("web-1")["uuid"], mode="full"), ttl=600).token
    screen = new_screen(proxy.page_url(token))
    expect(screen.find("body")).to_contain_text("This console link is not valid or has expired.")
    assert screen.find("canvas").count() == 0
    assert screen.violations() == []
    assert vsphere.connections("web-1") == []
    screen = new_screen(proxy.page_url(token), locale="fr-CA")
    expect(screen.find("body")).to_contain_text("Ce lien de console n’est pas valable ou a expiré.")
    assert screen.page.evaluate("document.documentElement.lang") == "fr"


def test_a_host_that_does_not_answer_is_told_in_words(open_console, vsphere, proxy_factory):
    vsphere.set_all("host", silent=True)
    screen = open_console("web-1", through=proxy_factory(connect_timeout=1))
    screen.wait_until("ended")
    screen.wait_for_words("The console of this machine could not be opened.")
    expect(screen.button("Try again")).to_be_visible()


def test_a_dropped_console_comes_back_by_itself(console, vsphere):
    vsphere.drop("web-1")
    console.wait_until("waiting")
    console.wait_until("connected")
    console.page.keyboard.type("still here")
    assert any("still here" in line for line in vsphere.screen("web-1", text="still here"))
    assert len(vsphere.connections("web-1", count=1)) == 1
    assert console.complaints == []


def test_a_machine_that_moves_takes_its_console_along(console, vsphere):
    vsphere.vmotion("web-1")
    console.wait_until("waiting")
    console.wait_until("connected")
    console.page.keyboard.type("moved")
    assert any("moved" in line for line in vsphere.screen("web-1", text="moved"))


def test_a_link_is_good_for_a_reconnect_after_it_has_expired(open_console, vsphere, proxy_factory):
    # With once-only links too: the resume token is one of its own.
    proxy = proxy_factory(replay_cache="local")
    screen = open_console("web-1", through=proxy)
    screen.wait_until("connected")
    vsphere.drop("web-1")
    screen.wait_until("waiting")
    screen.wait_until("connected")


def test_closing_the_page_frees_the_machines_console(console, vsphere):
    assert len(vsphere.connections("web-1", count=1)) == 1
    console.page.close()
    assert vsphere.connections("web-1", count=0) == []


def test_a_view_only_console_shows_and_does_not_type(open_console, vsphere):
    screen = open_console("web-1", mode="view")
    screen.wait_until("connected")
    screen.wait_for_picture()
    expect(screen.find("#mode")).to_have_text("View only")
    screen.find("#stage").click()
    screen.page.keyboard.type("rm -rf")
    writer = open_console("web-1")
    writer.wait_until("connected")
    writer.page.keyboard.type("done")
    lines = vsphere.screen("web-1", text="done")
    assert not any("rm" in line for line in lines)
    wait_for_same_picture(screen, vsphere, "web-1")


def test_a_refusal_tells_the_limit_the_machine_and_what_an_operator_asks_for(
    open_console, proxy_factory
):
    proxy = proxy_factory(max_sessions_per_user=1)
    first = open_console("web-1", through=proxy, user_id="u1")
    first.wait_until("connected")
    second = open_console("db-1", through=proxy, user_id="u1", request_id="req-17")
    second.wait_until("ended")
    second.wait_for_words("You have 1 console open, and no more are allowed.")
    facts = second.find("#about-facts")
    second.find("#about").evaluate("(button) => button.click()")
    expect(facts).to_contain_text("req-17")
    expect(facts).to_contain_text("Node")


def test_the_page_has_the_machine_s_own_name_although_its_console_is_refused(open_console, vsphere):
    vsphere.power_off("web-1")
    screen = open_console("web-1", title="your-bank")
    screen.wait_until("waiting")
    expect(screen.find("#who")).to_have_text("web-1")
    assert screen.page.title() == "web-1 - Console"


def test_the_end_of_a_sessions_time_is_announced_and_final(open_console):
    screen = open_console("web-1", session_end=int(time.time()) + 8)
    screen.wait_until("connected")
    expect(screen.find("#hint")).to_contain_text("Ends in 0:0")
    screen.wait_until("ended")
    screen.wait_for_words("The console session has reached its time limit.")
    expect(screen.find("#retry")).to_be_hidden()


def test_a_page_leaves_a_node_that_is_taken_out_of_service(open_console, vsphere, proxy_factory):
    node = proxy_factory()
    screen = open_console("web-1", through=node)
    screen.wait_until("connected")
    node.stop()
    screen.wait_until("waiting")
    screen.wait_for_words("The console server")
    assert vsphere.connections("web-1", count=0) == []


def test_the_dashboard_may_frame_it_when_frame_ancestors_says_so(
    vsphere, proxy_factory, new_screen, dashboard
):
    proxy = proxy_factory(frame_ancestors=dashboard.origin)
    url = proxy.page_url(proxy.token(vsphere.vm("web-1")["uuid"]))
    screen = new_screen(dashboard.frame(f"{url}&title=web-1"))
    screen.enter_frame()
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.find("#stage").click()
    screen.page.keyboard.type("framed")
    assert any("framed" in line for line in vsphere.screen("web-1", text="framed"))
    assert screen.complaints == []
    assert screen.violations() == []


def test_no_other_site_may_frame_it(proxy, vsphere, new_screen, dashboard):
    url = proxy.page_url(proxy.token(vsphere.vm("web-1")["uuid"]))
    screen = new_screen(dashboard.frame(url))
    screen.wait_for_complaint("frame-ancestors")
    assert screen.page.frame_locator("iframe").locator("#stage").count() == 0
    assert vsphere.connections("web-1") == []
