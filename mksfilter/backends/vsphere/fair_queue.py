"""A queue in which users take turns, however many requests one of them has sent."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First come, first served within a user; round-robin between users. No I/O, no clock.

    A user with a thousand consoles to reopen delays another user's single console by one turn,
    not by a thousand.
    """

    def __init__(self) -> None:
        self._turns: OrderedDict[str, deque[T]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, user: str, item: T) -> None:
        """Append *item* to the line of *user*."""
        self._turns.setdefault(user, deque()).append(item)
        self._length += 1

    def pop(self) -> T:
        """The oldest item of the user whose turn it is; their next turn comes after all others'.

        :raises IndexError: the queue is empty.
        """
        if not self._turns:
            raise IndexError("the queue is empty")
        user, line = self._turns.popitem(last=False)
        item = line.popleft()
        if line:
            self._turns[user] = line
        self._length -= 1
        return item
