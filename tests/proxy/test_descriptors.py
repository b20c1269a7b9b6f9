"""How descriptors are divided."""

from hypothesis import given
from hypothesis import strategies as st

from mksfilter.proxy import descriptors


@given(st.integers(256, 2_000_000))
def test_whoever_may_come_finds_a_descriptor(limit):
    taken = 2 * descriptors.sessions(limit) + descriptors.waiting(limit)
    assert taken < limit
    assert descriptors.waiting(limit) >= 64


@given(st.integers(2, 100_000))
def test_the_advice_is_enough_and_not_much_more(wanted):
    advice = descriptors.needed(wanted)
    assert descriptors.sessions(advice) >= wanted
    assert descriptors.sessions(advice - 8) < wanted
