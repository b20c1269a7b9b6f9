from __future__ import annotations

import pytest

from mksfilter.lru import LRUMap


def test_the_entry_used_longest_ago_goes_first() -> None:
    entries: LRUMap[str, int] = LRUMap(2)
    entries.put("a", 1)
    entries.put("b", 2)
    assert entries.get("a") == 1
    entries.put("c", 3)
    assert [entries.get(key) for key in "abc"] == [1, None, 3]
    assert len(entries) == 2


def test_writing_an_entry_again_is_a_use_and_asking_whether_it_is_there_is_none() -> None:
    entries: LRUMap[str, int] = LRUMap(2)
    entries.put("a", 1)
    entries.put("b", 2)
    entries.put("a", 10)
    assert "b" in entries
    entries.put("c", 3)
    assert "b" not in entries
    assert entries.get("a") == 10


def test_none_is_a_value() -> None:
    entries: LRUMap[str, None] = LRUMap(2)
    entries.put("a", None)
    entries.put("b", None)
    assert entries.get("a") is None
    entries.put("c", None)
    assert [key in entries for key in "abc"] == [True, False, True]


def test_what_is_forgotten_is_gone_and_may_be_forgotten_twice() -> None:
    entries: LRUMap[str, int] = LRUMap(2)
    entries.put("a", 1)
    entries.forget("a")
    entries.forget("a")
    assert entries.get("a") is None
    entries.put("b", 2)
    entries.clear()
    assert len(entries) == 0


def test_a_map_that_could_hold_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        LRUMap(0)
