"""The console on a phone: fingers, as the browser's own protocol plays them."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from .fake_server import HEIGHT, WIDTH, Plan

ESCAPE, TAB, RETURN, BACKSPACE = 0xFF1B, 0xFF09, 0xFF0D, 0xFF08
CONTROL, ALT, LEFT_KEY, F2 = 0xFFE3, 0xFFE9, 0xFF51, 0xFFBF
PORTRAIT, LANDSCAPE = {"width": 390, "height": 844}, {"width": 844, "height": 390}


class Phone:
    """A console on a phone, and the fingers on it."""

    def __init__(self, screen, connection):
        self.screen = screen
        self.connection = connection
        self._cdp = screen.page.context.new_cdp_session(screen.page)

    def touch(self, kind, *points):
        named = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        self._cdp.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": named})

    def tap(self, *points):
        self.touch("Start", *points)
        self.touch("End")

    def move(self, starts, ends, steps=6):
        """Fingers go from *starts* to *ends*, and leave."""
        self.touch("Start", *starts)
        for step in range(1, steps + 1):
            points = [
                (x + (to_x - x) * step / steps, y + (to_y - y) * step / steps)
                for (x, y), (to_x, to_y) in zip(starts, ends, strict=True)
            ]
            self.touch("Move", *points)
            # noVNC looks for 50 ms whether fingers pinch or drag.
            self.screen.page.wait_for_timeout(20)
        self.touch("End")

    def picture(self):
        return self.screen.find("#stage canvas").bounding_box()

    def pressed(self, button, count=1):
        """Where the machine sees *button* go down, *count* times, in its own pixels."""
        found = []
        while len(found) < count:
            buttons, x, y = self.connection.pointers.get(timeout=10)
            if buttons & button:
                found.append((x, y))
        return found

    def keys(self, *expected):
        got = self.connection.next_keys(len(expected))
        assert got == list(expected)

    def too_small(self):
        """Buttons that a finger misses, or that are not on the screen."""
        return self.screen.view.evaluate(
            """() => [...document.querySelectorAll("button")]
                .filter((button) => button.checkVisibility({visibilityProperty: true}))
                .filter((button) => button.id !== "handle")
                .map((button) => [button.textContent.trim(), button.getBoundingClientRect()])
                .filter(([, box]) => box.width < 44 || box.height < 44
                    || box.left < 0 || box.right > innerWidth)
                .map(([text, box]) => `${text} ${box.width}x${box.height} at ${box.left}`)"""
        )

    def key(self, name):
        self.screen.find(f'[data-key="{name}"]').tap()


@pytest.fixture
def phone(fake, new_screen):
    def open_phone(viewport=PORTRAIT, mode="full"):
        fake.plans.append(Plan(mode=mode))
        screen = new_screen(
            f"{fake.url}?token=token&title=web-1",
            viewport=viewport,
            has_touch=True,
            is_mobile=True,
            device_scale_factor=2,
        )
        connection = fake.next_connection()
        screen.wait_until("connected")
        screen.wait_for_picture()
        return Phone(screen, connection)

    return open_phone


def down_up(*keysyms):
    return [(key, True) for key in keysyms] + [(key, False) for key in reversed(keysyms)]


def middle(box):
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_fingers_are_a_mouse_and_bring_the_picture_nearer(phone):
    phone = phone()
    box = phone.picture()
    x, y = middle(box)
    # A tap is a click where the finger is; two fingers click right, and scroll.
    phone.tap((x + 60, y + 20))
    expected = (WIDTH / 2 + 60 * WIDTH / box["width"], HEIGHT / 2 + 20 * HEIGHT / box["height"])
    assert phone.pressed(1)[0] == pytest.approx(expected, abs=3)
    phone.tap((x - 20, y), (x + 20, y))
    phone.pressed(4)
    phone.move([(x - 20, y - 60), (x + 20, y - 60)], [(x - 20, y + 80), (x + 20, y + 80)])
    phone.pressed(8, 2)
    # A pinch, which begins beside the small picture, changes nothing on the machine.
    phone.move([(x - 20, y - 150), (x + 20, y + 150)], [(x - 40, y - 300), (x + 40, y + 300)])
    near = phone.picture()
    assert near["width"] == pytest.approx(2 * box["width"], rel=0.1)
    # What was between the fingers is there still, and a tap finds it.
    phone.tap((x, y))
    assert phone.pressed(1)[0] == pytest.approx((WIDTH / 2, HEIGHT / 2), abs=4)
    # Two fingers move it now, and never off the screen.
    phone.move([(x - 20, y), (x + 20, y)], [(x + 380, y), (x + 420, y)])
    assert phone.picture()["x"] == pytest.approx(0, abs=1)
    phone.tap((1, y))
    assert phone.pressed(1)[0][0] == pytest.approx(0, abs=3)
    phone.move([(x - 120, y - 200), (x + 120, y + 200)], [(x - 20, y - 30), (x + 20, y + 30)])
    assert phone.picture() == pytest.approx(box)
    assert phone.connection.keys.empty()
    assert phone.screen.complaints == []


def test_a_touch_beside_the_picture_is_no_click_at_its_edge(phone):
    phone = phone()
    x, y = middle(phone.picture())
    phone.tap((x, 700))
    phone.tap((x, y))
    assert phone.pressed(1)[0] == pytest.approx((WIDTH / 2, HEIGHT / 2), abs=3)


@pytest.mark.parametrize("viewport", [PORTRAIT, LANDSCAPE], ids=["portrait", "landscape"])
def test_the_bar_names_the_machine_and_all_of_it_is_large_enough_for_fingers(phone, viewport):
    phone = phone(viewport)
    find = phone.screen.find
    expect(find("#hint")).to_contain_text("pinch")
    expect(find("#handle")).to_be_visible(timeout=12_000)  # the bar has been shown once, and went
    handle = find("#handle").bounding_box()
    # Below the handle as far as a finger is wide.
    phone.tap((handle["x"] + 48, handle["y"] + 40))
    expect(find("#title")).to_be_visible()
    expect(find("#title")).to_have_text("web-1")
    find("#combos").tap()
    expect(find("#combo-menu")).to_be_visible()
    assert phone.too_small() == []
    phone.screen.keep(f"phone-{viewport['width']}")
    phone.screen.button("Keyboard").tap()
    expect(find("#touch-keys")).to_be_visible()
    assert phone.too_small() == []
    stage, keys = find("#stage").bounding_box(), find("#touch-keys").bounding_box()
    assert stage["y"] + stage["height"] == pytest.approx(keys["y"], abs=1)
    assert keys["y"] + keys["height"] == pytest.approx(viewport["height"], abs=1)


def test_the_devices_own_keyboard_types_and_the_row_has_what_it_lacks(phone):
    phone = phone()
    page = phone.screen.page
    phone.screen.open_bar()
    phone.connection.next_keys(4)  # two of the chord that opened it, down and up
    phone.screen.button("Keyboard").tap()
    expect(phone.screen.find("#touch-text")).to_be_focused()
    # What on-screen keyboards do: text without keys.
    page.keyboard.insert_text("a")
    phone.keys(*down_up(ord("a")))
    page.keyboard.press("Backspace")
    phone.keys(*down_up(BACKSPACE))
    page.keyboard.insert_text("\n")
    phone.keys(*down_up(RETURN))
    # A word that is corrected while it is composed.
    cdp = page.context.new_cdp_session(page)
    for text in ("x", "xy", "z"):
        cdp.send(
            "Input.imeSetComposition",
            {"text": text, "selectionStart": len(text), "selectionEnd": len(text)},
        )
    typed = [ord("x"), ord("y"), BACKSPACE, BACKSPACE, ord("z")]
    phone.keys(*[each for key in typed for each in down_up(key)])
    cdp.send("Input.insertText", {"text": "z"})
    for name, keysym in (("Escape", ESCAPE), ("Tab", TAB), ("ArrowLeft", LEFT_KEY)):
        phone.key(name)
        phone.keys(*down_up(keysym))
    # Once for the next key, twice until it is tapped again.
    phone.key("ControlLeft")
    page.keyboard.insert_text("c")
    phone.keys(*down_up(CONTROL, ord("c")))
    page.keyboard.insert_text("d")
    phone.keys(*down_up(ord("d")))
    phone.key("ControlLeft")
    phone.key("AltLeft")
    phone.key("AltLeft")
    phone.key("more")
    phone.key("F2")
    phone.keys(*down_up(CONTROL, ALT, F2))
    phone.key("F2")
    phone.keys(*down_up(ALT, F2))
    phone.key("AltLeft")
    phone.key("F2")
    phone.keys(*down_up(F2))
    expect(phone.screen.find("#touch-text")).to_be_focused()
    phone.screen.keep("phone-keys")
    assert phone.screen.complaints == []


def test_a_view_only_console_has_no_keyboard_and_can_be_brought_nearer(phone):
    phone = phone(mode="view")
    box = phone.picture()
    x, y = middle(box)
    phone.move([(x - 20, y - 20), (x + 20, y + 20)], [(x - 60, y - 60), (x + 60, y + 60)])
    assert phone.picture()["width"] > 2 * box["width"]
    phone.screen.open_bar()
    expect(phone.screen.find("#touch")).to_be_hidden()
