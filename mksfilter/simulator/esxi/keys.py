"""The keys of one VM, on their way from all of its consoles to its guest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import gevent

from mksfilter.simulator.model.states import VMState
from mksfilter.simulator.screen.keyboard import Keyboard, scan_code
from mksfilter.simulator.screen.screen import Screen

__all__ = ["Keys"]


class Keys:
    """Passes keys on to the guest, which may be slow: then they wait, and too many are lost.

    :ivar watchers: called after the keyboard's lights have changed.
    """

    def __init__(self, state: VMState, screen: Screen) -> None:
        self.watchers: set[Callable[[], None]] = set()
        self._state = state
        self._screen = screen
        self._layout = state.layout
        self._keyboard = Keyboard(self._write, self._layout)
        self._waiting: deque[tuple[int, bool]] = deque()

    @property
    def strokes(self) -> list[tuple[int, bool]]:
        """Every key that reached the guest: scan code, and whether it went down."""
        return self._keyboard.strokes

    @property
    def lights(self) -> int:
        """Scroll Lock 1, Num Lock 2, Caps Lock 4."""
        return self._keyboard.lights

    def keysym(self, keysym: int, down: bool) -> None:
        """RFB's key message: what a US map has no key for is dropped."""
        code = scan_code(keysym)
        if code is not None:
            self.scan_code(code, down)

    def scan_code(self, code: int, down: bool) -> None:
        """VMware's key message."""
        if self._state.question:  # the machine stands still
            return
        if self._state.key_delay <= 0:
            self._deliver(code, down)
        elif len(self._waiting) < self._state.key_queue:
            self._waiting.append((code, down))
            if len(self._waiting) == 1:
                gevent.spawn(self._work)

    def _work(self) -> None:
        while self._waiting:
            gevent.sleep(self._state.key_delay)
            self._deliver(*self._waiting[0])
            self._waiting.popleft()

    def _deliver(self, code: int, down: bool) -> None:
        if self._layout != self._state.layout:
            self._layout = self._state.layout
            self._keyboard.change_layout(self._layout)
        lights = self.lights
        self._keyboard.key(code, down)
        if self.lights != lights:
            for watcher in list(self.watchers):
                watcher()

    def _write(self, keysym: int) -> None:
        if self._state.echo:
            self._screen.press(keysym)
