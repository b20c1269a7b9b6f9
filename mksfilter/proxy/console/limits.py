"""How many sessions, and how fast: limits that need no shared memory. No I/O.

Every refusal here comes before vCenter is asked (OSSN-0008). Counts are per worker process.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar

from mksfilter.exceptions import (
    InstanceLimitReached,
    RateLimitReached,
    SessionLimitReached,
    UserLimitReached,
)
from mksfilter.lru import LRUMap

__all__ = ["AddressRate", "Reservation", "SessionLimits", "TokenBuckets", "network", "subtract"]

_Key = TypeVar("_Key", bound=Hashable)
_REMEMBERED = 4096  # addresses


class Reservation:
    """A place taken by one session, from before its ticket until its end."""

    __slots__ = ("_instance", "_limits", "_user")

    def __init__(self, limits: SessionLimits, instance: str, user: str) -> None:
        self._limits: SessionLimits | None = limits
        self._instance = instance
        self._user = user

    def release(self) -> None:
        """Give the place back; harmless when repeated."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.give_back(self._instance, self._user)


class SessionLimits:
    """Sessions at the same time, those being opened included; 0 means no limit.

    :param total: in this process.
    :param per_instance: of one instance.
    :param per_user: of one user; a token that names no user is not counted.
    """

    def __init__(self, total: int, per_instance: int = 0, per_user: int = 0) -> None:
        self._total = total
        self._per_instance = per_instance
        self._per_user = per_user
        self._taken = 0
        self._instances: Counter[str] = Counter()
        self._users: Counter[str] = Counter()

    @property
    def use(self) -> dict[str, tuple[int, int]]:
        """By the name of its option: what the limit is (0: none), and how much of it is used; of
        those that each instance or user has for itself, by who has most."""
        return {
            "max_sessions": (self._total, self._taken),
            "max_sessions_per_instance": (
                self._per_instance,
                max(self._instances.values(), default=0),
            ),
            "max_sessions_per_user": (self._per_user, max(self._users.values(), default=0)),
        }

    @property
    def full(self) -> str:
        """Which limit of the process is reached; nothing while there is room."""
        if self._total and self._taken >= self._total:
            return f"max_sessions ({self._total}) is reached"
        return ""

    def reserve(self, instance: str, user: str) -> Reservation:
        """Take a place.

        :raises LimitReached: one of its subclasses, for the limit that is reached.
        """
        if self._taken >= self._total > 0:
            raise SessionLimitReached(self.full)
        # ``get`` rather than a Counter's own way with what is missing, which is Python.
        of_instance = self._instances.get(instance, 0)
        of_user = self._users.get(user, 0)
        if self._per_instance and of_instance >= self._per_instance:
            raise InstanceLimitReached(
                f"instance {instance}: max_sessions_per_instance ({self._per_instance}) is reached",
                limit=self._per_instance,
            )
        if user and self._per_user and of_user >= self._per_user:
            raise UserLimitReached(
                f"user {user}: max_sessions_per_user ({self._per_user}) is reached",
                limit=self._per_user,
            )
        self._taken += 1
        self._instances[instance] = of_instance + 1
        if user:
            self._users[user] = of_user + 1
        return Reservation(self, instance, user)

    def give_back(self, instance: str, user: str) -> None:
        """A place that :meth:`reserve` gave is free again; :class:`Reservation` says so once."""
        self._taken -= 1
        subtract(self._instances, instance)
        if user:
            subtract(self._users, user)


class TokenBuckets(Generic[_Key]):
    """A token bucket for each key, in bounded memory.

    :param rate: tokens per second that one key gets.
    :param burst: tokens that it may have saved up.
    :param capacity: keys remembered; the one unseen for longest is forgotten first.
    """

    def __init__(self, rate: float, *, burst: float, capacity: int) -> None:
        self._rate = rate
        self._burst = burst
        # Key -> tokens left, and when that was.
        self._buckets: LRUMap[_Key, tuple[float, float]] = LRUMap(capacity)

    def take(self, key: _Key, now: float) -> bool:
        """Whether *key* had a token left at *now* (monotonic seconds), which is then taken."""
        level = self._level(key, now)
        allowed = level >= 1.0
        self._buckets.put(key, (level - 1.0 if allowed else level, now))
        return allowed

    def pause(self, key: _Key, now: float) -> float:
        """Seconds from *now* after which *key* has a token."""
        return max(0.0, 1.0 - self._level(key, now)) / self._rate

    def _level(self, key: _Key, now: float) -> float:
        level, since = self._buckets.get(key) or (self._burst, now)
        return min(self._burst, level + max(0.0, now - since) * self._rate)


class AddressRate:
    """New sessions of one client address in a second.

    An IPv6 client is known by its /64, all of which one customer usually has.

    :param rate: new sessions per second that one address may open; 0: no limit.
    :param burst: sessions that may come at once.
    :param capacity: addresses remembered; the one unseen for longest is forgotten first.
    """

    def __init__(self, rate: float, *, burst: float | None = None, capacity: int = 65536) -> None:
        self._rate = rate
        self._buckets: TokenBuckets[str] = TokenBuckets(
            rate, burst=max(1.0, rate * 10 if burst is None else burst), capacity=capacity
        )

    def take(self, address: str, now: float) -> None:
        """Count one new session of *address* at *now* (monotonic seconds).

        :raises RateLimitReached: it has used up its share.
        """
        client = network(address)
        if self._rate and not self._buckets.take(client, now):
            raise RateLimitReached(
                f"address {address}: connection_rate ({self._rate:g}/s) reached",
                seconds=self._buckets.pause(client, now),
            )


@functools.lru_cache(maxsize=_REMEMBERED)
def network(address: str) -> str:
    """What *address* is counted as: an IPv6 address as its /64, all of which one customer has."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return f"{int(parsed) >> 64:x}/64"
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def subtract(counter: Counter[str], key: str) -> None:
    """Count one *key* less; one that is not there any more takes no memory."""
    left = counter[key] - 1
    if left:
        counter[key] = left
    else:
        counter.pop(key)  # C, where Counter's own ``del`` is Python


def _most(counter: Counter[str]) -> int:
    return max(counter.values(), default=0)
