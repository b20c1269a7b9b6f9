"""One timer for all that has a deadline."""

from __future__ import annotations

import socket
import time

import gevent
import pytest
from gevent.event import Event

from mksfilter.proxy.relay.timers import TimerWheel, shared_wheel

LIMIT = 5


@pytest.fixture
def wheel():
    return TimerWheel(gevent.get_hub().loop, resolution=0.01)


class Entry:
    """Notes when it is asked, and wants to be asked again as often as told."""

    def __init__(self, again=(), *, then=None) -> None:
        self.slot = 0
        self.again = list(again)
        self.then = then
        self.asked: list[float] = []
        self.over = Event()

    def on_timer(self, now):
        self.asked.append(now)
        if self.then is not None:
            self.then()
        if self.again:
            return now + self.again.pop(0)
        self.over.set()
        return None


def schedule(wheel, entry, delay: float) -> float:
    """Schedule *entry* in *delay* seconds; returns the time that is."""
    wheel.schedule(entry, 0)
    when = wheel.now + delay
    wheel.schedule(entry, when)
    return when


def passed(wheel, delay: float) -> None:
    """Wait until the wheel is *delay* seconds further."""
    entry = Entry()
    schedule(wheel, entry, delay)
    assert entry.over.wait(LIMIT)


def test_an_entry_is_asked_when_it_is_due_and_not_before(wheel):
    entry = Entry()
    when = schedule(wheel, entry, 0.05)
    assert entry.over.wait(LIMIT)
    assert time.monotonic() >= when
    assert entry.asked[0] >= when
    assert entry.slot == 0


def test_an_entry_says_when_to_be_asked_again(wheel):
    entry = Entry([0.02, 0.02])
    schedule(wheel, entry, 0)
    assert entry.over.wait(LIMIT)
    assert len(entry.asked) == 3
    assert entry.asked[1] - entry.asked[0] >= 0.02
    assert entry.asked[2] - entry.asked[1] >= 0.02
    passed(wheel, 0.1)
    assert len(entry.asked) == 3


def test_an_entry_has_one_place(wheel):
    entry = Entry()
    schedule(wheel, entry, 100)
    schedule(wheel, entry, 0.02)
    passed(wheel, 0.2)
    assert len(entry.asked) == 1


def test_an_entry_may_be_moved_to_a_later_time(wheel):
    entry = Entry()
    schedule(wheel, entry, 0.02)
    when = schedule(wheel, entry, 0.1)
    assert entry.over.wait(LIMIT)
    assert entry.asked[0] >= when


def test_an_entry_that_schedules_itself_anew_is_asked_then(wheel):
    entry = Entry()
    entry.then = lambda: len(entry.asked) == 1 and wheel.schedule(entry, wheel.now + 0.02)
    schedule(wheel, entry, 0)
    passed(wheel, 0.2)
    assert len(entry.asked) == 2


def test_a_cancelled_entry_is_not_asked_even_by_one_of_the_same_slot(wheel):
    entries = []

    def cancel_all():
        for entry in entries:
            wheel.cancel(entry)

    entries += [Entry(then=cancel_all) for _ in range(2)]
    wheel.schedule(entries[0], 0)
    when = wheel.now + 0.05
    for entry in entries:
        wheel.schedule(entry, when)
    passed(wheel, 0.1)
    assert sum(len(entry.asked) for entry in entries) == 1


def test_cancelling_what_is_not_there_is_harmless(wheel):
    entry = Entry()
    wheel.cancel(entry)
    schedule(wheel, entry, 0)
    assert entry.over.wait(LIMIT)
    wheel.cancel(entry)


def test_one_that_fails_does_not_stop_the_others(wheel, caplog):
    def fail():
        raise ZeroDivisionError

    schedule(wheel, Entry(then=fail), 0.01)
    passed(wheel, 0.05)
    assert "timer-failed" in caplog.text


def test_a_loop_that_was_held_up_asks_all_that_are_due(wheel):
    entries = [Entry() for _ in range(5)]
    for number, entry in enumerate(entries):
        schedule(wheel, entry, 0.02 * number)
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:
        pass
    assert entries[-1].over.wait(LIMIT)
    assert [len(entry.asked) for entry in entries] == [1] * 5
    assert len({entry.asked[0] for entry in entries}) < 5


def test_a_connection_is_served_between_two_of_many_that_are_due(wheel):
    ours, theirs = socket.socketpair()
    order: list[str] = []
    watcher = gevent.get_hub().loop.io(ours.fileno(), 1)

    def served():
        order.append("served")
        watcher.stop()

    def asked():
        if not order:
            theirs.send(b"a key")
        order.append("asked")

    entries = [Entry(then=asked) for _ in range(1000)]
    with ours, theirs:
        watcher.start(served)
        wheel.schedule(entries[0], 0)
        when = wheel.now + 0.02
        for entry in entries:
            wheel.schedule(entry, when)
        passed(wheel, 0.05)
        watcher.close()
    assert order.count("asked") == 1000
    assert order.index("served") < 100


def test_many_that_are_due_are_asked_a_few_at_a_time_with_pauses_between():
    """What they send is answered, and a key press should not find all of the answers before it."""
    wheel = TimerWheel(gevent.get_hub().loop, resolution=0.2)
    times: list[float] = []
    entries = [Entry(then=lambda: times.append(time.monotonic())) for _ in range(100)]
    wheel.schedule(entries[0], 0)
    when = wheel.now
    for entry in entries:
        wheel.schedule(entry, when)
    passed(wheel, 0.4)
    assert len(times) == 100
    # Half of the resolution, less what a busy machine makes of the first pause.
    assert times[-1] - times[0] > 0.07
    assert not wheel._turns


def test_what_waits_for_its_turn_can_still_be_moved_and_cancelled(wheel):
    entries = [Entry() for _ in range(100)]

    def change():
        first = next((each for each in entries if each.asked), None)
        assert first is not None
        waiting = [each for each in entries if each.slot]
        if len(waiting) == 99:
            wheel.cancel(waiting[0])
            wheel.schedule(waiting[1], wheel.now + 0.05)
            moved.append(waiting[1])
            cancelled.append(waiting[0])

    moved: list[Entry] = []
    cancelled: list[Entry] = []
    for entry in entries:
        entry.then = change
    wheel.schedule(entries[0], 0)
    when = wheel.now + 0.02
    for entry in entries:
        wheel.schedule(entry, when)
    passed(wheel, 0.2)
    assert len(moved) == len(cancelled) == 1
    assert not cancelled[0].asked
    assert moved[0].asked[0] >= when + 0.02
    assert sum(len(each.asked) for each in entries) == 99


def test_nothing_ticks_while_nobody_waits(wheel):
    passed(wheel, 0.01)
    gevent.sleep(0)
    assert not wheel._timer.active


def test_a_thread_has_one_wheel():
    assert shared_wheel() is shared_wheel()
