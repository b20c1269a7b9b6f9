"""The console does not give up while the machine exists: power cycles, networks, sleep, clocks."""

from __future__ import annotations

import re
import time
from http import HTTPStatus

import pytest
from playwright.sync_api import expect

from mksfilter.simulator.client import OFF_1, WEB_1
from tests.support.wire import Wire

from .fake_server import Plan

TOKEN = "mks1.k1.cGF5bG9hZA.bWFj"
OFF = "Powered off. I open it when it starts."
COUNTDOWN = re.compile(r"^Trying again in \d+ s$")


@pytest.fixture
def wire(proxy):
    """Between the browser and the proxy."""
    wire = Wire(proxy.port)
    yield wire
    wire.stop()


@pytest.fixture
def console(fake, new_screen):
    """A console before the fake server, open and drawn; and the server's end of it."""
    # The page takes time that passes at once for a computer's sleep, where it sees it from outside.
    screen = new_screen(f"{fake.url}?token={TOKEN}", has_clock=True)
    connection = fake.next_connection()
    screen.wait_until("connected")
    screen.wait_for_picture()
    return screen, connection


def show(screen, visible):
    """The tab comes to the front, or goes to the back."""
    state = "visible" if visible else "hidden"
    screen.page.evaluate(
        f"""Object.defineProperty(document, "visibilityState", {{value: "{state}",
            configurable: true}});
        document.dispatchEvent(new Event("visibilitychange"))"""
    )


def test_a_machine_that_is_off_is_waited_for_and_opened_when_it_starts(
    proxy_factory, vsphere, new_screen
):
    proxy = proxy_factory(replay_cache="local", max_sessions_per_user=1)
    screen = new_screen(proxy.page_url(proxy.token(OFF_1)))
    screen.wait_for_words(OFF)
    expect(screen.find("body")).to_have_attribute("data-state", "waiting")
    expect(screen.button("Try now")).to_be_visible()
    expect(screen.button("Cancel")).to_be_visible()
    calls, began = vsphere.calls()["total"], time.monotonic()
    screen.button("Try now").click()
    screen.page.wait_for_timeout(3_000)
    assert vsphere.calls()["total"] - calls <= time.monotonic() - began + 4
    expect(screen.find("body")).to_have_attribute("data-state", "waiting")
    states = screen.page.evaluate("window.states.slice(window.states.indexOf('waiting'))")
    assert set(states) == {"waiting"}, "the questions are not seen"

    # Nobody is asked while nobody looks.
    show(screen, visible=False)
    vsphere.power_on("off-1")
    screen.page.wait_for_timeout(2_500)
    assert vsphere.connections("off-1") == []
    show(screen, visible=True)
    screen.wait_until("connected")
    screen.wait_for_picture()

    vsphere.power_off("off-1")
    screen.wait_for_words(OFF)
    vsphere.power_on("off-1")
    began = time.monotonic()
    screen.wait_until("connected")
    assert len(vsphere.connections("off-1", count=1)) == 1
    print(f"open {time.monotonic() - began:.1f} s after its start")
    screen.wait_for_picture()
    vsphere.suspend("off-1")
    screen.wait_for_words("Suspended. I open it when it resumes.")
    screen.button("Cancel").click()
    screen.wait_for_words("You disconnected from the console")
    screen.button("Reconnect").click()
    screen.wait_for_words("Suspended.")
    vsphere.delete("off-1")
    screen.wait_for_words("This machine does not exist any more")
    expect(screen.find("#retry")).to_be_hidden()
    assert screen.complaints == []


def test_a_machine_that_waits_for_an_answer_is_opened_when_it_has_one(proxy, vsphere, new_screen):
    vsphere.set_vm("web-1", fault="InvalidState", question="Moved, or copied?")
    screen = new_screen(proxy.page_url(proxy.token(WEB_1)), locale="de-DE")
    screen.wait_for_words("Wartet auf eine Antwort in vCenter.")
    expect(screen.find("#detail")).to_have_text("Moved, or copied?")
    expect(screen.find("#sign")).to_have_attribute("data-kind", "question")
    vsphere.set_vm("web-1", fault="", question="")
    screen.wait_until("connected")
    screen.wait_for_picture()
    expect(screen.find("#question")).to_be_hidden()
    assert screen.complaints == []


def test_a_machine_that_freezes_says_what_it_waits_for_beside_its_picture(
    proxy, vsphere, new_screen
):
    screen = new_screen(proxy.page_url(proxy.token(WEB_1)))
    screen.wait_until("connected")
    screen.wait_for_picture()
    height = screen.find("#stage").bounding_box()["height"]
    vsphere.set_vm("web-1", question="msg.disk:No space for /vmfs/volumes/ds/web-1/<b>.vmdk")
    strip = screen.find("#question")
    for _ in range(20):
        screen.page.keyboard.press("x")
        screen.page.wait_for_timeout(1_100)
        if strip.is_visible():
            break
    expect(strip).to_have_text(
        "This machine waits for an answer in vCenter, and stands still: No space for <b>.vmdk"
    )
    box = strip.bounding_box()
    # The picture ends where it begins.
    assert height - box["height"] - 1 < screen.find("#stage").bounding_box()["height"] <= box["y"]
    vsphere.set_vm("web-1", question="")
    expect(strip).to_be_hidden(timeout=20_000)
    assert screen.find("#stage").bounding_box()["height"] == height
    assert screen.complaints == []


def test_a_machine_whose_host_fails_is_waited_for_until_it_runs_on_another(
    proxy, vsphere, new_screen
):
    vsphere.set_vm("web-1", protected=True)
    screen = new_screen(proxy.page_url(proxy.token(WEB_1)))
    screen.wait_until("connected")
    vsphere.set_host(vsphere.host_of("web-1")["name"], responding=False)
    screen.wait_for_words("Its host has failed. I open it when it runs on another one.")
    vsphere.vmotion("web-1")
    screen.wait_until("connected")
    screen.wait_for_picture()


def test_it_goes_on_for_as_long_as_the_session_may_live(console, fake):
    screen, connection = console
    screen.stop_clock()
    fake.down = True
    connection.drop()
    for _ in range(9):
        screen.wait_until("waiting")
        # Chromium itself delays a WebSocket to where others have failed, by seconds.
        expect(screen.find("#countdown")).to_have_text(COUNTDOWN, timeout=20_000)
        screen.pass_time(30)
    screen.wait_until("waiting")
    screen.wait_for_words("The console server takes nobody at the moment.")
    expect(screen.button("Try now")).to_be_visible()
    screen.button("Cancel").click()
    # More than one attempt may have failed within a step of the clock.
    screen.wait_until("ended")
    screen.wait_for_words("You disconnected from the console")
    screen.button("Reconnect").click()
    screen.wait_until("waiting")
    fake.down = False
    # The network is back.
    screen.page.evaluate("window.dispatchEvent(new Event('online'))")
    again = fake.next_connection()
    assert again.token == "resume-1"
    screen.wait_until("connected")

    # Somebody looks again.
    fake.down = True
    again.drop()
    screen.wait_until("waiting")
    show(screen, visible=False)
    fake.down = False
    show(screen, visible=True)
    again = fake.next_connection()
    screen.wait_until("connected")

    # A token that is refused is final, whatever was there before.
    fake.plans.append(Plan(refuse=HTTPStatus.FORBIDDEN))
    again.drop()
    screen.wait_until("waiting")
    screen.button("Try now").click()
    screen.wait_until("ended")
    screen.wait_for_words("does not accept this link any more")
    expect(screen.find("#retry")).to_be_hidden()


def test_what_keeps_a_websocket_from_opening_is_told_in_words(fake, new_screen):
    fake.blocks = True
    screen = new_screen(f"{fake.url}?token={TOKEN}")
    screen.wait_for_words("blocks WebSockets")
    screen.wait_for_words("The link itself is good")
    for judgement, words in (
        (HTTPStatus.OK, "answered in the console server's place"),
        (HTTPStatus.UPGRADE_REQUIRED, "did not accept this link"),
        (HTTPStatus.BAD_GATEWAY, "takes nobody at the moment"),
        (HTTPStatus.TOO_MANY_REQUESTS, "takes nobody at the moment"),
    ):
        fake.judgement = judgement
        screen.button("Try again").click()
        screen.wait_for_words(words)
    screen.page.context.set_offline(True)
    screen.button("Try again").click()
    screen.wait_for_words("The network is gone.")
    screen.page.context.set_offline(False)
    fake.judgement = HTTPStatus.FORBIDDEN
    screen.button("Try again").click()
    screen.wait_for_words("does not accept this link any more")
    expect(screen.find("#retry")).to_be_hidden()


def test_a_newer_server_s_reason_says_itself_what_to_do(console, fake):
    screen, connection = console
    fake.plans += [
        Plan(end=("hibernated", "It hibernates."), more={"retry": "wait", "after": 0.1}),
        # As long as whoever looks once a second needs to see it.
        Plan(end=("hibernated", "It hibernates."), more={"retry": "wait", "after": 3}),
        Plan(end=("abducted", "It is gone."), more={"retry": "unheard-of"}),
    ]
    connection.drop()
    screen.wait_for_words("I open it when it has.")
    screen.wait_until("ended")
    screen.wait_for_words("It is gone.")
    expect(screen.button("Reconnect")).to_be_visible()


def test_after_eight_hours_of_sleep_and_with_another_clock_it_comes_back(
    proxy, vsphere, wire, new_screen
):
    page = f"http://127.0.0.1:{wire.port}/?token={proxy.token(WEB_1)}"
    screen = new_screen("about:blank")
    # The computer's clock is a year slow, until somebody sets it while the page is open.
    screen.page.clock.install(time=time.time() - 366 * 86_400)
    screen.page.goto(page)
    screen.wait_until("connected")
    screen.wait_for_picture()
    vsphere.drop("web-1")
    screen.wait_until("waiting")
    screen.wait_until("connected")
    screen.page.clock.set_system_time(time.time())
    vsphere.drop("web-1")
    screen.wait_until("waiting")
    screen.wait_until("connected")
    # As when the lid is closed: the connection is dead, and nobody says so.
    wire.silent = True
    screen.page.clock.fast_forward("08:00:00")
    screen.wait_until("waiting")
    wire.silent = False
    screen.wait_until("connected")
    screen.page.keyboard.type("awake")
    assert vsphere.shows("web-1", "awake")
