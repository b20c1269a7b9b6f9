from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from mksfilter import log
from mksfilter.backends.vsphere.call_queue import CallQueue
from mksfilter.exceptions import VCenterBusy, VCenterUnreachable


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocked work waits for; opened when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def make(workers: int = 1, timeout: float = 30, queue_timeout: float = 30) -> CallQueue:
    return CallQueue("dc1", workers=workers, timeout=timeout, queue_timeout=queue_timeout)


def test_work_is_done_and_answered() -> None:
    assert make().run(lambda: 6 * 7) == 42


def test_errors_reach_who_asked() -> None:
    def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        make().run(fail)


def test_lines_of_the_log_within_a_call_name_the_session_of_who_asked() -> None:
    queue = make()
    with log.serving():
        log.name_session("the-session", "req-1")
        assert "session=the-session" in queue.run(lambda: log.event("asked"))
    assert "session=" not in queue.run(lambda: log.event("asked"))


def test_never_more_than_the_bound_at_once() -> None:
    queue = make(workers=4)
    lock = threading.Lock()
    now, most = 0, 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1

    calls = [queue.submit(work, user=str(number % 7)) for number in range(200)]
    for call in calls:
        call.result("dc1")
    assert most == 4


def test_users_take_turns(gate: threading.Event) -> None:
    queue = make(workers=1)
    started = threading.Event()
    order: list[str] = []

    def first() -> None:
        started.set()
        gate.wait(10)

    calls = [queue.submit(first)]
    assert started.wait(10)
    calls += [queue.submit(lambda: order.append("busy"), user="busy") for _ in range(5)]
    calls += [queue.submit(lambda: order.append("me"), user="me")]
    gate.set()
    for call in calls:
        call.result("dc1")
    assert order == ["busy", "me", "busy", "busy", "busy", "busy"]


def test_who_waits_too_long_for_a_turn_is_told_so(gate: threading.Event) -> None:
    queue = make(workers=1, queue_timeout=0.05)
    done: list[str] = []
    blocking = queue.submit(lambda: gate.wait(10))
    with pytest.raises(VCenterBusy, match=r"dc1.*pool_size"):
        queue.run(lambda: done.append("late"))
    gate.set()
    assert blocking.result("dc1")
    queue.run(lambda: None)
    assert done == [], "and vCenter is not asked for them any more"


def test_a_call_that_does_not_end_is_cut_off(gate: threading.Event) -> None:
    queue = make(timeout=0.05)
    cut = threading.Event()

    def drip() -> None:
        call = queue.current()
        assert call is not None
        call.abort_with(cut.set)
        cut.wait(10)

    before = time.monotonic()
    with pytest.raises(VCenterUnreachable, match=r"dc1: no answer within 0\.05 s"):
        queue.run(drip)
    assert time.monotonic() - before < 5
    assert cut.is_set()
    assert queue.run(lambda: "next") == "next", "its worker is free again"


def test_a_call_after_a_quiet_time_is_cut_off_in_its_own_time(gate: threading.Event) -> None:
    """The watch then sleeps for much longer than a call may last."""
    queue = make(timeout=0.1)
    queue.run(lambda: None)
    while queue._watch_wakes < time.monotonic() + 1:
        time.sleep(0.01)
    started = time.monotonic()
    with pytest.raises(VCenterUnreachable, match="no answer within"):
        queue.run(lambda: gate.wait(60))
    assert time.monotonic() - started < 10


def test_a_call_that_is_cut_off_before_its_socket_is_there_is_cut_off_then() -> None:
    queue = make(timeout=0.05)
    cut, looked_up = threading.Event(), threading.Event()

    def resolve_slowly() -> None:
        call = queue.current()
        assert call is not None
        looked_up.wait(10)
        call.abort_with(cut.set)

    with pytest.raises(VCenterUnreachable):
        queue.run(resolve_slowly)
    looked_up.set()
    assert cut.wait(10)


def test_each_request_of_a_call_has_a_deadline_of_its_own() -> None:
    queue = make(timeout=0.4)

    def three_requests() -> str:
        for _ in range(3):
            queue.extend()
            time.sleep(0.2)
        return "done"

    assert queue.run(three_requests) == "done"


def test_closed_means_closed(gate: threading.Event) -> None:
    queue = make(workers=1)
    started = threading.Event()
    running = queue.submit(lambda: (started.set(), gate.wait(10))[1])
    assert started.wait(10)
    waiting = queue.submit(lambda: None)
    queue.close()
    with pytest.raises(VCenterUnreachable, match="shuts down"):
        waiting.result("dc1")
    with pytest.raises(VCenterUnreachable, match="shuts down"):
        queue.submit(lambda: None)
    gate.set()
    assert running.result("dc1")


def test_workers_end_with_the_queue() -> None:
    queue = CallQueue("ending", workers=3, timeout=30)
    for call in [queue.submit(lambda: time.sleep(0.01)) for _ in range(6)]:
        call.result("ending")
    mine = [thread for thread in threading.enumerate() if thread.name == "vcenter-ending-call"]
    assert mine
    queue.close()
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive()


def test_no_thread_is_started_and_nobody_told_while_the_lock_is_held(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A greenlet that waits with it would let others of its thread in."""
    queue = make()
    held: list[bool] = []
    start = threading.Thread.start

    def checked(thread: threading.Thread) -> None:
        held.append(queue._lock._is_owned())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", checked)
    queue.submit(lambda: gate.wait(10))
    left = queue.submit(lambda: None)
    left.future.add_done_callback(lambda _: held.append(queue._lock._is_owned()))
    deadline = time.monotonic() + 10
    while queue.waiting > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.close()
    assert held == [False] * len(held)
    assert left.future.cancelled()
    assert len(held) >= 3  # a worker, the watch, and who is told
