"""Microseconds per call, on a machine that does other things too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

__all__ = ["microseconds"]


def microseconds(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, repeats: int
) -> dict[str, float]:
    """The best round of each of *calls*, taken in turns so that a busy moment meets all of them.

    The best, not the mean: what other processes take is not the code's. So a round is to be short
    (a few milliseconds), and there are to be many.
    """
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(repeats):
                call()
            best[name] = min(best[name], (time.perf_counter() - began) / repeats)
    return {name: seconds * 1e6 for name, seconds in best.items()}
