from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.backends.vsphere.fair_queue import FairQueue


def drained(queue: FairQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_one_user_is_served_in_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3"):
        queue.put("a", item)
    assert drained(queue) == ["a1", "a2", "a3"]


def test_users_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "a4"):
        queue.put("a", item)
    queue.put("b", "b1")
    queue.put("c", "c1")
    assert drained(queue) == ["a1", "b1", "c1", "a2", "a3", "a4"]


def test_a_single_request_waits_one_turn_behind_a_thousand() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(1000):
        queue.put("busy", str(number))
    queue.put("me", "mine")
    assert [queue.pop(), queue.pop()] == ["0", "mine"]


def test_coming_back_early_gains_no_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put("a", "a1")
    queue.put("b", "b1")
    assert queue.pop() == "a1"
    queue.put("a", "a2")
    assert drained(queue) == ["b1", "a2"]


def test_nobody_waits() -> None:
    with pytest.raises(IndexError):
        FairQueue[str]().pop()


@given(st.lists(st.sampled_from("abcd"), max_size=60))
def test_everything_comes_out_once_and_nobody_is_overtaken_twice(users: list[str]) -> None:
    queue: FairQueue[str] = FairQueue()
    for number, user in enumerate(users):
        queue.put(user, f"{user}{number}")
    order = drained(queue)
    assert sorted(order) == sorted(f"{user}{number}" for number, user in enumerate(users))
    for user in set(users):
        mine = [item for item in order if item[0] == user]
        assert mine == sorted(mine, key=lambda item: int(item[1:]))
        for first, second in itertools.pairwise(mine):
            between = order[order.index(first) + 1 : order.index(second)]
            assert len({item[0] for item in between}) == len(between)
