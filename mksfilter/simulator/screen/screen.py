"""A text console as a picture: a VM's screen, shared by everyone who looks at it."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

from mksfilter.simulator.screen.rfb import PixelFormat, Rectangle, png_rectangle, raw_rectangle

__all__ = ["Screen"]

WIDTH, HEIGHT = 720, 400
_ROWS = 15
_ROW_HEIGHT = 20
_HEADER = 100
_MARGIN = 16
_COLUMNS = 68

_BACKGROUND = (18, 20, 28)
_BANNER = (36, 62, 99)
_TITLE = (255, 255, 255)
_TEXT = (205, 214, 224)

_BACKSPACE, _RETURN, _KEYPAD_ENTER = 0xFF08, 0xFF0D, 0xFF8D


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except OSError:  # Pillow without FreeType has one bitmap font
        return ImageFont.load_default()


class Screen:
    """What a VM shows.

    The picture is drawn on demand, row by row. Watchers are told which rows have changed and
    fetch them in an encoding of their own; an encoding is made once for all of them.
    """

    def __init__(self, title: str, *details: str) -> None:
        self.title = title
        self.lines = [f"{title} login: "]
        self.watchers: set[Callable[[set[int]], None]] = set()
        self._prompt = self.lines[0]
        self._details = details
        self._image = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
        self._draw = ImageDraw.Draw(self._image)
        self._small, self._large = _font(15), _font(36)
        self._cache: dict[tuple[Rectangle, str], bytes] = {}
        self._draw_header()
        self._stale = set(range(_ROWS))

    def press(self, keysym: int) -> None:
        """Echo a key (X11 keysym); what a prompt has no use for is ignored."""
        if keysym in (_RETURN, _KEYPAD_ENTER):
            self.lines.append(self._prompt)
        elif keysym == _BACKSPACE:
            if len(self.lines[-1]) > len(self._prompt):
                self._replace(self.lines[-1][:-1])
                return
        else:
            character = _character(keysym)
            if not character:
                return
            if len(self.lines[-1]) < _COLUMNS:
                self._replace(self.lines[-1] + character)
                return
            self.lines.append(character)
        if len(self.lines) > _ROWS:
            del self.lines[0]
            self._changed(set(range(_ROWS)))
        else:
            self._changed({len(self.lines) - 2, len(self.lines) - 1})

    def raw(self, area: Rectangle, pixels: PixelFormat) -> bytes:
        """The area as a rectangle in Raw encoding."""
        return self._encoded(
            area,
            pixels.channels,
            lambda image: raw_rectangle(area, image.tobytes("raw", pixels.channels)),
        )

    def png(self, area: Rectangle) -> bytes:
        """The area as a rectangle in TightPNG encoding."""
        return self._encoded(area, "png", lambda image: png_rectangle(area, to_png(image)))

    def picture(self) -> bytes:
        """The whole screen as a PNG file."""
        self._refresh()
        return to_png(self._image)

    @staticmethod
    def everything() -> Rectangle:
        return Rectangle(0, 0, WIDTH, HEIGHT)

    @staticmethod
    def area(rows: set[int]) -> Rectangle:
        """The smallest rectangle that holds some rows."""
        first, last = min(rows), max(rows)
        return Rectangle(0, _HEADER + first * _ROW_HEIGHT, WIDTH, (last - first + 1) * _ROW_HEIGHT)

    def _replace(self, line: str) -> None:
        self.lines[-1] = line
        self._changed({len(self.lines) - 1})

    def _changed(self, rows: set[int]) -> None:
        self._stale |= rows
        self._cache.clear()
        for watcher in list(self.watchers):
            watcher(rows)

    def _encoded(
        self, area: Rectangle, encoding: str, encode: Callable[[Image.Image], bytes]
    ) -> bytes:
        self._refresh()
        key = (area, encoding)
        if key not in self._cache:
            box = (area.x, area.y, area.x + area.width, area.y + area.height)
            self._cache[key] = encode(self._image.crop(box))
        return self._cache[key]

    def _draw_header(self) -> None:
        self._draw.rectangle((0, 0, WIDTH, _HEADER - 12), fill=_BANNER)
        self._draw.text((_MARGIN, 6), self.title, fill=_TITLE, font=self._large)
        for number, detail in enumerate(self._details):
            self._draw.text((_MARGIN, 48 + 18 * number), detail, fill=_TEXT, font=self._small)

    def _refresh(self) -> None:
        for row in self._stale:
            top = _HEADER + row * _ROW_HEIGHT
            self._draw.rectangle((0, top, WIDTH, top + _ROW_HEIGHT - 1), fill=_BACKGROUND)
            if row < len(self.lines):
                cursor = "_" if row == len(self.lines) - 1 else ""
                self._draw.text(
                    (_MARGIN, top), self.lines[row] + cursor, fill=_TEXT, font=self._small
                )
        self._stale.clear()


def to_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _character(keysym: int) -> str:
    """The character of a keysym: Latin-1 as it is, Unicode above 0x01000000."""
    if 0x20 <= keysym <= 0x7E or 0xA0 <= keysym <= 0xFF:
        return chr(keysym)
    if 0x01000100 <= keysym <= 0x0110FFFF:
        return chr(keysym - 0x01000000)
    return ""
