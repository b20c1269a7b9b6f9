"""Adding up the metrics of several processes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mksfilter.proxy.web import samples


def process(*, seconds=(), sessions=0.0, up=1.0, refused=0) -> samples.Families:
    registry = CollectorRegistry()
    counter = Counter("refused", "R.", ["reason"], registry=registry)
    if refused:
        counter.labels("late").inc(refused)
    Gauge("sessions", "S.", registry=registry).set(sessions)
    Gauge("up", "U.", registry=registry).set(up)
    Gauge("age", "A.", registry=registry).set(up)
    histogram = Histogram("open", "O.", registry=registry, buckets=(1, 2))
    for value in seconds:
        histogram.observe(value)
    return samples.of_registry(registry.collect(), {"up": "max", "age": "min"})


def lines(*processes: samples.Families) -> list[str]:
    text = samples.exposition(samples.add_up(processes))[1].decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_counters_and_histograms_are_added():
    shown = lines(process(refused=2, seconds=(0.5, 3)), process(refused=3, seconds=(1.5,)))
    assert 'refused_total{reason="late"} 5.0' in shown
    assert shown[-5:] == [
        'open_bucket{le="1.0"} 1.0',
        'open_bucket{le="2.0"} 2.0',
        'open_bucket{le="+Inf"} 3.0',
        "open_count 3.0",
        "open_sum 5.0",
    ]


def test_a_gauge_is_the_sum_the_most_or_the_least_as_its_family_says():
    shown = lines(process(sessions=2, up=0), process(sessions=3, up=1))
    assert [line for line in shown if line.split()[0] in ("sessions", "up", "age")] == [
        "sessions 5.0",
        "up 1.0",
        "age 0.0",
    ]


def test_what_one_process_alone_has_is_there():
    assert 'refused_total{reason="late"} 1.0' in lines(process(), process(refused=1))


def test_of_a_process_that_ended_only_its_gauges_go():
    shown = lines(samples.kept(process(refused=2, sessions=7)), process(sessions=1))
    assert "sessions 1.0" in shown
    assert 'refused_total{reason="late"} 2.0' in shown


def test_when_a_counter_was_made_is_nobodys_business():
    assert not any("_created" in line for line in lines(process(refused=1)))
