"""Pages that wait for their machine to start."""

from __future__ import annotations

import pytest

from mksfilter.proxy.console.limits import SessionLimits
from mksfilter.proxy.console.waiting import LONGEST, QUESTIONS, SHORTEST, WaitingPages
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


def test_all_pages_together_ask_no_more_often_than_they_may(clock: Clock) -> None:
    limits, pages = SessionLimits(0), WaitingPages(clock=clock)
    pauses = [pages.keep(str(page), limits.reserve("i", "u")) for page in range(5_000)]
    assert pauses[0] == SHORTEST
    assert pauses == sorted(pauses)
    assert pauses[499] == pytest.approx(500 / QUESTIONS)
    assert pauses[-1] == LONGEST
    assert len(pages) == limits.use["max_sessions_per_user"][1] == 5_000
    clock.now = 3 * LONGEST
    pages.forget_late()
    assert len(pages) == limits.use["max_sessions_per_user"][1] == 0


def test_a_page_has_one_place_however_many_tabs_ask_for_it(clock: Clock) -> None:
    limits, pages = SessionLimits(0), WaitingPages(clock=clock)
    for _ in range(3):
        pages.keep("session", limits.reserve("i", "u"))
    assert limits.use["max_sessions"][1] == 1
    kept = pages.leave("session")
    assert kept is not None
    place, in_time = kept
    assert not in_time, "it asked at once"
    place.release()
    assert limits.use["max_sessions"][1] == 0
    assert pages.leave("session") is None
