"""What ends the access of those who are in is looked at by a timer."""

from __future__ import annotations

import os

import gevent
import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.revocation import Revocation, RevocationFile
from mksfilter.proxy.console import access_watch
from mksfilter.proxy.console.access_watch import AccessWatch
from mksfilter.proxy.relay.timers import TimerWheel


class Sessions:
    """Remembers what it is asked to enforce."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, frozenset[str], str]] = []

    def enforce(self, revocations, keys, primary, *, end_without_key):
        self.asked.append((len(revocations), keys, primary))


@pytest.fixture
def keys(tmp_path):
    repository = KeyRepository(str(tmp_path / "keys"), clock=lambda: next(ticks))
    ticks = iter(range(0, 10_000_000, 100))  # each look is a later one
    repository.setup()
    return repository


@pytest.fixture
def sessions():
    return Sessions()


@pytest.fixture
def watch(keys, sessions):
    return AccessWatch(
        keys,
        RevocationFile(keys),
        sessions,
        wheel=TimerWheel(gevent.get_hub().loop, resolution=0.01),
    )


def test_enforces_once_what_does_not_change(watch, sessions):
    for _ in range(3):
        watch.look()
    assert len(sessions.asked) == 1


def test_enforces_a_list_that_another_process_has_written(watch, sessions, keys, caplog):
    caplog.set_level("INFO", logger="mksfilter")
    watch.look()
    RevocationFile(KeyRepository(keys.path)).add(Revocation("user", "u", 1), now=1)
    watch.look()
    assert [asked[0] for asked in sessions.asked] == [0, 1]
    assert "event=revocations-read entries=1" in caplog.messages


def test_enforces_a_rotation(watch, sessions, keys):
    watch.look()
    keys.rotate()
    watch.look()
    before, after = sessions.asked
    assert before[1] < after[1]
    assert after[2] in before[1], "the staged key is the primary one now"


def test_a_broken_list_is_told_once_and_the_last_good_one_stays(watch, sessions, keys, caplog):
    file = RevocationFile(KeyRepository(keys.path))
    file.add(Revocation("user", "u", 1), now=1)
    watch.look()
    with open(file.path, "a") as stream:
        stream.write("more")
    for _ in range(3):
        watch.look()
    assert [asked[0] for asked in sessions.asked] == [1]
    assert len([line for line in caplog.messages if "revocations-unreadable" in line]) == 1


def test_looks_by_itself(watch, sessions, keys, monkeypatch):
    monkeypatch.setattr(access_watch, "LOOK_EVERY", 0.02)
    watch.start()
    keys.rotate()
    with gevent.Timeout(5):
        while len(sessions.asked) < 2:
            gevent.sleep(0.005)


def test_a_list_that_comes_while_there_are_no_keys_is_enforced_once_there_are(
    watch, sessions, keys
):
    watch.look()
    RevocationFile(KeyRepository(keys.path)).add(Revocation("user", "u", 1), now=1)
    os.chmod(keys.path, 0o755)
    watch.look()
    os.chmod(keys.path, 0o700)
    watch.look()
    assert [asked[0] for asked in sessions.asked] == [0, 1]
