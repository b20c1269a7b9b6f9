"""Refusals in the log, at a rate."""

from __future__ import annotations

import gevent
import pytest

from mksfilter.proxy.console.refusal_log import SUMMARY_EVERY, RefusalLog
from mksfilter.proxy.relay.timers import TimerWheel
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(caplog, clock) -> RefusalLog:
    caplog.set_level("INFO", logger="mksfilter")
    return RefusalLog(wheel=TimerWheel(gevent.get_hub().loop, resolution=60), clock=clock)


def refuse(log: RefusalLog, times: int, *, client: str = "192.0.2.1", reason: str = "x") -> int:
    """How many of so many refusals get a line."""
    return sum(log.has_room(reason, client) for _ in range(times))


def test_few_are_all_logged(log) -> None:
    assert refuse(log, 10) == 10
    assert not log.slot


def test_a_flood_leaves_a_count_and_hides_nobody(log, caplog, clock) -> None:
    assert refuse(log, 10_000) == 50
    assert refuse(log, 3, client="192.0.2.2") == 3
    assert log.slot, "what was left out will be said"
    log.on_timer(0)
    gevent.sleep(0)
    assert caplog.messages == ["event=refusals-left-out reason=x count=9950"]
    clock.advance(SUMMARY_EVERY)
    assert refuse(log, 100) == 2 * SUMMARY_EVERY


def test_a_flood_from_many_addresses_is_bounded_too(log) -> None:
    assert sum(refuse(log, 2, client=f"192.0.2.{number}") for number in range(250)) == 200
    assert refuse(log, 1, reason="another") == 1


def test_an_ipv6_customer_is_one_address(log) -> None:
    assert sum(refuse(log, 1, client=f"2001:db8::{number:x}") for number in range(1000)) == 50
