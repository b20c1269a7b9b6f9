"""How fast something is done."""

from __future__ import annotations

import pytest

from mksfilter.proxy.pace import Pace
from tests.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(100.0, clock=clock)


def do(pace, clock, number, seconds):
    for _ in range(number):
        pace.done()
    clock.advance(seconds)


def test_nothing_is_known_before_a_second_has_been_watched(pace, clock):
    assert pace.rate == 100
    do(pace, clock, 5, 0.5)
    assert pace.rate == 100


def test_what_is_seen_moves_it_by_half_each_second(pace, clock):
    assert pace.rate == 100
    do(pace, clock, 20, 1.0)
    assert pace.rate == 60
    do(pace, clock, 40, 2.0)
    assert pace.rate == 40


def test_it_never_stands_still(pace, clock):
    assert pace.rate == 100
    for _ in range(20):
        clock.advance(1.0)
        slow = pace.rate
    assert slow == 0.5


def test_what_was_done_before_anybody_asked_does_not_count(pace, clock):
    do(pace, clock, 5000, 0.0)
    assert pace.rate == 100
    do(pace, clock, 100, 1.0)
    assert pace.rate == 100


def test_a_pace_of_long_ago_is_forgotten(pace, clock):
    assert pace.rate == 100
    do(pace, clock, 20, 1.0)
    assert pace.rate == 60
    clock.advance(10.0)
    assert pace.rate == 100
