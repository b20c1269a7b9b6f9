"""What a node of several workers answers."""

from __future__ import annotations

import os
import re
from types import SimpleNamespace

import pytest

from mksfilter.proxy.server.board import Board
from mksfilter.proxy.web import report
from mksfilter.proxy.web.metrics import Metrics
from mksfilter.proxy.web.report import OK, NodeReport, Worker, readiness


def worker(**changes) -> Worker:
    facts = {"pid": 1, "age": 0.5, "draining": False, "sessions": 2, "checks": {"keys": OK}}
    return Worker(**{**facts, **changes})


class TestReadiness:
    def test_one_ready_worker_is_enough(self):
        full = worker(checks={"keys": OK, "room": "full"})
        ready, document = readiness([full, worker(checks={"keys": OK, "room": OK})])
        assert ready
        assert document["checks"] == {"draining": OK, "keys": OK, "room": OK}
        assert document["sessions"] == 4

    def test_what_is_wrong_is_named(self):
        ready, document = readiness([worker(checks={"keys": "no keys", "page": OK})])
        assert not ready
        assert document["status"] == "not ready"
        assert document["checks"] == {"draining": OK, "keys": "no keys", "page": OK}

    def test_workers_of_an_old_configuration_that_drain_do_not_matter(self):
        old = worker(draining=True, checks={"keys": "no keys"})
        ready, document = readiness([old, worker()])
        assert ready
        assert document["workers"] == {"serving": 1, "draining": 1, "stuck": 0}

    def test_a_node_of_which_all_drain_is_not_ready(self):
        ready, document = readiness([worker(draining=True), worker(draining=True)])
        assert not ready
        assert document["checks"]["draining"] == "no worker takes new sessions"

    def test_a_worker_whose_loop_does_not_turn_serves_nobody(self):
        stuck = worker(age=report.STUCK_AFTER + 1)
        assert readiness([worker(draining=True), stuck])[0] is False
        assert readiness([worker(), stuck])[1]["workers"]["stuck"] == 1


class Node:
    """A board, and workers that are forked from here."""

    def __init__(self) -> None:
        self.board = Board(4)
        self.now = 100.0

    def report(self, page=None, *, draining=False, checks=None) -> NodeReport:
        self.metrics = Metrics()
        return NodeReport(
            page or self.board.take(SimpleNamespace(pid=os.getpid())),
            self.metrics,
            checks=checks or {},
            draining=lambda: draining,
            sessions=lambda: 0,
            wheel=SimpleNamespace(),
            clock=lambda: self.now,
        )

    def child(self, count: int, owner=None, **options) -> SimpleNamespace:
        """A worker that counts, publishes, and ends."""
        owner = owner or SimpleNamespace(pid="[booting]")
        page = self.board.take(owner)
        pid = os.fork()
        if not pid:
            try:
                mine = self.report(page, **options)
                for _ in range(count):
                    self.metrics.session_opened("full")
                mine.publish()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        owner.pid = pid
        return owner


@pytest.fixture
def node():
    return Node()


def shown(report: NodeReport, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", report.exposition()[1].decode(), re.M)
    return float(found[1])


OPENED = 'mksfilter_sessions_opened_total{mode="full"}'


def test_what_workers_counted_stays_when_they_end_and_their_live_sessions_go(node):
    node.child(2)
    mine = node.report()
    node.metrics.session_opened("full")
    assert shown(mine, OPENED) == 3
    assert shown(mine, "mksfilter_sessions_active") == 1
    assert shown(mine, 'mksfilter_workers{state="serving"}') == 1


def test_a_scrape_tells_whether_the_node_is_ready_and_why_not(node):
    mine = node.report(checks={"keys": lambda: "no keys", "page": lambda: ""})
    assert shown(mine, "mksfilter_ready") == 0
    assert shown(mine, 'mksfilter_ready_check{check="keys"}') == 0
    assert shown(mine, 'mksfilter_ready_check{check="page"}') == 1
    assert shown(mine, 'mksfilter_ready_check{check="draining"}') == 1


def test_counters_never_run_backwards_however_often_workers_are_replaced(node):
    mine = node.report()
    for _ in range(10):  # more than there are pages
        node.child(1)
    assert shown(mine, OPENED) == 10


def test_a_sibling_that_publishes_no_more_is_stuck(node):
    mine = node.report()
    reader, writer = os.pipe()
    page = node.board.take(SimpleNamespace(pid="[booting]"))
    pid = os.fork()
    if not pid:
        node.report(page).publish()
        os.read(reader, 1)
        os._exit(0)
    try:
        while len(mine.workers()) < 2:
            pass
        node.now += report.STUCK_AFTER + 1
        assert shown(mine, 'mksfilter_workers{state="stuck"}') == 1
        assert mine.readiness()[0]
    finally:
        os.write(writer, b"x")
        os.waitpid(pid, 0)


def test_a_worker_that_drains_is_superseded_once_another_serves(node):
    old = node.report(draining=True)
    old.publish()
    assert not old.superseded
    new = node.report()
    new.publish()
    assert old.superseded
    assert not new.superseded


def test_more_than_fits_is_told_once_and_ends_nothing(node, caplog):
    tiny = Board(1, 200)
    mine = node.report(tiny.page())
    for _ in range(3):
        mine.publish()
    assert caplog.text.count("event=metrics-too-many") == 1
