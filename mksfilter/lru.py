"""A map that forgets: bounded in size, the entry used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["LRUMap"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUMap(Generic[K, V]):
    """At most *size* entries. Reading and writing an entry are uses of it.

    Operations take constant time. Threads may share one: they may make it forget an entry more than
    it has to, and nothing else.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError("an LRU map holds at least one entry")
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        """Whether *key* is there; to ask is not a use."""
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value of *key*, now the most recently used; None when there is none."""
        try:
            self._entries.move_to_end(key)
            return self._entries[key]
        except KeyError:
            return None

    def put(self, key: K, value: V) -> None:
        """Set *key*, now the most recently used; the one used longest ago may go for it."""
        self._entries.pop(key, None)
        self._entries[key] = value
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        """Remove *key*; harmless when it is not there."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Remove everything."""
        self._entries.clear()
