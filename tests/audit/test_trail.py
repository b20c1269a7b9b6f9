"""Nobody waits for a disk or a broker, and no event is lost unsaid."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from mksfilter.audit import trail as trails
from mksfilter.audit.events import AuditEvent
from mksfilter.audit.trail import NO_TRAIL, Trail
from mksfilter.exceptions import AuditUnavailable


class Shelf:
    """A sink that keeps events in memory, and fails or hangs as a test says."""

    def __init__(self, name: str = "shelf") -> None:
        self.name = name
        self.kept: list[AuditEvent] = []
        self.failure: Exception | None = None
        self.tried = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.closed = False

    def write(self, item: AuditEvent) -> None:
        self.tried.set()
        self.open.wait()
        if self.failure is not None:
            raise self.failure
        self.kept.append(item)

    def close(self) -> None:
        self.closed = True

    @property
    def details(self) -> list[str]:
        return [item.detail for item in self.kept]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "_RETRY_AFTER", 0.01)


def test_an_event_is_written_with_who_saw_it_and_when(shelf: Shelf) -> None:
    trail = Trail("proxy", [shelf], node="node1", clock=lambda: 5.0)
    trail.record("opened", user="u")
    trail.close()
    (event,) = shelf.kept
    assert (event.action, event.service, event.node, event.time, event.user) == (
        *("opened", "proxy", "node1", 5.0, "u"),
    )
    assert len(event.id) == 32
    assert shelf.closed


def test_each_place_gets_every_event_in_order_and_it_is_the_same_event() -> None:
    file, broker = Shelf("file"), Shelf("broker")
    trail = Trail("proxy", [file, broker])
    for number in range(100):
        trail.record("opened", detail=str(number))
    trail.close()
    assert file.kept == broker.kept
    assert file.details == [str(number) for number in range(100)]


def test_a_place_that_hangs_keeps_nobody_waiting_and_nothing_from_the_others() -> None:
    file, broker = Shelf("file"), Shelf("broker")
    broker.open.clear()
    trail = Trail("proxy", [broker, file])
    for _ in range(5):
        trail.record("opened")
    until(lambda: len(file.kept) == 5)
    assert broker.kept == []
    broker.open.set()
    trail.close()
    assert len(broker.kept) == 5


def test_what_a_place_does_not_take_is_tried_again_and_said_once(shelf, caplog) -> None:
    shelf.failure = OSError(28, "No space left on device")
    trail = Trail("proxy", [shelf])
    trail.record("opened", detail="a")
    until(shelf.tried.is_set)
    for _ in range(3):
        shelf.tried.clear()
        until(shelf.tried.is_set)
    trail.record("ended", detail="b")
    shelf.failure = None
    trail.close()
    assert shelf.details == ["a", "b"]
    said = [record.getMessage().split()[0] for record in caplog.records]
    assert said == ["event=audit-failing", "event=audit-restored"]
    assert "No space left on device" in caplog.text


def test_what_finds_no_room_is_lost_and_counted(shelf, caplog) -> None:
    lost: list[tuple[str, int]] = []
    shelf.failure = OSError("down")
    trail = Trail("proxy", [shelf], capacity=2, lost=lambda *count: lost.append(count))
    for detail in "abcd":
        trail.record("opened", detail=detail)
    assert lost == [("shelf", 1)] * 2
    assert caplog.text.count("event=audit-events-lost") == 1
    shelf.failure = None
    trail.close()
    assert shelf.details == ["a", "b"]
    assert "event=audit-restored sink=shelf lost=2" in caplog.text


def test_what_is_left_at_the_end_counts_as_lost(shelf: Shelf) -> None:
    lost: list[int] = []
    shelf.failure = OSError("down")
    trail = Trail("proxy", [shelf], lost=lambda _, count: lost.append(count))
    trail.record("opened")
    trail.record("ended")
    trail.close(0.05)
    assert sum(lost) == 2


class TestFailClosed:
    def test_the_event_is_kept_when_the_call_returns(self, shelf: Shelf) -> None:
        Trail("proxy", [shelf, other := Shelf()], fail_closed=True).confirm("opened", detail="a")
        assert shelf.details == other.details == ["a"]
        assert shelf.kept == other.kept

    def test_a_place_that_fails_refuses_and_never_gets_the_event(self, shelf: Shelf) -> None:
        shelf.failure = OSError(28, "No space left on device")
        trail = Trail("proxy", [shelf], fail_closed=True)
        with pytest.raises(AuditUnavailable, match=r"shelf: .*No space left on device"):
            trail.confirm("opened", detail="a")
        trail.record("refused", detail="b")
        shelf.failure = None
        until(lambda: shelf.kept)
        trail.close()
        assert shelf.details == ["b"]

    def test_when_it_is_well_again_consoles_open_again(self, shelf: Shelf) -> None:
        shelf.failure = OSError("down")
        trail = Trail("proxy", [shelf], fail_closed=True)
        with pytest.raises(AuditUnavailable):
            trail.confirm("opened")
        trail.record("refused", detail="since the trail failed")
        with pytest.raises(AuditUnavailable, match="down"):
            trail.confirm("opened")
        shelf.failure = None
        until(lambda: shelf.kept)
        trail.confirm("opened", detail="c")
        assert shelf.details == ["since the trail failed", "c"]

    def test_a_place_that_hangs_is_not_waited_for_longer_than_a_bound(self, shelf: Shelf) -> None:
        shelf.open.clear()
        trail = Trail("proxy", [shelf], fail_closed=True, confirm_timeout=0.05)
        with pytest.raises(AuditUnavailable, match="no answer in time"):
            trail.confirm("opened")
        shelf.open.set()

    def test_one_of_two_places_is_not_enough(self, shelf: Shelf) -> None:
        broken = Shelf("broken")
        broken.failure = OSError("down")
        trail = Trail("proxy", [shelf, broken], fail_closed=True)
        with pytest.raises(AuditUnavailable, match="broken: down"):
            trail.confirm("opened")

    def test_without_it_a_console_opens_whatever_fails(self, shelf: Shelf) -> None:
        shelf.failure = OSError("down")
        Trail("proxy", [shelf]).confirm("opened")

    def test_without_a_place_there_is_nothing_to_fail(self) -> None:
        Trail("proxy", fail_closed=True).confirm("opened")


class TestStrangers:
    def test_are_written_at_a_bounded_rate_and_those_left_out_are_counted(self, shelf) -> None:
        now = [0.0]
        trail = Trail("proxy", [shelf], monotonic=lambda: now[0])
        for _ in range(1000):
            trail.record_stranger("refused", reason="token-missing")
        now[0] += 1.0
        trail.record_stranger("refused", reason="token-missing")
        trail.close()
        assert len(shelf.kept) == 101
        assert shelf.kept[-1].suppressed == 900
        assert sum(item.suppressed for item in shelf.kept[:-1]) == 0

    def test_take_no_place_from_others(self, shelf: Shelf) -> None:
        trail = Trail("proxy", [shelf], monotonic=lambda: 0.0)
        for _ in range(1000):
            trail.record_stranger("refused")
        trail.record("opened", detail="a user")
        trail.close()
        assert shelf.details[-1] == "a user"


def test_a_forked_process_writes_its_own_events_and_not_its_parents(tmp_path) -> None:
    from mksfilter.audit.file import FileSink

    path = tmp_path / "audit.jsonl"
    shelf = Shelf()
    shelf.open.clear()
    trail = Trail("api", [FileSink(str(path)), shelf])
    trail.record("asked", detail="parent")
    until(lambda: path.exists() and path.read_text().count("\n") == 1)
    child = os.fork()
    if not child:
        try:
            shelf.open = threading.Event()
            shelf.open.set()
            trail.record("asked", detail="child")
            until(lambda: shelf.kept)
            trail.close()
        finally:
            os._exit(0 if shelf.details == ["child"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert path.read_text().count('"parent"') == path.read_text().count('"child"') == 1
    shelf.open.set()


def test_no_trail_records_nothing() -> None:
    NO_TRAIL.record("opened")
    NO_TRAIL.record_stranger("refused")
    NO_TRAIL.confirm("opened")
    NO_TRAIL.close()
    assert not NO_TRAIL
