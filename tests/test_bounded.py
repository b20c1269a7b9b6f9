"""A call that hangs costs its caller the deadline, and others a place at most."""

from __future__ import annotations

import threading
import time

import pytest

from mksfilter import log
from mksfilter.bounded import BoundedCalls, DeadlinePassed, NoPlace


def test_lines_of_the_log_within_a_call_name_the_session_of_who_asked():
    calls = BoundedCalls("test", limit=1, timeout=10)
    with log.serving():
        log.name_session("the-session", "req-1")
        assert "session=the-session" in calls.run(lambda: log.event("asked"))


@pytest.fixture
def hanging():
    """A call that ends when the test does, and how to know that it has begun."""
    begun, released = threading.Semaphore(0), threading.Event()

    def call():
        begun.release()
        released.wait(30)
        return "late"

    call.begun = begun
    yield call
    released.set()


def occupy(calls, call):
    """A thread that waits for *call*."""
    errors = []

    def wait():
        try:
            calls.run(call)
        except DeadlinePassed as exc:
            errors.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    assert call.begun.acquire(timeout=10)
    return thread, errors


def test_a_result_is_returned_and_an_error_raised():
    calls = BoundedCalls("test", limit=1, timeout=10)
    assert calls.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 // 0)
    assert calls.run(lambda: 8) == 8


def test_an_error_that_is_itself_a_timeout_is_not_taken_for_the_deadline():
    def late():
        raise TimeoutError("of the socket")

    with pytest.raises(TimeoutError, match="of the socket"):
        BoundedCalls("test", limit=1, timeout=10).run(late)


def test_a_call_is_given_up_at_the_deadline_and_keeps_its_place(hanging):
    calls = BoundedCalls("test", limit=1, timeout=0.2)
    started = time.monotonic()
    with pytest.raises(DeadlinePassed):
        calls.run(hanging)
    assert time.monotonic() - started < 5
    with pytest.raises(NoPlace):
        calls.run(lambda: 7)


def test_without_a_place_there_is_no_waiting(hanging):
    calls = BoundedCalls("test", limit=2, timeout=60)
    occupy(calls, hanging), occupy(calls, hanging)
    started = time.monotonic()
    with pytest.raises(NoPlace):
        calls.run(lambda: 7)
    assert time.monotonic() - started < 5


def test_waiting_for_a_place_counts_towards_the_deadline(hanging):
    calls = BoundedCalls("test", limit=1, timeout=0.3)
    thread, errors = occupy(calls, hanging)
    started = time.monotonic()
    with pytest.raises(NoPlace):
        calls.run(lambda: 7, wait=True)
    assert 0.3 <= time.monotonic() - started < 5
    thread.join(10)
    assert len(errors) == 1


def test_a_place_that_came_late_leaves_less_time_for_the_call(hanging):
    clock = iter([1000.0, 1060.0]).__next__
    started = time.monotonic()
    with pytest.raises(DeadlinePassed):
        BoundedCalls("test", limit=1, timeout=60, clock=clock).run(hanging, wait=True)
    assert time.monotonic() - started < 30
