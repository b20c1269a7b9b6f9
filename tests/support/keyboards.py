"""Keyboard layouts as X.org has them: the judge of what the page types.

It shares nothing with the page's own layouts (``page/src/layouts.js``).
"""

from __future__ import annotations

from collections.abc import Iterator

from mksfilter.simulator.screen.xkb import Guest

__all__ = ["ALTGR", "LAYOUTS", "SCAN_CODES", "SHIFT", "levels"]

#: X.org's names by the page's.
LAYOUTS = {"uk": "gb", "us-intl": "us(intl)", "ch-de": "ch", "ch-fr": "ch(fr)"} | {
    name: name
    for name in ("us", "be", "dk", "de", "fi", "fr", "it", "jp", "no", "pl", "pt", "es", "se")
}
_ROWS = (
    (0x02, [*(f"Digit{digit}" for digit in "1234567890"), "Minus", "Equal"]),
    (0x10, [*(f"Key{letter}" for letter in "QWERTYUIOP"), "BracketLeft", "BracketRight"]),
    (0x1E, [*(f"Key{letter}" for letter in "ASDFGHJKL"), "Semicolon", "Quote", "Backquote"]),
    (0x2B, ["Backslash", *(f"Key{letter}" for letter in "ZXCVBNM"), "Comma", "Period", "Slash"]),
)
#: Scan codes of set 1 of every key that can print something, by ``KeyboardEvent.code``.
SCAN_CODES = {code: first + at for first, row in _ROWS for at, code in enumerate(row)} | {
    "Space": 0x39,
    "IntlBackslash": 0x56,
    "IntlRo": 0x73,
    "IntlYen": 0x7D,
}
SHIFT, ALTGR = 0x2A, 0x138
# Without an AltGr: the right Alt key is another Alt there.
_NO_ALTGR = ("us", "jp")


def levels(layout: str) -> Iterator[tuple[str, bool, bool, str]]:
    """What each key prints: ``code``, Shift, AltGr, and the character.

    A dead key prints nothing by itself and is left out.
    """
    for altgr in (False, True)[: 1 if layout in _NO_ALTGR else 2]:
        for shift in (False, True):
            for code, scan in SCAN_CODES.items():
                guest = Guest(LAYOUTS[layout])
                typed = guest.chord(*[SHIFT] * shift, *[ALTGR] * altgr, scan)
                if typed and not guest.composing:
                    yield code, shift, altgr, typed
