"""Refusals in the log, at a rate.

Anybody can be refused as often as they like, and a log that has a line for each is a disk that
fills and a processor that is busy with it. One address has its share of the lines of a reason, so
that its flood does not hide what others are refused for, and a reason has its share of all. What
was left out is counted, and said every ten seconds.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import gevent

from mksfilter.log import event
from mksfilter.proxy.console.limits import TokenBuckets, network
from mksfilter.proxy.relay.timers import TimerWheel, shared_wheel

__all__ = ["SUMMARY_EVERY", "RefusalLog"]

LOG = logging.getLogger(__name__)

#: Seconds between two lines that say what was left out.
SUMMARY_EVERY: Final = 10.0


class RefusalLog:
    """
    :param wheel: schedules what is said later; by default the process's.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        wheel: TimerWheel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slot = 0
        self._wheel = wheel or shared_wheel()
        self._clock = clock
        self._of_address: TokenBuckets[tuple[str, str]] = TokenBuckets(2.0, burst=50, capacity=4096)
        self._of_reason: TokenBuckets[str] = TokenBuckets(20.0, burst=200, capacity=256)
        self._left_out: Counter[str] = Counter()

    def has_room(self, reason: str, client: str) -> bool:
        """Whether one more refusal may have its line; it is counted otherwise.

        :param reason: that of the error.
        :param client: its address.
        """
        now = self._clock()
        if self._of_address.take((reason, network(client)), now) and self._of_reason.take(
            reason, now
        ):
            return True
        self._left_out[reason] += 1
        if not self.slot:
            self._wheel.schedule(self, time.monotonic() + SUMMARY_EVERY)
        return False

    def on_timer(self, now: float) -> None:  # noqa: ARG002
        """Called by the wheel, in the hub."""
        left_out, self._left_out = self._left_out, Counter()
        gevent.spawn(_summarize, left_out)


def _summarize(left_out: Counter[str]) -> None:
    for reason, count in sorted(left_out.items()):
        LOG.info(event("refusals-left-out", reason=reason, count=count))
