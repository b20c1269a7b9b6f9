"""A clock for what takes one as a parameter."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """Seconds that pass when told to.

    :param now: where it begins: by default some time of day, in seconds since the epoch.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
