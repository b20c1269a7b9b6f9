from __future__ import annotations

from mksfilter.backends.vsphere.breaker import Breaker
from tests.support.clock import Clock


def opened(clock: Clock, **options: float) -> Breaker:
    breaker = Breaker(threshold=3, pause=10, longest=35, clock=clock)
    for _ in range(3):
        assert breaker.allow()
        breaker.failed()
    return breaker


def test_a_failure_now_and_then_is_forgiven() -> None:
    breaker = Breaker(threshold=3, clock=Clock(1000.0))
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"
    assert breaker.allow()


def test_failures_in_a_row_open_it() -> None:
    breaker = opened(Clock(1000.0))
    assert breaker.state == "open"
    assert not breaker.allow()
    assert breaker.retry_in == 10


def test_one_attempt_is_let_through_after_the_pause() -> None:
    clock = Clock(1000.0)
    breaker = opened(clock)
    clock.now += 10
    assert breaker.state == "half-open"
    assert [breaker.allow(), breaker.allow(), breaker.allow()] == [True, False, False]


def test_success_closes_it() -> None:
    clock = Clock(1000.0)
    breaker = opened(clock)
    clock.now += 10
    assert breaker.allow()
    breaker.succeeded()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "closed"


def test_pauses_double_up_to_the_longest() -> None:
    clock = Clock(1000.0)
    breaker = opened(clock)
    pauses = []
    for _ in range(4):
        pauses.append(breaker.retry_in)
        clock.now += breaker.retry_in
        assert breaker.allow()
        breaker.failed()
    assert pauses == [10, 20, 35, 35]


def test_late_failures_of_many_calls_do_not_lengthen_the_pause() -> None:
    clock = Clock(1000.0)
    breaker = opened(clock)
    clock.now += 5
    breaker.failed()
    assert breaker.retry_in == 5


def test_an_attempt_that_was_never_made_is_left_to_the_next() -> None:
    clock = Clock(1000.0)
    breaker = opened(clock)
    clock.now += 10
    assert breaker.allow()
    breaker.abandoned()
    assert breaker.allow()


def test_by_default_three_failures_open_it_for_ten_seconds_and_two_minutes_at_the_most() -> None:
    clock = Clock(1000.0)
    breaker = Breaker(clock=clock)
    for state in ("closed", "closed", "open"):
        breaker.failed()
        assert breaker.state == state
    pauses = []
    for _ in range(6):
        pauses.append(breaker.retry_in)
        clock.now += breaker.retry_in
        assert breaker.allow()
        breaker.failed()
    assert pauses == [10, 20, 40, 80, 120, 120]


def test_after_a_success_all_is_as_at_the_start() -> None:
    clock = Clock(1000.0)
    breaker = opened(clock)
    clock.now += 10
    assert breaker.allow()
    breaker.failed()
    clock.now += 20
    assert breaker.allow()
    breaker.succeeded()
    assert [breaker.allow() for _ in range(3)] == [True, True, True]
    breaker.failed()
    breaker.failed()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.retry_in == 10, "the first pause again"
    clock.now += 10
    assert breaker.allow(), "the probe before was forgotten"


def test_a_clock_that_starts_at_nothing_holds_nobody_up() -> None:
    clock = Clock(1000.0)
    clock.now = 0.0
    breaker = Breaker(clock=clock)
    assert breaker.retry_in == 0
    assert breaker.allow()
