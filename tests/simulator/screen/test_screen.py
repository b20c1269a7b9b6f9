"""What a VM's console shows, by the bytes that a viewer gets."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops

from mksfilter.simulator.client import WEB_1
from mksfilter.simulator.screen import rfb
from mksfilter.simulator.screen.screen import Screen
from tests.simulator.viewing import Viewer

RAW, TIGHT_PNG = 0, -260


def picture(update):
    (_, _, width, height), encoding, data = update
    if encoding == RAW:
        return Image.frombytes("RGB", (width, height), data, "raw", "BGRX")
    return Image.open(io.BytesIO(data)).convert("RGB")


def same(one, other):
    return ImageChops.difference(one, other).getbbox() is None


class TestScreen:
    def test_two_vms_look_different(self):
        one, other = Screen("web-1").picture(), Screen("db-1").picture()
        assert one != other

    def test_typed_characters_follow_the_prompt(self):
        screen = Screen("web-1")
        for character in "ab é€":
            code = ord(character)
            screen.press(code if code < 0x100 else 0x01000000 + code)
        assert screen.lines == ["web-1 login: ab é€"]

    def test_return_opens_a_new_line_and_backspace_stops_at_the_prompt(self):
        screen = Screen("web-1")
        for keysym in (ord("a"), ord("b"), 0xFF08, 0xFF0D, 0xFF08, ord("c")):
            screen.press(keysym)
        assert screen.lines == ["web-1 login: a", "web-1 login: c"]

    def test_keys_that_write_nothing_change_nothing(self):
        screen = Screen("web-1")
        before = screen.picture()
        for keysym in (0xFFE1, 0xFFE3, 0xFF1B, 0xFFBE):  # Shift, Control, Escape, F1
            screen.press(keysym)
        assert screen.picture() == before

    def test_full_screen_scrolls(self):
        screen = Screen("web-1")
        for number in range(40):
            screen.press(ord("0") + number % 10)
            screen.press(0xFF0D)
        assert len(screen.lines) == 15
        assert screen.lines[0] == "web-1 login: 6"

    def test_watchers_hear_which_rows_changed(self):
        screen, heard = Screen("web-1"), []
        screen.watchers.add(heard.append)
        screen.press(ord("a"))
        screen.press(0xFF0D)
        assert heard == [{0}, {0, 1}]


class TestUpdates:
    def test_raw_and_png_show_the_same(self, client):
        one, other = Viewer.of(client.console()), Viewer.of(client.console())
        other.encodings(TIGHT_PNG, RAW)
        one.request()
        other.request()
        raw, png = one.update(), other.update()

        assert (raw[1], png[1]) == (RAW, TIGHT_PNG)
        assert same(picture(raw), picture(png))
        assert len(png[2]) < len(raw[2]) / 20

    def test_incremental_update_waits_for_a_change_and_is_the_row_that_changed(self, client):
        viewer = Viewer.of(client.console())
        viewer.request()
        before = picture(viewer.update())
        viewer.request(incremental=True)
        viewer.type("x")
        update = viewer.update()
        x, y, width, height = update[0]

        assert height == 20
        row = (x, y, x + width, y + height)
        assert not same(picture(update), before.crop(row))
        viewer.request()
        assert same(picture(update), picture(viewer.update()).crop(row))

    def test_full_update_leaves_nothing_for_the_next_one(self, client, vsphere):
        viewer = Viewer.of(client.console())
        viewer.type("a\nb")
        vsphere.screen(WEB_1, text="login: b")
        viewer.request()
        viewer.update()
        viewer.request(incremental=True)
        viewer.type("c")
        assert viewer.update()[0][3] == 20

    def test_everyone_sees_what_one_types(self, client):
        one, other = Viewer.of(client.console()), Viewer.of(client.console())
        other.request()
        other.update()
        other.request(incremental=True)
        one.type("x")
        assert other.update()[0][3] == 20

    def test_pixel_format_that_novnc_asks_for(self, client):
        viewer = Viewer.of(client.console())
        viewer.pixel_format(rfb.PixelFormat(red_shift=0, green_shift=8, blue_shift=16))
        viewer.request()
        (_, _, width, height), _, data = viewer.update()
        swapped = Image.frombytes("RGB", (width, height), data, "raw", "RGBX")
        other = Viewer.of(client.console())
        other.request()
        assert same(swapped, picture(other.update()))

    def test_screen_is_as_new_after_a_reset(self, client, vsphere):
        Viewer.of(client.console()).type("secret")
        vsphere.screen(WEB_1, text="secret")
        vsphere.reset()
        assert vsphere.screen(WEB_1) == ["web-1 login: "]


class TestReader:
    """RFC 6143 from the server's side, without a network."""

    def test_handshake_in_pieces_of_any_size(self):
        reader = rfb.RFBReader()
        for byte in b"RFB 003.008\n\x01\x01":
            assert reader.feed(bytes([byte])) == []
        assert reader.ready
        assert reader.replies == [b"\x01\x01", bytes(4)]

    def test_events_come_in_order(self):
        reader = rfb.RFBReader(handshake=False)
        key = bytes([4, 1, 0, 0, 0, 0, 0, 97])
        pointer = bytes([5, 0, 0, 1, 0, 1])
        clipboard = bytes([6, 0, 0, 0, 0, 0, 0, 2]) + b"hi"
        extended = bytes([6, 0, 0, 0, 255, 255, 255, 254]) + b"hi"
        vmware = bytes([127, 0, 0, 8]) + bytes(4)
        request = bytes([3, 1, 0, 0, 0, 0, 0, 9, 0, 9])
        events = reader.feed(key + pointer + clipboard + extended + vmware + request)
        assert events == [
            rfb.KeyEvent(True, 97),
            rfb.ScanCode(False, 0),
            rfb.UpdateRequest(True, rfb.Rectangle(0, 0, 9, 9)),
        ]

    @pytest.mark.parametrize(
        "data",
        [
            b"RFB 003.003\n",
            b"RFB 003.008\n\x02",
            b"RFB 003.008\n\x01\x01\xfe",
            b"RFB 003.008\n\x01\x01\x06\x00\x00\x00\x7f\xff\xff\xff",
            b"RFB 003.008\n\x01\x01" + bytes([0, 0, 0, 0, 8, 8, 0, 1]) + bytes(12),
        ],
        ids=["version", "security", "message", "clipboard", "pixels"],
    )
    def test_what_breaks_the_protocol(self, data):
        with pytest.raises(rfb.RFBError):
            rfb.RFBReader().feed(data)

    @pytest.mark.parametrize(
        ("pixels", "channels"),
        [
            (rfb.PixelFormat(), "BGRX"),
            (rfb.PixelFormat(big_endian=True), "XRGB"),
            (rfb.PixelFormat(False, 0, 8, 16), "RGBX"),
            (rfb.PixelFormat(True, 24, 16, 8), "RGBX"),
        ],
    )
    def test_order_of_the_channels(self, pixels, channels):
        assert rfb.PixelFormat.unpack(pixels.pack()) == pixels
        assert pixels.channels == channels

    @pytest.mark.parametrize("size", [1, 0x7F, 0x80, 0x3FFF, 0x4000, 0x12345])
    def test_length_of_a_tight_png(self, size):
        rectangle = rfb.png_rectangle(rfb.Rectangle(0, 0, 1, 1), bytes(size))
        assert rectangle[12:13] == b"\xa0"
        length = shift = 0
        for position, byte in enumerate(rectangle[13:16], 1):
            length |= (byte & 0x7F if position < 3 else byte) << shift
            shift += 7
            if position == 3 or byte < 0x80:
                break
        assert (length, len(rectangle)) == (size, 13 + position + size)
