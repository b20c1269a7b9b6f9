"""How descriptors are divided."""

from hypothesis import given
from hypothesis import strategies as st

from mksfilter.proxy import fd_budget


@given(st.integers(256, 2_000_000))
def test_whoever_may_come_finds_a_descriptor(limit):
    taken = 2 * fd_budget.sessions(limit) + fd_budget.waiting(limit)
    assert taken < limit
    assert fd_budget.waiting(limit) >= 64


@given(st.integers(2, 100_000))
def test_the_advice_is_enough_and_not_much_more(wanted):
    advice = fd_budget.needed(wanted)
    assert fd_budget.sessions(advice) >= wanted
    assert fd_budget.sessions(advice - 8) < wanted
