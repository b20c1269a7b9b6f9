"""The whole screen is the machine's: what the page puts over it, and how it draws it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from PIL import Image
from playwright.sync_api import expect

from mksfilter.simulator.client import WEB_1

from .fake_server import HEIGHT, LEFT, WIDTH, Plan


@pytest.fixture
def console(fake, new_screen):
    """A console that is open and drawn, whose tool bar has gone out of the way."""

    def open_console(**options):
        screen = new_screen(f"{fake.url}?token=token&title=web-1", **options)
        connection = fake.next_connection()
        screen.wait_until("connected")
        screen.wait_for_picture()
        expect(screen.find("#tools")).to_be_hidden(timeout=8_000)
        return screen, connection

    return open_console


def press_at(connection):
    """Where the machine sees the next button of the mouse go down, in its own pixels."""
    while True:
        buttons, x, y = connection.pointers.get(timeout=10)
        if buttons:
            return x, y


@pytest.mark.parametrize("edge", ["top", "bottom"])
def test_the_machine_gets_the_mouse_beside_the_handle_of_the_hidden_bar(console, edge):
    screen, connection = console()
    if edge == "bottom":
        screen.open_bar()
        screen.button("Move to the bottom").click()
        screen.page.mouse.move(640, 300)
        screen.page.keyboard.press("Escape")
        expect(screen.find("#tools")).to_be_hidden()
    size = screen.page.viewport_size
    y = 3 if edge == "top" else size["height"] - 4
    handle = screen.find("#handle").bounding_box()
    for x in (100, handle["x"] - 4, handle["x"] + handle["width"] + 4, size["width"] - 100):
        screen.page.mouse.click(x, y)
        box = screen.find("#stage canvas").bounding_box()
        expected = (x - box["x"]) / box["width"] * WIDTH
        assert press_at(connection)[0] == pytest.approx(expected, abs=3)
    expect(screen.find("#tools")).to_be_hidden()


def test_the_bar_moves_to_the_other_edge_and_is_there_again_next_time(console, fake):
    screen, _ = console()
    screen.open_bar()
    screen.button("Move to the bottom").click()
    bottom = screen.page.viewport_size["height"]
    expect(screen.find("#bar")).to_have_attribute("data-edge", "bottom")
    screen.page.goto(f"{fake.url}?token=token")
    screen.wait_until("connected")
    screen.open_bar()
    box = screen.find("#bar").bounding_box()
    assert box["y"] + box["height"] == bottom
    screen.button("Keys").click()
    menu = screen.find("#combo-menu").bounding_box()
    assert menu["y"] >= 0
    assert menu["y"] + menu["height"] <= box["y"]
    screen.page.keyboard.press("Escape")
    screen.button("Move to the top").click()
    expect(screen.find("#bar")).to_have_attribute("data-edge", "top")


def test_a_key_for_the_machine_sends_the_bar_away(fake, new_screen):
    screen = new_screen(f"{fake.url}?token=token")
    screen.wait_until("connected")
    assert screen.find("#bar").get_attribute("data-open") == ""
    screen.page.keyboard.press("a")
    fake.next_connection().next_keys(2)
    assert screen.find("#bar").get_attribute("data-open") is None


def test_the_hint_takes_no_mouse_and_leaves_the_last_line_free(fake, new_screen):
    screen = new_screen(f"{fake.url}?token=token")
    screen.wait_until("connected")
    screen.stop_clock()
    box = screen.find("#hint").bounding_box()
    # Of a text console of 25 lines.
    line = screen.size()[1] / 25
    assert box["y"] + box["height"] <= screen.page.viewport_size["height"] - line
    at = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    hit = screen.page.evaluate("([x, y]) => document.elementFromPoint(x, y).localName", at)
    assert hit == "canvas"


@pytest.mark.parametrize(
    ("viewport", "density", "rendering"),
    [
        ({"width": 1280, "height": 800}, 1, "pixelated"),
        ({"width": 1280, "height": 720}, 1, "auto"),
        ({"width": 640, "height": 400}, 2, "pixelated"),
        ({"width": 700, "height": 420}, 2, "auto"),
    ],
)
def test_pixels_are_sharp_where_the_scale_is_a_whole_number(console, viewport, density, rendering):
    screen, _ = console(viewport=viewport, device_scale_factor=density)
    expect(screen.find("#stage canvas")).to_have_css("image-rendering", rendering)


def test_pixels_are_sharp_at_one_to_one(console):
    screen, _ = console()
    screen.open_bar()
    screen.button("Fit window").click()
    expect(screen.find("#stage canvas")).to_have_css("image-rendering", "pixelated")


def test_the_pointer_is_seen_where_the_machine_shows_none(console):
    screen, _ = console()
    screen.page.mouse.move(300, 300)
    cursor = screen.find("#stage canvas").evaluate("(canvas) => getComputedStyle(canvas).cursor")
    assert "url(" in cursor


def test_a_screenshot_is_the_machines_own_pixels_named_by_machine_and_time(fake, new_screen):
    screen = new_screen(f"{fake.url}?token=token&title={quote('a/b: c')}")
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.open_bar()
    with screen.page.expect_download() as download:
        screen.button("Screenshot").click()
    stamp = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ"
    assert re.fullmatch(rf"a-b-c-{stamp}\.png", download.value.suggested_filename)
    picture = Image.open(io.BytesIO(Path(download.value.path()).read_bytes())).convert("RGB")
    assert picture.size == (WIDTH, HEIGHT)
    assert picture.getpixel((1, 1)) == LEFT
    assert screen.violations() == []
    assert screen.complaints == []


def test_a_key_pressed_in_a_view_only_console_is_answered(fake, new_screen):
    fake.plans.append(Plan(mode="view"))
    screen = new_screen(f"{fake.url}?token=token")
    screen.wait_until("connected")
    screen.page.keyboard.press("a")
    expect(screen.find("#hint")).to_have_text("View only: keys do not reach the machine")


@pytest.mark.parametrize("where", ["title", "machine", "console"])
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("web\u202e1\u2066-\n\x1bbew", "web1-bew"),
        ("n" * 2_000, "n" * 254 + "\N{HORIZONTAL ELLIPSIS}"),
    ],
    ids=["controls", "long"],
)
def test_a_name_stays_one_line_of_text(fake, new_screen, where, given, shown):
    title = given if where == "title" else ""
    machine = given if where == "machine" else None
    fake.plans.append(Plan(machine=machine, name=given if where == "console" else ""))
    screen = new_screen(f"{fake.url}?token=token&title={quote(title)}")
    screen.wait_until("connected")
    expect(screen.find("#title")).to_have_text(shown)
    assert screen.page.title() == f"{shown} - Console"


def test_the_name_is_large_and_the_id_beside_it_is_copied_by_a_click(fake, new_screen):
    uuid = "5f1c7e20-0000-4000-8000-000000000001"
    url = f"{fake.url}?token=token&title=web-1({uuid})"
    screen = new_screen(url, viewport={"width": 1600, "height": 700})
    screen.wait_until("connected")
    assert screen.page.title() == "web-1 - Console"
    assert screen.find("canvas").get_attribute("aria-label").startswith("Screen of web-1. ")
    screen.open_bar()
    expect(screen.find("#title")).to_have_text("web-1")
    expect(screen.find("#title-id")).to_have_text(uuid)
    size = "(element) => parseFloat(getComputedStyle(element).fontSize)"
    assert screen.find("#title-id").evaluate(size) < screen.find("#title").evaluate(size)
    screen.find("#title-id").click()
    assert screen.page.evaluate("getSelection().toString()") == uuid


def test_a_title_of_ten_thousand_characters_is_a_title(proxy, new_screen):
    """Was an empty page: 414."""
    title = "%E7%94%B0" * 1_500 + "n" * 8_500
    screen = new_screen(f"{proxy.page_url(proxy.token(WEB_1))}&title={title}")
    screen.wait_until("connected")
    assert len(unquote(title)) == 10_000
    expect(screen.find("#title")).to_have_text("web-1")
    shown = screen.page.evaluate("new URLSearchParams(location.search).get('title')")
    assert shown == "\N{CJK UNIFIED IDEOGRAPH-7530}" * 254 + "\N{HORIZONTAL ELLIPSIS}"
    assert screen.complaints == []


@pytest.mark.parametrize("width", [320, 901, 1024, 1280])
def test_the_bar_fits_the_window_whatever_the_name(fake, new_screen, width):
    url = f"{fake.url}?token=token&title={'n' * 200}"
    screen = new_screen(url, viewport={"width": width, "height": 700})
    screen.wait_until("connected")
    screen.open_bar()
    fake.next_connection().control(type="notice", notice="lifetime", **{"in": 7_000})
    expect(screen.find("#notice")).to_be_visible()
    for name in ("Ctrl-Alt-Del", "Screenshot", "Disconnect"):
        box = screen.button(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
