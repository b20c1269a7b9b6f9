"""A VM's keyboard: what a host makes of keysyms, and what a guest makes of scan codes.

Scan codes are those of set 1 as VMware writes them: a key with the prefix E0 has bit 8 set, and
Pause is 0x100. The host turns RFB's keysyms into scan codes by a US map and looks at no Shift,
as ESXi does. The guest has a US layout, unless it is told another (:mod:`.xkb`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mksfilter.simulator.screen.xkb import Guest

__all__ = ["CAPS_LOCK", "NUM_LOCK", "SCROLL_LOCK", "Keyboard", "scan_code", "unicode_keysym"]

#: Bits of the keyboard's lights.
SCROLL_LOCK, NUM_LOCK, CAPS_LOCK = 1, 2, 4

_ROWS: Final = (
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1E, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", " "),
)
_PLAIN: Final = {first + at: c for first, row, _ in _ROWS for at, c in enumerate(row)}
_SHIFTED: Final = {first + at: c for first, _, row in _ROWS for at, c in enumerate(row)}
_KEYPAD: Final = dict(zip(range(0x47, 0x54), "789-456+1230.", strict=True)) | {
    0x37: "*",
    0x135: "/",
}

_BACKSPACE, _TAB, _RETURN = 0xFF08, 0xFF09, 0xFF0D
# Keys without a character: scan codes from a first keysym (X11's keysymdef.h) on.
_RUNS: Final = (
    (_BACKSPACE, "E F"),
    (_RETURN, "1C"),
    (0xFF13, "100 46"),
    (0xFF1B, "1"),
    (0xFF50, "147 14B 148 14D 150 149 151 14F"),
    (0xFF61, "137"),
    (0xFF63, "152"),
    (0xFF67, "15D"),
    (0xFF7F, "45"),
    (0xFF8D, "11C"),
    (0xFF95, "47 4B 48 4D 50 49 51 4F 4C 52 53"),
    (0xFFAA, "37 4E 53 4A 53 135 52 4F 50 51 4B 4C 4D 47 48 49"),
    (0xFFBE, "3B 3C 3D 3E 3F 40 41 42 43 44 57 58"),
    (0xFFE1, "2A 36 1D 11D 3A"),
    (0xFFE9, "38 138 15B 15C"),
    (0xFFFF, "153"),
)
_NAMED: Final = {
    first + at: int(code, 16) for first, run in _RUNS for at, code in enumerate(run.split())
}
_KEYS: Final = {
    **{ord(c): code for table in (_PLAIN, _SHIFTED) for code, c in table.items()},
    **_NAMED,
}

_SHIFTS: Final = frozenset({0x2A, 0x36})
_CHORDS: Final = frozenset({0x1D, 0x11D, 0x38, 0x138, 0x15B, 0x15C})
_LOCKS: Final = {0x46: SCROLL_LOCK, 0x45: NUM_LOCK, 0x3A: CAPS_LOCK}
_CONTROLS: Final = {"\b": _BACKSPACE, "\t": _TAB, "\n": _RETURN}
_WRITES: Final = {0x0E: _BACKSPACE, 0x0F: _TAB, 0x1C: _RETURN, 0x11C: _RETURN}


def scan_code(keysym: int) -> int | None:
    """The key that a US map has for a keysym; None: it has none."""
    return _KEYS.get(keysym)


def unicode_keysym(character: str) -> int:
    """The keysym of a character: Latin-1 as it is, Unicode above 0x01000000."""
    point = ord(character)
    return point if point < 0x100 else 0x01000000 + point


class Keyboard:
    """What a guest makes of its keys.

    :param write: takes the keysym of what was typed.
    :param layout: the guest's, as X.org names it.
    :raises XkbError: the layout is not ``us``, and not known here.
    :ivar strokes: every key that reached the guest: scan code, and whether it went down.
    :ivar lights: Scroll, Num and Caps Lock, as the guest has them.
    """

    def __init__(self, write: Callable[[int], None], layout: str = "us") -> None:
        self._guest: Guest | None = None
        self.change_layout(layout)
        self.strokes: list[tuple[int, bool]] = []
        self.lights = 0
        self._write = write
        self._down: set[int] = set()

    def change_layout(self, layout: str) -> None:
        """Give the guest another layout.

        :raises XkbError: it is not ``us``, and not known here.
        """
        self._guest = None if layout == "us" else Guest(layout)

    def key(self, code: int, down: bool) -> None:
        """A key goes down, again while it repeats, or up."""
        self.strokes.append((code, down))
        fresh = down and code not in self._down
        if down:
            self._down.add(code)
        else:
            self._down.discard(code)
        if fresh:
            self.lights ^= _LOCKS.get(code, 0)
        if self._guest is not None:
            for character in self._guest.read([(code, down)]):
                self._write(_CONTROLS.get(character) or unicode_keysym(character))
        elif down and not self._down & _CHORDS:
            keysym = self._typed(code)
            if keysym is not None:
                self._write(keysym)

    def _typed(self, code: int) -> int | None:
        if code in _WRITES:
            return _WRITES[code]
        if code in _KEYPAD:
            digits = self.lights & NUM_LOCK or not (_KEYPAD[code].isdigit() or code == 0x53)
            return ord(_KEYPAD[code]) if digits else None
        shifted = bool(self._down & _SHIFTS)
        if _PLAIN.get(code, "").isalpha():
            shifted ^= bool(self.lights & CAPS_LOCK)
        character = (_SHIFTED if shifted else _PLAIN).get(code)
        return None if character is None else ord(character)
