"""One timer for all sessions of a process.

A session has many deadlines (stall, idle, ping, lifetime) that nearly always move before they are
due. It keeps one place in a wheel of coarse slots; when its slot comes up it looks at its clocks
and says when it wants to be asked again. An event costs a session nothing but reading :attr:`now`.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import gevent

from mksfilter.log import event

__all__ = ["Timed", "Timer", "TimerWheel", "shared_wheel"]

LOG = logging.getLogger(__name__)


class Timed(Protocol):
    """What can stand in a wheel; *slot* belongs to the wheel and is 0 outside it."""

    slot: int

    def on_timer(self, now: float) -> float | None:
        """Called in the hub, so it must not block.

        :returns: the time of :attr:`TimerWheel.now` at which to be asked again, or None for never.
        """


class TimerWheel:
    """Slots of *resolution* seconds, driven by one timer of the event loop while any is taken.

    :ivar now: monotonic seconds as of the last tick; at most *resolution* old while the wheel runs.
    """

    def __init__(self, loop: Any, *, resolution: float = 1.0) -> None:
        self.now = time.monotonic()
        self._resolution = resolution
        self._slots: dict[int, set[Timed]] = {}
        self._timer = loop.timer(resolution, resolution, ref=False)
        self._last = 0

    def schedule(self, entry: Timed, when: float) -> None:
        """Ask *entry* at *when* (on the scale of :attr:`now`), and not at the time said before."""
        if not self._slots:
            self.now = time.monotonic()
            self._last = int(self.now / self._resolution)
            self._timer.start(self._tick)
        slot = max(math.ceil(when / self._resolution), self._last + 1)
        if entry.slot == slot:
            return
        self.cancel(entry)
        entry.slot = slot
        self._slots.setdefault(slot, set()).add(entry)

    def cancel(self, entry: Timed) -> None:
        """Forget *entry*; harmless when it is not there."""
        if entry.slot:
            entries = self._slots.get(entry.slot)
            if entries is not None:
                entries.discard(entry)
                if not entries:
                    del self._slots[entry.slot]
            entry.slot = 0

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call *callback* in the hub in *delay* seconds, rounded up; it must not block."""
        if not self._slots:
            self.now = time.monotonic()
        timer = Timer(self, callback, args)
        self.schedule(timer, self.now + delay)
        return timer

    def _tick(self) -> None:
        self.now = now = time.monotonic()
        current = int(now / self._resolution)
        # A loop that was held up skips slots: all that lie behind are due.
        for slot in range(self._last + 1, current + 1):
            self._last = slot
            for entry in self._slots.pop(slot, ()):
                if entry.slot != slot:
                    continue  # cancelled, or moved, by one that was called before it
                entry.slot = 0
                try:
                    when = entry.on_timer(now)
                    if when is not None and not entry.slot:
                        self.schedule(entry, when)
                except Exception:
                    LOG.exception(event("timer-failed", entry=type(entry).__name__))
        self._last = max(self._last, current)
        if not self._slots:
            self._timer.stop()


class Timer:
    """One call in the future."""

    __slots__ = ("__weakref__", "_args", "_callback", "_wheel", "slot")

    def __init__(
        self, wheel: TimerWheel, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self.slot = 0
        self._wheel = wheel
        self._callback = callback
        self._args = args

    def cancel(self) -> None:
        """Not to be called any more; harmless afterwards."""
        self._wheel.cancel(self)

    def on_timer(self, now: float) -> None:  # noqa: ARG002
        """Called by the wheel."""
        self._callback(*self._args)


_wheels: weakref.WeakKeyDictionary[Any, TimerWheel] = weakref.WeakKeyDictionary()


def shared_wheel() -> TimerWheel:
    """The wheel of this thread's hub, with slots of one second."""
    hub = gevent.get_hub()
    wheel = _wheels.get(hub)
    if wheel is None:
        wheel = _wheels[hub] = TimerWheel(hub.loop)
    return wheel
