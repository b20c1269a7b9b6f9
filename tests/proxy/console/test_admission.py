"""Whether a node takes one more session."""

from __future__ import annotations

import contextlib

import gevent
import pytest

from mksfilter.auth.token import Claims
from mksfilter.exceptions import (
    DrainingError,
    InstanceLimitReached,
    OpeningLimitReached,
    RateLimitReached,
)
from mksfilter.proxy.console.admission import Admission
from mksfilter.proxy.console.limits import AddressRate, SessionLimits
from mksfilter.proxy.console.openings import Openings
from tests.support.clock import Clock

CLAIMS = Claims(
    jti="j", aud="tests", iid="vm-1", uid="alice", iat=0, exp=60, use="connect", mode="full"
)


def test_an_instance_may_have_so_many_sessions_until_one_ends() -> None:
    admission = Admission(AddressRate(0), SessionLimits(10, per_instance=1))
    place = admission.admit(CLAIMS, "192.0.2.1")
    with pytest.raises(InstanceLimitReached):
        admission.admit(CLAIMS, "192.0.2.2")
    place.release()
    admission.admit(CLAIMS, "192.0.2.2")


def test_an_address_that_comes_too_often_takes_no_place() -> None:
    clock = Clock()
    admission = Admission(AddressRate(0.1, burst=1), SessionLimits(2), clock=clock)
    admission.admit(CLAIMS, "192.0.2.1")
    with pytest.raises(RateLimitReached):
        admission.admit(CLAIMS, "192.0.2.1")
    clock.advance(10)
    admission.admit(CLAIMS, "192.0.2.1")


def test_a_node_that_is_taken_out_of_service_takes_nobody() -> None:
    draining = False
    admission = Admission(AddressRate(0), SessionLimits(1), draining=lambda: draining)
    admission.require_service()
    draining = True
    with pytest.raises(DrainingError):
        admission.require_service()


ADDRESS = "192.0.2.1"


def test_consoles_wait_for_their_turn_and_go_in_order() -> None:
    admission = Admission(AddressRate(0), SessionLimits(0), openings=Openings(1))
    order = []

    def open_console(name: str, seconds: float) -> None:
        with admission.turn(CLAIMS, ADDRESS):
            order.append(name)
            gevent.sleep(seconds)

    opening = [gevent.spawn(open_console, name, 0.01) for name in "abc"]
    gevent.joinall(opening, raise_error=True)
    assert order == ["a", "b", "c"]


def test_whose_turn_does_not_come_is_told_and_leaves_the_line() -> None:
    openings = Openings(1)
    admission = Admission(AddressRate(0), SessionLimits(0), openings=openings, patience=0.01)
    with admission.turn(CLAIMS, ADDRESS):
        with pytest.raises(OpeningLimitReached, match="within"), admission.turn(CLAIMS, ADDRESS):
            pytest.fail("two at a time")
        assert openings.waiting == 0
    assert len(openings) == 0


def test_who_gives_way_to_another_is_told() -> None:
    openings = Openings(1, waiting=2)
    admission = Admission(AddressRate(0), SessionLimits(0), openings=openings)
    refused = []

    def wait() -> None:
        try:
            with admission.turn(CLAIMS, ADDRESS):
                pass
        except OpeningLimitReached as exc:
            refused.append(exc)

    with admission.turn(CLAIMS, ADDRESS):
        waiting = [gevent.spawn(wait) for _ in range(2)]
        gevent.sleep(0)
        openings.ask("bob", ADDRESS, lambda: None)
        gevent.sleep(0)
        assert len(refused) == 1
    gevent.joinall(waiting, timeout=0.01)


def test_questions_about_unverified_tokens_have_a_rate_that_is_not_the_sessions() -> None:
    clock = Clock()
    admission = Admission(
        AddressRate(1, burst=1), SessionLimits(0), questions=AddressRate(1, burst=2), clock=clock
    )
    for _ in range(2):
        with admission.question(ADDRESS):
            pass
    with pytest.raises(RateLimitReached), admission.question(ADDRESS):
        pytest.fail("nova was asked")
    admission.admit(CLAIMS, ADDRESS)


def test_an_address_may_not_have_all_questions_unanswered() -> None:
    admission = Admission(AddressRate(0), SessionLimits(0))
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(admission.question(ADDRESS))
        with pytest.raises(RateLimitReached, match="unanswered"), admission.question(ADDRESS):
            pytest.fail("nova was asked")
        with admission.question("192.0.2.2"):
            pass
    with admission.question(ADDRESS):
        pass
