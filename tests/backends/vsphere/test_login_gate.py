"""When an account may be tried again after vCenter has refused it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mksfilter.backends.vsphere.login_gate import LoginGate
from mksfilter.backends.vsphere.shared_record import SharedRecord
from tests.support.clock import Clock

WINDOW = 180.0


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def gate(clock: Clock) -> LoginGate:
    return LoginGate(SharedRecord(), window=WINDOW, clock=clock)


def test_nobody_waits_before_there_was_a_refusal(gate: LoginGate) -> None:
    assert gate.retry_in("old") == 0


def test_a_refused_password_waits_longer_each_time(gate: LoginGate, clock: Clock) -> None:
    pauses = []
    for _ in range(6):
        gate.refused("old", "refused")
        pauses.append(gate.retry_in("old"))
        clock.now += pauses[-1]
        assert gate.retry_in("old") == 0
    assert pauses == [120, 240, 480, 960, 1800, 1800]


def test_another_password_may_be_tried_at_once(gate: LoginGate) -> None:
    gate.refused("old", "refused")
    assert gate.retry_in("new") == 0


def test_after_two_refusals_nothing_is_tried_until_the_window_has_passed(
    gate: LoginGate, clock: Clock
) -> None:
    gate.refused("old", "refused")
    clock.now += 10
    gate.refused("new", "refused")
    assert gate.retry_in("newer") == 170
    clock.now += 170
    assert gate.retry_in("newer") == 0
    gate.refused("newer", "refused")
    assert gate.retry_in("newest") == 10, "the second of them still counts"


def test_whatever_is_tried_there_are_never_three_in_a_window(gate: LoginGate, clock: Clock) -> None:
    refused: list[float] = []
    for second in range(3600):
        clock.now = 1_000_000.0 + second
        for password in ("old", f"new-{second}"):
            if not gate.retry_in(password):
                gate.refused(password, "refused")
                refused.append(clock.now)
    for first, third in zip(refused, refused[2:], strict=False):
        assert third - first >= WINDOW


def test_a_password_that_was_accepted_begins_anew(gate: LoginGate, clock: Clock) -> None:
    for _ in range(3):
        gate.refused("old", "refused")
        clock.now += gate.retry_in("old")
    gate.accepted("old")
    clock.now += WINDOW
    gate.refused("old", "refused")
    assert gate.retry_in("old") <= 240


def test_a_clock_that_is_set_back_holds_nobody_up(gate: LoginGate, clock: Clock) -> None:
    gate.refused("old", "refused")
    clock.now -= 86400
    assert gate.retry_in("old") == 0


def test_another_process_of_the_node_knows_it(tmp_path: Path, clock: Clock) -> None:
    path = str(tmp_path / "record")
    LoginGate(SharedRecord(path), window=WINDOW, clock=clock).refused("old", "login refused")
    other = LoginGate(SharedRecord(path), window=WINDOW, clock=clock)
    assert (other.retry_in("old"), other.words) == (120, "login refused")
    assert other.retry_in("new") == 0


def test_the_file_holds_nothing_that_a_password_could_be_guessed_by(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "record"
    gate = LoginGate(SharedRecord(str(path)), window=WINDOW, clock=clock)
    gate.refused("correct horse", "login refused")
    text = path.read_text()
    assert "horse" not in text
    ((_, mark, _),) = json.loads(text)["refused"]
    assert len(mark) == 4, "16 bits: one password in 65,536 looks the same"


@pytest.mark.parametrize("entry", [None, 3, "x", [], [1], ["x", "y", "z"], [{}, [], None]])
def test_an_entry_that_makes_no_sense_holds_nobody_up(
    tmp_path: Path, clock: Clock, entry: object
) -> None:
    path = tmp_path / "record"
    path.write_text(json.dumps({"refused": [entry], "salt": 7}))
    assert LoginGate(SharedRecord(str(path)), window=WINDOW, clock=clock).retry_in("old") == 0
