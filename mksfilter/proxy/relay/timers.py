"""The scheduler of a process: one timer of the event loop for whatever has a deadline.

A session, for example, has many deadlines (stall, idle, ping, lifetime), and nearly all of them
move before they are due. So it sets no timers. It has one place in a wheel of coarse slots; when
its slot comes up it looks at its own clocks and says when it wants to be asked again. An event
that moves a deadline costs it nothing but reading :attr:`TimerWheel.now`.

How to use it: have an attribute ``slot``, 0 at first, and a method ``on_timer`` (see
:class:`Timed`), and call ``shared_wheel().schedule(self, when)``.

* An object has one place. Scheduling it again moves it, to a sooner or a later time; what has
  several deadlines schedules the soonest and answers with the next one.
* Times are on the scale of :attr:`TimerWheel.now` (``time.monotonic()``), and are rounded up to
  the next slot: an object is asked up to one resolution late, never early.
* ``now`` stands still while the wheel is empty. What is scheduled relative to it is scheduled
  twice: ``schedule(self, 0)`` starts the clock, then ``schedule(self, wheel.now + seconds)``.
* ``on_timer`` runs in the hub and must not wait for anything; work that may goes into a greenlet.
* What is due at once is asked one by one, some milliseconds apart, and the loop serves its
  connections in between: ten thousand sessions that want their ping make no pause that a key press
  could fall into, and their answers do not come all at once either. The last one may be asked most
  of a resolution later for that.
* The wheel holds a reference to what stands in it; :meth:`TimerWheel.cancel` ends that.
* It belongs to one hub, and is not to be used from another thread.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from typing import Any, Final, Protocol

import gevent

from mksfilter.log import event

__all__ = ["Timed", "TimerWheel", "shared_wheel"]

LOG = logging.getLogger(__name__)

# Seconds between two turns of the loop in which entries are asked. One costs up to 300 microseconds
# among thousands, whose memory no cache holds; the loop counts in milliseconds.
_PAUSE: Final = 0.003
# Share of the resolution in which all are asked: more of them in a turn, where that does not do.
_SHARE: Final = 0.8


class Timed(Protocol):
    """What can stand in a wheel.

    :ivar slot: belongs to the wheel; 0 outside it. ``bool(entry.slot)``: whether it is scheduled.
    """

    slot: int

    def on_timer(self, now: float) -> float | None:
        """Its time has come. Called in the hub, so it must not block; what it raises is logged.

        :param now: the same as :attr:`TimerWheel.now`.
        :returns: the time at which to be asked again; None for never, or when it has scheduled
            itself anew.
        """


class TimerWheel:
    """Slots of *resolution* seconds, driven by one timer of the event loop while any is taken.

    All calls take constant time, whatever the number of entries.

    :param loop: of the hub.
    :ivar resolution: seconds.
    :ivar now: monotonic seconds as of the last tick; at most *resolution* old while an entry waits.
    """

    def __init__(self, loop: Any, *, resolution: float = 1.0) -> None:
        self.now = time.monotonic()
        self.resolution = resolution
        self._slots: dict[int, set[Timed]] = {}
        self._loop = loop
        self._timer = loop.timer(resolution, resolution, ref=False)
        self._turns: Any = None  # a timer, while there are more than are asked at once
        self._at_once = 1
        self._last = 0  # the newest slot that is due
        self._asked = 0  # the newest slot of which all have been asked

    def schedule(self, entry: Timed, when: float) -> None:
        """Ask *entry* at *when*, and not at the time said before.

        :param when: on the scale of :attr:`now`; a time that is over means the next tick.
        """
        if not self._slots:
            self.now = time.monotonic()
            self._last = self._asked = int(self.now / self.resolution)
            self._timer.start(self._tick)
        slot = max(math.ceil(when / self.resolution), self._last + 1)
        if entry.slot == slot:
            return
        if entry.slot:
            self.cancel(entry)
        entry.slot = slot
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = {entry}
        else:
            entries.add(entry)

    def cancel(self, entry: Timed) -> None:
        """Forget *entry*; harmless when it is not there."""
        if entry.slot:
            entries = self._slots.get(entry.slot)
            if entries is not None:
                entries.discard(entry)
                if not entries:
                    del self._slots[entry.slot]
            entry.slot = 0

    def _tick(self) -> None:
        self.now = time.monotonic()
        # A loop that was held up skips slots: all that lie behind are due.
        self._last = max(self._last, int(self.now / self.resolution))
        self._ask()

    def _ask(self) -> None:
        """Ask some of those that are due; the rest at the next turn of the loop."""
        left = self._at_once
        while self._asked < self._last:
            slot = self._asked + 1
            entries = self._slots.get(slot, set())
            while entries:
                if not left:
                    self._take_turns()
                    return
                left -= 1
                entry = entries.pop()
                entry.slot = 0
                try:
                    when = entry.on_timer(self.now)
                    if when is not None and not entry.slot:
                        self.schedule(entry, when)
                except Exception:
                    LOG.exception(event("timer-failed", entry=type(entry).__name__))
            self._slots.pop(slot, None)
            self._asked = slot
        if self._turns is not None:
            self._turns.stop()
            self._turns.close()
            self._turns = None
            self._at_once = 1
        if not self._slots:
            self._timer.stop()

    def _take_turns(self) -> None:
        """Ask the others later, spread over a part of the time until the next tick."""
        if self._turns is None:
            slots = range(self._asked + 1, self._last + 1)
            due = sum(len(self._slots.get(slot, ())) for slot in slots)
            self._at_once = math.ceil(due * _PAUSE / (_SHARE * self.resolution))
            self._turns = self._loop.timer(_PAUSE, _PAUSE, ref=False)
            self._turns.start(self._ask)


_wheels: weakref.WeakKeyDictionary[Any, TimerWheel] = weakref.WeakKeyDictionary()


def shared_wheel() -> TimerWheel:
    """The wheel of this thread's hub, with slots of one second."""
    hub = gevent.get_hub()
    wheel = _wheels.get(hub)
    if wheel is None:
        wheel = _wheels[hub] = TimerWheel(hub.loop)
    return wheel
