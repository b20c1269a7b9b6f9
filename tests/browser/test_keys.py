"""Live typing on a machine of any layout: Chromium, the proxy, and a simulated ESXi host.

The host reads RFB's keysyms by a US map, as ESXi does, and offers VMware's key messages or not.
"""

from __future__ import annotations

import base64
import struct
import time

import pytest
from playwright.sync_api import expect

from mksfilter.simulator.screen.rfb import ENCODING_VMWARE_LIGHTS
from mksfilter.simulator.screen.xkb import Guest
from tests.support.keyboards import LAYOUTS, levels

CONTROL, SHIFT, ALT, ALTGR, CAPS = 0x1D, 0x2A, 0x38, 0x138, 0x3A
# Keys that a US keyboard does not have, and no US map can name.
FOREIGN = ("IntlBackslash", "IntlRo", "IntlYen")

# Dispatches key events as Chromium does on Linux for a keyboard of that layout.
PRESS = """
(keys) => {
    const canvas = document.querySelector("#stage canvas");
    const send = (type, code, key, state) => canvas.dispatchEvent(new KeyboardEvent(type, {
        code, key, bubbles: true, cancelable: true, shiftKey: state.shift,
        modifierAltGraph: state.altgr,
    }));
    for (const [code, shift, altgr, key] of keys) {
        const state = { shift, altgr };
        if (altgr) send("keydown", "AltRight", "AltGraph", state);
        if (shift) send("keydown", "ShiftLeft", "Shift", state);
        send("keydown", code, key, state);
        send("keyup", code, key, state);
        if (shift) send("keyup", "ShiftLeft", "Shift", { altgr });
        if (altgr) send("keyup", "AltRight", "AltGraph", {});
    }
}
"""


@pytest.fixture
def console(proxy, vsphere, new_screen):
    """Opens web-1's console; fields are set of the VM before."""

    def open_console(**fields):
        vsphere.set_vm("web-1", **fields)
        screen = new_screen(proxy.page_url(proxy.token(vsphere.vm("web-1")["uuid"])))
        screen.wait_until("connected")
        screen.wait_for_picture()
        return screen

    return open_console


def downs(strokes):
    """Scan codes of the keys that are down after *strokes*."""
    state = dict(strokes)
    return {code for code, down in state.items() if down}


@pytest.mark.parametrize("offered", [True, False], ids=["vmware", "us-map"])
def test_each_key_of_each_layout_types_its_character(console, vsphere, offered):
    screen = console(key_messages=offered)
    seen = 0
    for layout, name in LAYOUTS.items():
        keys = [key for key in levels(layout) if offered or key[0] not in FOREIGN]
        screen.page.evaluate(PRESS, keys)
        events = sum(2 + 2 * shift + 2 * altgr for _, shift, altgr, _ in keys)
        strokes = vsphere.keys("web-1", count=seen + events, timeout=20)[seen:]
        seen += events
        guest = Guest(name)
        guest.read(strokes)
        assert guest.text == "".join(character for *_, character in keys), layout
        assert downs(strokes) == set()
    assert screen.complaints == []


def test_without_scan_codes_a_key_that_no_us_keyboard_has_types_nothing_wrong(console, vsphere):
    screen = console(key_messages=False)
    screen.page.evaluate(PRESS, [[code, False, False, "<"] for code in FOREIGN])
    screen.type("end")
    assert vsphere.screen("web-1", text="end") == ["web-1 login: end"]


def test_a_dead_key_is_composed_by_the_machine_and_not_by_the_browser(console, vsphere):
    screen = console(layout="de")
    dead = [["Equal", False, False, "Dead"], ["KeyE", False, False, "é"]]
    screen.page.evaluate(PRESS, [*dead, ["Backquote", False, False, "Dead"]])
    screen.page.evaluate(PRESS, [["KeyA", False, False, "â"]])
    assert vsphere.shows("web-1", "éâ")


def test_altgr_and_shift_write_a_letter_and_do_not_open_the_tool_bar(console, vsphere):
    """On Windows browsers tell AltGr as Ctrl and Alt."""
    screen = console(layout="pl")
    expect(screen.find("#tools")).to_be_hidden(timeout=8_000)
    screen.page.evaluate(
        """() => {
            const canvas = document.querySelector("#stage canvas");
            const press = (type, code, key, flags) => canvas.dispatchEvent(new KeyboardEvent(type, {
                code, key, bubbles: true, cancelable: true, ...flags,
            }));
            const altgr = { ctrlKey: true, altKey: true, modifierAltGraph: true };
            press("keydown", "AltRight", "AltGraph", altgr);
            press("keydown", "ShiftLeft", "Shift", { ...altgr, shiftKey: true });
            press("keydown", "KeyL", "Ł", { ...altgr, shiftKey: true });
            press("keyup", "KeyL", "Ł", { ...altgr, shiftKey: true });
            press("keyup", "ShiftLeft", "Shift", altgr);
            press("keyup", "AltRight", "AltGraph", {});
        }"""
    )
    assert vsphere.shows("web-1", "Ł")
    expect(screen.find("#tools")).to_be_hidden()
    screen.open_bar()


@pytest.mark.parametrize("way", ["elsewhere in the page", "another window", "disconnecting"])
def test_no_key_stays_down_on_the_machine_when_the_screen_loses_the_keyboard(console, vsphere, way):
    screen = console()
    screen.page.keyboard.down("Control")
    screen.page.keyboard.down("Alt")
    assert downs(vsphere.keys("web-1", count=2)) == {CONTROL, ALT}
    if way == "elsewhere in the page":
        screen.page.evaluate("document.activeElement.blur()")
    elif way == "another window":
        screen.page.evaluate("window.dispatchEvent(new Event('blur'))")
    else:
        screen.page.evaluate("document.getElementById('disconnect').click()")
    assert downs(vsphere.keys("web-1", count=4)) == set()


def test_a_chord_that_a_cut_interrupted_is_let_go_of_after_the_reconnect(console, vsphere):
    screen = console()
    screen.page.keyboard.down("Control")
    screen.page.keyboard.down("KeyC")
    vsphere.keys("web-1", count=2)
    vsphere.drop("web-1")
    screen.wait_until("waiting")
    screen.page.keyboard.up("KeyC")
    screen.page.keyboard.up("Control")
    screen.wait_until("connected")
    assert downs(vsphere.keys("web-1", count=4)) == set()


def test_caps_lock_of_the_machine_follows_that_of_the_keyboard(console, vsphere):
    """The guest's was switched on meanwhile, by another console."""
    screen = console()
    protocol = screen.page.context.new_cdp_session(screen.page)
    told: list[bytes] = []
    protocol.on(
        "Network.webSocketFrameReceived",
        lambda event: told.append(base64.b64decode(event["response"]["payloadData"] + "==")),
    )
    protocol.send("Network.enable")
    screen.page.keyboard.press("CapsLock")
    vsphere.keys("web-1", count=2)
    # Chromium's input here knows no locks: the keyboard in front has Caps Lock off.
    lights = struct.pack("!iI", ENCODING_VMWARE_LIGHTS, 4)
    deadline = time.monotonic() + 20
    while not any(lights in frame for frame in told):
        assert time.monotonic() < deadline
        protocol.send("Network.enable")  # what it has heard meanwhile is told with the answer
    assert vsphere.lights("web-1") == 4
    screen.type("ab")
    assert vsphere.screen("web-1", text="ab") == ["web-1 login: ab"]
    assert vsphere.lights("web-1") == 0


def test_a_character_of_an_on_screen_keyboard_is_typed_by_the_machines_layout(console, vsphere):
    screen = console(layout="de")
    screen.open_strip()
    screen.find("#layout").select_option("de")
    screen.button("Cancel").click()
    screen.page.evaluate(PRESS, [["", False, False, "z"], ["", False, False, "é"]])
    screen.page.evaluate(PRESS, [["", False, False, "€"]])
    assert vsphere.shows("web-1", "zé€")
