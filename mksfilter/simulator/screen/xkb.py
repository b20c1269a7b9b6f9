"""What a Linux guest makes of its keys: libxkbcommon with X.org's keyboard layouts.

Needs libxkbcommon, X.org's layouts and its table of compositions (Debian: libxkbcommon0, xkb-data,
libx11-data), and only where a guest has another layout than ``us``.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from collections.abc import Iterable
from typing import Any

from mksfilter.exceptions import OperationError

__all__ = ["Guest", "XkbError"]

_COMPOSING, _COMPOSED, _CANCELLED = 1, 2, 3
# Linux's key codes (input-event-codes.h) by scan codes, where they differ; bit 8 is E0.
_LINUX = {0x73: 89, 0x7D: 124, 0x79: 92, 0x7B: 94, 0x70: 93}
_LINUX |= {0x138: 100, 0x11D: 97, 0x11C: 96, 0x135: 98, 0x15B: 125, 0x15C: 126, 0x15D: 127}
# X11's key codes are Linux's and 8.
_X11 = 8
_NAMED = {0xFF0D: "\n", 0xFF8D: "\n", 0xFF09: "\t", 0xFF08: "\b"}


class XkbError(OperationError):
    """There is no such layout, or no libxkbcommon."""


class _Names(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_char_p) for name in ("rules", "model", "layout", "variant", "options")
    ]


@functools.cache
def _library() -> Any:
    name = ctypes.util.find_library("xkbcommon")
    if name is None:
        raise XkbError("libxkbcommon is missing; install libxkbcommon0, xkb-data and libx11-data")
    library = ctypes.CDLL(name)
    for function in (
        "xkb_context_new",
        "xkb_keymap_new_from_names",
        "xkb_state_new",
        "xkb_compose_table_new_from_locale",
        "xkb_compose_state_new",
    ):
        getattr(library, function).restype = ctypes.c_void_p
    return library


def _made(pointer: int | None, what: str) -> ctypes.c_void_p:
    if not pointer:
        raise XkbError(f"libxkbcommon has no {what}; install xkb-data and libx11-data")
    return ctypes.c_void_p(pointer)


@functools.cache
def _context() -> ctypes.c_void_p:
    return _made(_library().xkb_context_new(0), "context")


@functools.cache
def _compositions() -> ctypes.c_void_p:
    table = _library().xkb_compose_table_new_from_locale(_context(), b"en_US.UTF-8", 0)
    return _made(table, "table of compositions")


@functools.cache
def _keymap(name: str) -> ctypes.c_void_p:
    layout, _, variant = name.rstrip(")").partition("(")
    model = b"jp106" if layout == "jp" else b"pc105"
    names = _Names(b"evdev", model, layout.encode(), variant.encode(), b"")
    keymap = _library().xkb_keymap_new_from_names(_context(), ctypes.byref(names), 0)
    return _made(keymap, f"layout {name}")


class Guest:
    """A machine that reads its keyboard.

    :param layout: as X.org names it: ``de``, ``us(intl)``.
    :ivar text: what was typed, compositions done.
    :raises XkbError: there is no such layout, or no libxkbcommon.
    """

    def __init__(self, layout: str) -> None:
        self._library = _library()
        self._state = _made(self._library.xkb_state_new(_keymap(layout)), "state")
        self._compose = _made(
            self._library.xkb_compose_state_new(_compositions(), 0), "composition"
        )
        self.text = ""

    def __del__(self) -> None:
        for name in ("state", "compose"):
            pointer = getattr(self, f"_{name}", None)
            if pointer is not None:
                getattr(self._library, f"xkb_{name.replace('compose', 'compose_state')}_unref")(
                    pointer
                )

    @property
    def composing(self) -> bool:
        """Whether a dead key waits for the next key."""
        status: int = self._library.xkb_compose_state_get_status(self._compose)
        return status == _COMPOSING

    def chord(self, *codes: int) -> str:
        """Press keys in order and release them in reverse; returns what that typed."""
        down = [(code, True) for code in codes]
        return self.read(down + [(code, False) for code in reversed(codes)])

    def read(self, strokes: Iterable[tuple[int, bool]]) -> str:
        """Take scan codes of set 1, down or up; returns what they typed."""
        before = len(self.text)
        for code, down in strokes:
            key = _X11 + _LINUX.get(code, code)
            if down:
                self.text += self._pressed(key)
            self._library.xkb_state_update_key(self._state, key, int(down))
        return self.text[before:]

    def _pressed(self, key: int) -> str:
        keysym = self._library.xkb_state_key_get_one_sym(self._state, key)
        self._library.xkb_compose_state_feed(self._compose, keysym)
        status = self._library.xkb_compose_state_get_status(self._compose)
        buffer = ctypes.create_string_buffer(64)
        if status == _COMPOSING:
            return ""
        if status in (_COMPOSED, _CANCELLED):
            self._library.xkb_compose_state_get_utf8(self._compose, buffer, len(buffer))
            self._library.xkb_compose_state_reset(self._compose)
            return buffer.value.decode() if status == _COMPOSED else ""
        if keysym in _NAMED:
            return _NAMED[keysym]
        self._library.xkb_state_key_get_utf8(self._state, key, buffer, len(buffer))
        text = buffer.value.decode(errors="replace")
        return text if text.isprintable() else ""
