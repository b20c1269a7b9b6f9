"""One timer for all sessions."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent.event import Event

from mksfilter.proxy.relay.timers import TimerWheel, shared_wheel


@pytest.fixture
def wheel():
    return TimerWheel(gevent.get_hub().loop, resolution=0.01)


class Entry:
    """Notes when it is asked, and wants to be asked again as often as told."""

    def __init__(self, wheel, again=()) -> None:
        self.slot = 0
        self.wheel = wheel
        self.again = list(again)
        self.asked: list[float] = []
        self.event = Event()

    def on_timer(self, now):
        self.asked.append(now)
        self.event.set()
        return now + self.again.pop(0) if self.again else None


def test_an_entry_is_asked_when_it_is_due_and_not_before(wheel):
    entry = Entry(wheel)
    started = time.monotonic()
    wheel.call_later(0, lambda: None)
    wheel.schedule(entry, wheel.now + 0.05)
    assert entry.event.wait(5)
    assert time.monotonic() - started >= 0.05
    assert entry.slot == 0


def test_an_entry_says_when_to_be_asked_again(wheel):
    entry = Entry(wheel, again=[0.02, 0.02])
    wheel.schedule(entry, 0)
    done = Event()
    wheel.call_later(0.3, done.set)
    assert done.wait(5)
    assert len(entry.asked) == 3
    assert entry.asked[1] - entry.asked[0] >= 0.02


def test_an_entry_has_one_place(wheel):
    entry, done = Entry(wheel), Event()
    wheel.schedule(entry, wheel.now + 100)
    wheel.schedule(entry, wheel.now + 0.02)
    wheel.call_later(0.2, done.set)
    assert done.wait(5)
    assert len(entry.asked) == 1


def test_a_cancelled_call_is_not_made_even_by_one_of_the_same_slot(wheel):
    called = []
    timers = []

    def first_come(name):
        called.append(name)
        for timer in timers:
            timer.cancel()

    timers += [wheel.call_later(0.02, first_come, name) for name in "ab"]
    done = Event()
    wheel.call_later(0.1, done.set)
    assert done.wait(5)
    assert len(called) == 1


def test_one_that_fails_does_not_stop_the_others(wheel, caplog):
    done = Event()

    def fail():
        raise ZeroDivisionError

    wheel.call_later(0.01, fail)
    wheel.call_later(0.05, done.set)
    assert done.wait(5)
    assert "timer-failed" in caplog.text


def test_nothing_ticks_while_nobody_waits(wheel):
    done = Event()
    wheel.call_later(0.01, done.set)
    assert done.wait(5)
    gevent.sleep(0)
    assert not wheel._timer.active


def test_a_thread_has_one_wheel():
    assert shared_wheel() is shared_wheel()
