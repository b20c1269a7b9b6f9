"""What outlives a worker: its open sessions, and what it was doing."""

from __future__ import annotations

import os

from mksfilter.proxy.server.ledger import Ledger
from mksfilter.proxy.server.roster import Roster, State, Worker


def facts(number: int, **more: object) -> dict[str, object]:
    return {"session": f"s{number}", "connection": f"c{number}", **more}


def test_what_a_killed_process_had_open_is_there_and_no_more():
    ledger = Ledger(8)
    child = os.fork()
    if not child:
        try:
            slots = [ledger.enter(facts(number)) for number in range(3)]
            ledger.leave(slots[0])
            ledger.enter(facts(3))
            ledger.leave(slots[2])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert [each["session"] for each in ledger.left_open()] == ["s3", "s1"]


def test_a_full_ledger_forgets_and_a_long_entry_is_cut_to_what_is_needed():
    ledger = Ledger(1)
    slot = ledger.enter(facts(1, user="x" * 5000))
    assert ledger.enter(facts(2)) is None
    ledger.leave(None)
    assert [each["session"] for each in ledger.left_open()] == ["s1"]
    ledger.leave(slot)
    assert ledger.enter(facts(3)) is not None
    assert ledger.enter(facts(4, session="y" * 5000)) is None


def test_all_facts_of_a_session_fit_and_come_back():
    """In half a kilobyte, with names as long as they come: identity services have 64 characters."""
    told = {
        "user": "u" * 64,
        "project": "p" * 32,
        "instance": "00000000-0000-4000-8000-000000000001",
        "request": "req-00000000-0000-4000-8000-000000000001",
        "session": "s" * 22,
        "jti": "j" * 22,
        "mode": "full",
        "vm": "vm-1234567",
        "vcenter": "datacenter-1",
        "host": "esxi-0123.datacenter-1.example.org:443",
        "client": "2001:db8:1234:5678:9abc:def0:1234:5678",
        "connection": "0123456789ab",
        "since": 1_795_801_153.123456,
        "returns": True,
        "of a later release": "too",
    }
    ledger = Ledger(1)
    ledger.enter(told)
    assert list(ledger.left_open()) == [told]


def test_the_roster_has_those_that_run_and_what_they_do():
    roster = Roster()
    one, two = roster.take(), roster.take()
    one.write(Worker(11, State.SERVING, 3, 4))
    two.write(Worker(12, State.DRAINING, 0, 1))
    assert one.state == State.SERVING
    assert list(roster.workers()) == [
        Worker(11, State.SERVING, 3, 4),
        Worker(12, State.DRAINING, 0, 1),
    ]
    one.free()
    assert [each.pid for each in roster.workers()] == [12]
    assert roster.take().state == State.STARTING


def test_orders_are_kept_apart():
    roster = Roster()
    assert (roster.draining, roster.served, roster.drain_time) == (False, False, 0.0)
    roster.serve(12.5)
    roster.drain(99.0)
    assert (roster.draining, roster.served) == (True, True)
    assert (roster.drain_time, roster.ends_at) == (12.5, 99.0)
    roster.undo_drain()
    assert (roster.draining, roster.ends_at, roster.drain_time) == (False, 0.0, 12.5)
