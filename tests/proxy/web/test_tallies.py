"""Plain numbers show what prometheus_client's own counters and histograms would."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from mksfilter.proxy.web import samples
from mksfilter.proxy.web.tallies import HistogramTally, Tally

BOUNDS = (0.0005, 0.25, 1, 20)


def shown(registry: CollectorRegistry) -> bytes:
    """What a scrape has, but for the times at which counters were made, which we never show."""
    return samples.exposition(samples.of_registry(registry.collect(), {}))[1]


def test_a_tally_is_shown_as_a_counter_is():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = Tally(ours, "things", "Words.", "reason")
    counter = Counter("things", "Words.", ["reason"], registry=theirs)
    for reason, count in (("new", 0), ("a", 1), ("b", 7), ("a", 2.5)):
        tally.add(reason, count)
        counter.labels(reason).inc(count)
    assert shown(ours) == shown(theirs)
    assert b'things_total{reason="a"} 3.5' in generate_latest(ours)


@pytest.mark.parametrize("label", ["", "vcenter"])
def test_a_histogram_is_shown_as_prometheus_clients_is(label):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = HistogramTally(ours, "h_seconds", "Words.", bounds=BOUNDS, label=label)
    histogram = Histogram(
        "h_seconds", "Words.", [label] if label else [], buckets=BOUNDS, registry=theirs
    )
    assert shown(ours) == shown(theirs)
    amounts = [*BOUNDS, 0, 20.5, *(random.Random(1).uniform(0, 30) for _ in range(50))]
    for amount in amounts:
        for value in ("dc1", "dc2") if label else ("",):
            tally.observe(amount, value)
            (histogram.labels(value) if label else histogram).observe(amount)
    assert shown(ours) == shown(theirs)


def test_a_second_one_of_the_same_name_is_refused():
    registry = CollectorRegistry()
    Tally(registry, "things", "Words.", "reason")
    HistogramTally(registry, "h_seconds", "Words.", bounds=BOUNDS)
    with pytest.raises(ValueError, match="Duplicated"):
        Tally(registry, "things", "Words.", "reason")
    with pytest.raises(ValueError, match="Duplicated"):
        HistogramTally(registry, "h_seconds", "Words.", bounds=BOUNDS)
