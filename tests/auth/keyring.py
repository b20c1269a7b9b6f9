"""A key source and a clock for tests that need no directory and no waiting."""

from __future__ import annotations

from mksfilter.auth.token import Key
from mksfilter.exceptions import TokenKeyUnknown


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Keyring:
    """Keys in memory; the first one signs."""

    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys)

    def primary(self) -> Key:
        return self.keys[0]

    def get(self, kid: str) -> Key:
        for key in self.keys:
            if key.kid == kid:
                return key
        raise TokenKeyUnknown(kid)


def key(number: int = 1) -> Key:
    """The same key for the same number."""
    return Key(bytes((number * 37 + position * 11) % 256 for position in range(32)))
