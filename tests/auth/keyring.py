"""A key source for tests that need no directory."""

from __future__ import annotations

from mksfilter.auth.token import Key
from mksfilter.exceptions import TokenKeyUnknown


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
