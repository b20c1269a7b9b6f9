"""Counters and histograms of one process, added up in plain numbers.

Those of prometheus_client take a lock at each count, which under gevent's patches is some ten
calls, and an opening counts a dozen times. These belong to the one thread of a worker's event loop,
and become prometheus_client's samples when somebody looks: they are custom collectors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

__all__ = ["HistogramTally", "Tally"]


class Tally:
    """A counter with one label.

    :param name: without ``_total``.
    :param label: its name.
    :ivar counts: by the label's value; each is shown from its first entry on, be it 0.
    """

    def __init__(self, registry: CollectorRegistry, name: str, words: str, label: str) -> None:
        self.counts: dict[str, float] = {}
        self._name = name
        self._words = words
        self._label = label
        registry.register(self)

    def add(self, value: str, count: float = 1) -> None:
        """Count so many more of the label's *value*."""
        self.counts[value] = self.counts.get(value, 0) + count

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        family = CounterMetricFamily(self._name, self._words, labels=[self._label])
        for value, count in self.counts.items():
            family.add_metric([value], count)
        yield family

    def describe(self) -> Iterator[Metric]:
        """The same without samples, so that a second one of this name is refused."""
        yield CounterMetricFamily(self._name, self._words, labels=[self._label])


class HistogramTally:
    """A histogram with one label, or without.

    :param bounds: upper ones of the buckets, each inclusive; infinity is added.
    :param label: its name; empty: none, and what is observed is of the value ''.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        words: str,
        *,
        bounds: Sequence[float],
        label: str = "",
    ) -> None:
        self._name = name
        self._words = words
        self._bounds = tuple(map(float, bounds))
        self._buckets = (*map(repr, self._bounds), "+Inf")
        self._labels = [label] if label else []
        # For each value of the label: how many in each bucket alone, and the sum.
        self._observed: dict[str, tuple[list[int], list[float]]] = {}
        if not label:
            self._begin("")
        registry.register(self)

    def observe(self, amount: float, value: str = "") -> None:
        """Add an observation to those of the label's *value*."""
        counts, total = self._observed.get(value) or self._begin(value)
        counts[bisect_left(self._bounds, amount)] += 1
        total[0] += amount

    def _begin(self, value: str) -> tuple[list[int], list[float]]:
        observed = self._observed[value] = ([0] * len(self._buckets), [0.0])
        return observed

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        family = HistogramMetricFamily(self._name, self._words, labels=self._labels)
        for value, (counts, total) in self._observed.items():
            below = 0
            buckets: list[tuple[str, float]] = []
            for bucket, count in zip(self._buckets, counts, strict=True):
                below += count
                buckets.append((bucket, below))
            family.add_metric([value] if self._labels else [], buckets, total[0])
        yield family

    def describe(self) -> Iterator[Metric]:
        """The same without samples, so that a second one of this name is refused."""
        yield HistogramMetricFamily(self._name, self._words, labels=self._labels)
