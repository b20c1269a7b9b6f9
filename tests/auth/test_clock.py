"""A clock that is set: what was good a moment ago is good for a while."""

from __future__ import annotations

import pytest

from mksfilter.auth.clock import BELIEVED_FOR, SetClock
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import TokenExpired, TokenNotYetValid
from mksfilter.request import ConsoleRequest
from tests.auth.keyring import Keyring, key
from tests.support.clock import Clock

REQUEST = ConsoleRequest("5f1c7e20-0000-4000-8000-000000000001", mode="full")


class Machine:
    """A node, and its two clocks."""

    def __init__(self) -> None:
        self.wall, self.steady = Clock(), Clock(50.0)
        self.clock = SetClock(30, wall=self.wall, steady=self.steady)
        self.codec = TokenCodec(
            Keyring(key()), "tests", clock=self.clock, as_before=self.clock.as_before
        )

    def passes(self, seconds: float) -> None:
        self.wall.advance(seconds)
        self.steady.advance(seconds)


@pytest.fixture
def machine():
    return Machine()


def test_a_clock_that_is_not_set_has_no_other_time(machine):
    machine.passes(86400)
    machine.wall.advance(20)  # less than clocks may differ
    assert machine.clock.as_before() is None
    assert machine.clock.take_jumps() == []


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_token_of_a_node_whose_clock_was_not_set_is_good_for_a_while(machine, jump):
    elsewhere = Machine()
    machine.wall.advance(jump)
    for passed in (0, BELIEVED_FOR - 60):
        machine.passes(passed)
        elsewhere.passes(passed)
        token = elsewhere.codec.issue(REQUEST, ttl=60).token
        assert machine.codec.verify(token).iid == REQUEST.instance_id
    machine.passes(61)
    with pytest.raises((TokenExpired, TokenNotYetValid)):
        machine.codec.verify(token)
    assert machine.clock.take_jumps() == [jump]
    assert machine.clock.take_jumps() == []


def test_a_token_by_the_new_time_is_good_as_well(machine):
    machine.wall.advance(3600)
    token = machine.codec.issue(REQUEST, ttl=60).token
    assert machine.codec.verify(token).iat == machine.wall.now


def test_what_had_expired_before_the_clock_was_set_has_expired(machine):
    token = machine.codec.issue(REQUEST, ttl=60).token
    machine.passes(120)
    machine.wall.advance(3600)
    with pytest.raises(TokenExpired):
        machine.codec.verify(token)
