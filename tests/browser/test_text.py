"""Text typed by the page: Chromium, the proxy, a simulated ESXi host, guests of any layout."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from mksfilter.simulator.screen.xkb import Guest
from tests.support.keyboards import LAYOUTS, levels

PICTURE = Path(__file__).parents[2] / "docs" / "console-text.png"
FOREIGN = ("IntlBackslash", "IntlRo", "IntlYen")
COMPOSED = {"us": "", "jp": "", "it": "", "pl": "ôéü"}


@pytest.fixture
def strip(proxy, vsphere, new_screen):
    """Opens web-1's console with the strip for text; fields are set of the VM before."""

    def open_strip(*, page=None, **fields):
        vsphere.set_vm("web-1", **fields)
        url = proxy.page_url(proxy.token(vsphere.vm("web-1")["uuid"]))
        screen = new_screen(url, **(page or {}))
        screen.wait_until("connected")
        screen.wait_for_picture()
        screen.open_strip()
        return screen

    return open_strip


def typed(vsphere, layout="us"):
    guest = Guest(layout)
    guest.read(vsphere.keys("web-1"))
    return guest.text


def mixed(layout, offered, count):
    """Characters that keys of the layout print, in no order, with lines, tabs and spaces."""
    printed = [
        character for code, *_, character in levels(layout) if offered or code not in FOREIGN
    ]
    pool = [*printed, *COMPOSED.get(layout, "ôéü"), *" \n\t"]
    return "".join(random.Random(layout).choices(pool, k=count))


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("offered", "count"), [(True, 200), (False, 50)], ids=["vmware", "us-map"])
def test_mixed_characters_arrive_on_a_machine_of_each_layout(strip, vsphere, offered, count):
    screen = strip(key_messages=offered)
    seen = len(vsphere.keys("web-1"))
    for layout, name in LAYOUTS.items():
        vsphere.set_vm("web-1", layout=name)
        if screen.find("#paste-dialog").is_hidden():
            screen.open_strip()
            seen = len(vsphere.keys("web-1"))
        text = mixed(layout, offered, count)
        screen.find("#layout").select_option(layout)
        screen.find("#paste-text").fill(text)
        screen.button("Type it").click()
        expect(screen.find("#paste-dialog")).to_be_hidden(timeout=60_000)
        guest = Guest(name)
        guest.read(vsphere.keys("web-1")[seen:])
        assert guest.text == text, layout
    assert screen.complaints == []
    assert screen.violations() == []


def test_what_the_layout_has_not_is_shown_before_typing_and_left_out(strip, vsphere):
    screen = strip()
    screen.find("#layout").select_option("de")
    screen.find("#paste-text").fill("Größe ☃ 漢\u200b!")
    note = screen.find("#paste-note")
    expect(note).to_contain_text("Not on this keyboard, left out: ☃ 漢 U+200B")
    expect(screen.find("#paste-preview")).to_have_text("Größe␣☃␣漢\u200b!")
    assert screen.find("#paste-preview .missing").all_inner_texts()[:2] == ["☃", "漢"]
    assert typed(vsphere) == ""
    if os.environ.get("MKSFILTER_WRITE_SCREENSHOT"):
        screen.page.set_viewport_size({"width": 1080, "height": 660})
        screen.find("#paste-text").fill("sudo mount -o remount,rw / # Größe ☃\nNächste Zeile")
        expect(screen.find("#hint")).to_be_hidden(timeout=10_000)
        screen.page.screenshot(path=PICTURE)
        screen.find("#paste-text").fill("Größe ☃ 漢\u200b!")
    vsphere.set_vm("web-1", layout="de")
    screen.button("Type without them").click()
    assert vsphere.shows("web-1", "Größe  !")


def test_a_password_is_masked_and_its_characters_are_named_nowhere(strip):
    screen = strip()
    screen.find("#paste-text").fill("Pä55☃")
    screen.find("#paste-mask").check()
    expect(screen.find("#paste-preview")).to_have_text("•••••")
    expect(screen.find("#paste-note")).to_have_text(
        "Not on this keyboard, left out: 2 of the characters"
    )
    assert screen.find("#paste-text").evaluate(
        "(it) => getComputedStyle(it).webkitTextSecurity"
    ) == ("disc")
    screen.button("Cancel").click()
    expect(screen.find("#paste-text")).to_have_value("")


def test_what_windows_types_otherwise_is_said_and_typed_so_when_it_is_chosen(strip, vsphere):
    screen = strip()
    screen.find("#layout").select_option("pl")
    screen.find("#paste-text").fill("~ą")
    expect(screen.find("#paste-note")).to_contain_text("Typed otherwise on Windows")
    screen.find("#system").select_option("windows")
    expect(screen.find("#paste-note")).to_be_empty()
    screen.button("Type it").click()
    expect(screen.find("#paste-dialog")).to_be_hidden()
    downs = [code for code, down in vsphere.keys("web-1") if down]
    # Ctrl and Alt opened the tool bar. Polish Windows has a dead tilde: the space bar follows.
    assert downs[2:] == [0x2A, 0x29, 0x39, 0x138, 0x1E]


def test_a_key_that_this_host_cannot_be_asked_for_is_said_before(strip):
    screen = strip(key_messages=False)
    screen.find("#layout").select_option("de")
    screen.find("#paste-text").fill("a<b")
    expect(screen.find("#paste-note")).to_contain_text("this host does not take their key: <")


def test_the_strip_leaves_the_whole_screen_visible(strip):
    screen = strip()
    strip_box = screen.find("#paste-dialog").bounding_box()
    canvas = screen.find("#stage canvas").bounding_box()
    assert canvas["y"] + canvas["height"] <= strip_box["y"] + 1
    assert canvas["height"] > 200


def test_a_guest_that_reads_slowly_gets_every_character(strip, vsphere):
    """Its keyboard holds eight events: what comes faster is lost."""
    screen = strip(key_delay=0.03, key_queue=8)
    text = "Pa$$w0rd {[(<~`\"'|\\/?:;!@#%^&*-_=+,.>)]} ABCDEF"
    screen.find("#paste-text").fill(text)
    screen.button("Type it").click()
    expect(screen.find("#paste-dialog")).to_be_hidden(timeout=60_000)
    assert vsphere.shows("web-1", text)


def test_where_nothing_is_echoed_a_password_arrives_too(strip, vsphere):
    screen = strip(echo=False, layout="de")
    screen.find("#layout").select_option("de")
    screen.find("#paste-text").fill("Zy!x-Q@7#kÖ|~\\€Ypz&(8)=ß\n")
    screen.find("#paste-mask").check()
    screen.button("Type it").click()
    expect(screen.find("#paste-dialog")).to_be_hidden(timeout=30_000)
    assert typed(vsphere, "de") == "Zy!x-Q@7#kÖ|~\\€Ypz&(8)=ß\n"


def test_caps_lock_of_the_machine_does_not_turn_the_text_round(strip, vsphere):
    screen = strip()
    screen.page.evaluate("document.querySelector('#stage canvas').focus()")
    screen.page.keyboard.press("CapsLock")
    # Ctrl and Alt of the strip's shortcut came before it, down and up.
    vsphere.keys("web-1", count=6)
    assert vsphere.lights("web-1") == 4
    screen.find("#paste-text").fill("aB")
    screen.button("Type it").click()
    assert vsphere.shows("web-1", "aB")


def test_stopping_says_what_was_typed_and_keeps_the_rest(strip, vsphere):
    screen = strip(key_delay=0.05)
    screen.find("#paste-text").fill("x" * 300)
    screen.button("Type it").click()
    vsphere.screen("web-1", text="xxx")
    screen.button("Stop").click()
    progress = screen.find("#paste-progress")
    expect(progress).to_have_text(re.compile(r"Stopped: \d+ of 300 characters typed\."))
    number = int(re.search(r"\d+", progress.inner_text())[0])
    assert 2 < number < 100
    vsphere.set_vm("web-1", key_delay=0)
    screen.button("Type the rest").click()
    expect(screen.find("#paste-dialog")).to_be_hidden(timeout=60_000)
    assert sum(line.count("x") for line in vsphere.screen("web-1")) == 300


def test_a_key_pressed_on_the_screen_stops_the_text_and_is_not_mixed_into_it(strip, vsphere):
    screen = strip(key_delay=0.05)
    screen.find("#paste-text").fill("x" * 300)
    screen.button("Type it").click()
    vsphere.screen("web-1", text="xxx")
    screen.page.evaluate("document.querySelector('#stage canvas').focus()")
    screen.page.keyboard.press("q")
    expect(screen.find("#paste-progress")).to_contain_text("Stopped")
    (line,) = vsphere.screen("web-1", text="q")
    assert line.endswith("xq")


def test_after_a_cut_it_says_what_was_typed_and_types_the_rest(strip, vsphere):
    screen = strip(key_delay=0.05)
    text = "".join(f"{number:03} " for number in range(75))
    screen.find("#paste-text").fill(text)
    screen.button("Type it").click()
    vsphere.screen("web-1", text="003")
    vsphere.drop("web-1")
    progress = screen.find("#paste-progress")
    expect(progress).to_have_text(
        re.compile(r"The connection was lost: \d+ of 300 characters typed\..*still here")
    )
    vsphere.set_vm("web-1", key_delay=0)
    screen.wait_until("connected")
    expect(screen.find("#paste-text")).to_have_value(text)
    screen.button("Type the rest").click()
    expect(screen.find("#paste-dialog")).to_be_hidden(timeout=60_000)
    arrived = typed(vsphere)
    # The one that was on its way may be missing: the page said so.
    assert arrived == text or len(text) - len(arrived) == 1


def test_the_layout_is_preset_by_the_browsers_language_and_the_choice_kept(strip, vsphere, proxy):
    screen = strip(page={"locale": "de-CH"})
    layout, system = screen.find("#layout"), screen.find("#system")
    expect(layout).to_have_value("ch-de")
    expect(system).to_have_value("linux")
    layout.select_option("fr")
    system.select_option("windows")
    screen.page.goto(proxy.page_url(proxy.token(vsphere.vm("web-1")["uuid"])))
    screen.wait_until("connected")
    expect(layout).to_have_value("fr")
    expect(system).to_have_value("windows")
    # In a frame of another site storage may be refused: the page does without.
    screen.page.add_init_script(
        """Object.defineProperty(window, "localStorage", {
            get() { throw new DOMException("refused", "SecurityError"); },
        });"""
    )
    screen.page.goto(proxy.page_url(proxy.token(vsphere.vm("web-1")["uuid"])))
    screen.wait_until("connected")
    expect(layout).to_have_value("ch-de")
    screen.open_strip()
    layout.select_option("fr")
    assert screen.complaints == []
