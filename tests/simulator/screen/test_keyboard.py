"""A VM's keyboard: keysyms by a US map, scan codes, and what a guest makes of them."""

from __future__ import annotations

import struct

import pytest

from mksfilter.simulator.client import WEB_1
from mksfilter.simulator.screen import rfb
from mksfilter.simulator.screen.keyboard import CAPS_LOCK, NUM_LOCK, Keyboard, scan_code
from tests.simulator.viewing import Viewer

SHIFT, CONTROL, CAPS, NUM = 0x2A, 0x1D, 0x3A, 0x45
CAPABILITIES, LIGHTS = rfb.ENCODING_VMWARE_CAPABILITIES, rfb.ENCODING_VMWARE_LIGHTS


def typed(*codes):
    """What a guest writes: a code goes down, a negative one up."""
    written = []
    keyboard = Keyboard(written.append)
    for code in codes:
        keyboard.key(abs(code), code > 0)
    return "".join(map(chr, written)), keyboard.lights


class TestKeyboard:
    @pytest.mark.parametrize(
        ("codes", "text", "lights"),
        [
            ((0x1E, -0x1E, 0x30), "ab", 0),
            ((SHIFT, 0x1E, 0x03, -SHIFT, 0x03), "A@2", 0),
            ((CAPS, -CAPS, 0x1E, 0x03, SHIFT, 0x1E), "A2a", CAPS_LOCK),
            # A key that repeats toggles once.
            ((CAPS, CAPS, 0x1E, 0x1E), "AA", CAPS_LOCK),
            ((0x47, NUM, -NUM, 0x47), "7", NUM_LOCK),
            ((CONTROL, 0x2E, -CONTROL, 0x2E), "c", 0),
            ((0x138, 0x10, -0x138), "", 0),
        ],
    )
    def test_a_us_guest(self, codes, text, lights):
        assert typed(*codes) == (text, lights)

    @pytest.mark.parametrize(
        ("keysym", "code"),
        [
            (ord("z"), 0x2C),
            (ord("Z"), 0x2C),
            (ord('"'), 0x28),
            (0xFF0D, 0x1C),
            (0xFFC9, 0x58),
            (0xFFEA, 0x138),
            (0xFFB7, 0x47),
            (ord("ö"), None),
            (0x20AC, None),
        ],
    )
    def test_a_us_map_knows_a_keysyms_key_and_no_shift(self, keysym, code):
        assert scan_code(keysym) == code


class TestConsole:
    def scan(self, *codes):
        return b"".join(
            struct.pack(">BBHHBx", 127, 0, 8, abs(code), int(code > 0)) for code in codes
        )

    def test_it_offers_key_messages_to_who_asks_and_takes_them(self, client, vsphere):
        console = client.console()
        viewer = Viewer.of(console)
        viewer.encodings(CAPABILITIES, 0)
        assert viewer.read(8) == bytes([127, 0, 0, 8, 0, 0, 0, 2])
        console.send(self.scan(SHIFT, 0x23, -0x23, -SHIFT, 0x17, -0x17))
        assert vsphere.shows(WEB_1, "Hi")
        assert vsphere.keys(WEB_1) == [
            (SHIFT, True),
            (0x23, True),
            (0x23, False),
            (SHIFT, False),
            (0x17, True),
            (0x17, False),
        ]

    def test_it_does_not_offer_them_where_it_is_told_so(self, client, vsphere):
        vsphere.set_vm(WEB_1, key_messages=False)
        viewer = Viewer.of(client.console())
        viewer.encodings(CAPABILITIES, LIGHTS, 0)
        viewer.request()
        assert viewer.update()[1] == 0
        viewer.type("a")
        assert vsphere.keys(WEB_1, count=2) == [(0x1E, True), (0x1E, False)]

    def test_the_lights_come_with_the_next_update(self, client, vsphere):
        console = client.console()
        viewer = Viewer.of(console)
        viewer.encodings(LIGHTS, 0)
        viewer.request(incremental=True)
        assert viewer.read(16 + 4)[-8:] == struct.pack(">iI", LIGHTS, 0)
        console.send(self.scan(CAPS, -CAPS))
        viewer.request(incremental=True)
        assert viewer.read(16 + 4)[-8:] == struct.pack(">iI", LIGHTS, CAPS_LOCK)
        assert vsphere.lights(WEB_1) == CAPS_LOCK

    def test_a_slow_guest_loses_what_its_queue_cannot_hold(self, client, vsphere):
        vsphere.set_vm(WEB_1, key_delay=0.01, key_queue=4)
        Viewer.of(client.console()).type("abcdef")
        assert vsphere.screen(WEB_1, text="ab") == ["web-1 login: ab"]
        assert len(vsphere.keys(WEB_1, count=4)) == 4
