"""Requests that wait for a greenlet, and those that find none."""

from __future__ import annotations

import gevent
import gevent.event
import pytest

from mksfilter.proxy.server.lane import Lane
from tests.proxy.server.running import wait_for


class Served:
    """A lane whose requests are names; those that begin with ``slow`` wait for the gate."""

    def __init__(self, size: int) -> None:
        self.served: list[str] = []
        self.refused: list[str] = []
        self.greenlets = 0
        self.gate = gevent.event.Event()
        self.lane: Lane[str] = Lane(size, self.spawn, serve=self.serve, refuse=self.refused.append)

    def spawn(self, work) -> None:
        self.greenlets += 1
        gevent.spawn(work)

    def serve(self, name: str) -> None:
        if name.startswith("slow"):
            self.gate.wait()
        self.served.append(name)

    def put(self, *names: str) -> None:
        for name in names:
            self.lane.put(name)

    def run(self, waiting: int = 0) -> None:
        """Until no more than *waiting* requests are left."""
        wait_for(lambda: len(self.lane) <= waiting)


@pytest.fixture
def two():
    return Served(2)


def test_a_burst_is_served_in_its_order_by_few_greenlets(two):
    names = [str(number) for number in range(100)]
    two.put(*names)
    two.run()
    assert sorted(two.served, key=int) == names
    assert two.greenlets == 2
    assert (two.refused, len(two.lane)) == ([], 0)


def test_what_comes_while_all_wait_is_refused(two):
    two.put("slow 1", "slow 2")
    gevent.sleep(0)
    two.put("late")
    assert two.refused == ["late"]
    two.gate.set()
    two.run()
    assert two.served == ["slow 1", "slow 2"]


def test_what_is_found_behind_the_last_that_waits_is_refused(two):
    two.put("slow 1", "slow 2", "late 1", "late 2")
    two.run(2)
    assert two.refused == ["late 1", "late 2"]
    assert len(two.lane) == 2


def test_one_greenlet_is_enough_beside_one_that_waits(two):
    two.put("slow 1")
    gevent.sleep(0)
    two.put(*map(str, range(50)))
    two.run(1)
    assert len(two.served) == 50
    assert two.refused == []


def test_a_lane_that_is_empty_holds_no_greenlet(two):
    two.put("1")
    two.run()
    two.put("2")
    two.run()
    assert two.served == ["1", "2"]
    assert two.greenlets == 2


def test_a_burst_does_not_keep_others_waiting():
    """gevent's greenlets take turns, and a lane of a thousand takes no more than a few of them."""
    burst = Served(1000)
    burst.put(*map(str, range(1000)))
    seen = []
    gevent.spawn(lambda: seen.append(len(burst.served)))
    burst.run()
    assert seen[0] <= 10


def test_a_burst_of_those_who_wait_is_served_all_at_once():
    burst = Served(1000)
    burst.put(*(f"slow {number}" for number in range(1000)))
    wait_for(lambda: burst.lane._serving == 1000)
    burst.gate.set()
    burst.run()
    assert len(burst.served) == 1000
