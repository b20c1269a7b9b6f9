"""When those come again for whom there was no room."""

from __future__ import annotations

import pytest

from mksfilter.exceptions import OpeningLimitReached
from mksfilter.proxy.console.appointments import LONGEST, SHORTEST, Appointments
from mksfilter.proxy.console.openings import Openings
from tests.support.clock import Clock


class Storm:
    """Pages that are told a time and come then, at a worker that opens so many in a second."""

    def __init__(self, *, rate: float, pages: int, places: int = 20, waiting: int = 40) -> None:
        self.clock = Clock()
        self.rate = rate
        self.refused = 0
        self._openings = Openings(places, per_line=pages, waiting=waiting, clock=self.clock)
        self._begun: list = []
        self._due = [0.0] * pages

    def run(self) -> float:
        """Until the last one has its console; returns the seconds"""
        step, opened = 0.05, 0.0
        start = self.clock()
        while self._due or self._begun:
            now = self.clock() - start
            ready = [due for due in self._due if due <= now]
            self._due = [due for due in self._due if due > now]
            for _ in ready:
                self._come(now)
            opened += self.rate * step
            while opened >= 1 and self._begun:
                opened -= 1
                self._openings.leave(self._begun.pop(0))
            opened = min(opened, 1.0)
            self.clock.advance(step)
        return self.clock() - start

    def _come(self, now: float) -> None:
        try:
            opening = self._openings.ask("", "192.0.2.1", lambda: None)
        except OpeningLimitReached as exc:
            self.refused += 1
            self._due.append(now + float(exc.facts["seconds"]))
        else:
            self._begun.append(opening)


@pytest.mark.parametrize("rate", [3.0, 10.0, 20.0])
def test_a_storm_is_served_at_full_speed_and_with_few_refusals(rate: float) -> None:
    storm = Storm(rate=rate, pages=300)
    seconds = storm.run()
    assert seconds <= 1.4 * 300 / rate + SHORTEST
    # Whoever came each two to five seconds would be refused three times as often.
    assert storm.refused <= 300 * (1 + seconds / 20)


def test_each_is_told_a_time_of_their_own() -> None:
    appointments = Appointments(10, clock=Clock())
    times = [appointments.give(20) for _ in range(50)]
    assert times == sorted(set(times))
    assert times[0] >= SHORTEST
    assert times[-1] <= LONGEST


def test_nobody_is_sent_beyond_what_is_known_and_those_do_not_come_together() -> None:
    appointments = Appointments(2, clock=Clock())
    times = [appointments.give(20) for _ in range(1000)][100:]
    assert all(LONGEST / 2 <= each <= LONGEST for each in times)
    for second in range(10, 20):
        assert 70 <= sum(second <= each < second + 1 for each in times) <= 110


def test_a_slow_vcenter_is_noticed_and_forgotten_again() -> None:
    clock = Clock()
    appointments = Appointments(10, clock=clock)
    quick = appointments.give(10)
    for _ in range(8):
        clock.advance(1)
        appointments.opened()
        slow = appointments.give(10)
    clock.advance(60)
    assert slow > quick
    assert appointments.give(10) == quick


def test_lines_that_are_full_say_when_to_come_again_and_ones_own_does_not() -> None:
    openings = Openings(1, per_line=1, waiting=2)
    for user in ("alice", "alice", "bob"):
        openings.ask(user, "192.0.2.1", lambda: None)
    with pytest.raises(OpeningLimitReached) as own:
        openings.ask("alice", "192.0.2.1", lambda: None)
    with pytest.raises(OpeningLimitReached) as full:
        openings.ask("carol", "192.0.2.1", lambda: None)
    assert "seconds" not in own.value.facts
    assert SHORTEST <= full.value.facts["seconds"] <= LONGEST
