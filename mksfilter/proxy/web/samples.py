"""Metrics as values: what one process counted, and what several say together. No I/O.

prometheus_client can add up several processes by files that they map. A write to such a file kills
the process when its disk is full, and the files of a process that was killed stay. So each process
counts for itself, publishes what it has on its page of the board, and whoever is asked adds up.

Counters and histograms add up over all processes, also those that have ended: they must never run
backwards. Of gauges, those of live processes count, in the way that the family names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest

__all__ = ["Families", "Merge", "add_up", "exposition", "gauge", "kept", "of_registry"]

Merge = Literal["sum", "max", "min"]
#: JSON-able: ``{"name", "type", "doc", "merge", "samples": [[name, labels, number], ...]}``.
Families = list[dict[str, Any]]

_MERGE: Final[Mapping[str, Callable[[float, float], float]]] = {
    "sum": lambda a, b: a + b,
    "max": max,
    "min": min,
}


def of_registry(metrics: Iterable[Metric], merge: Mapping[str, Merge]) -> Families:
    """What a registry's ``collect()`` yields.

    :param merge: by name, how a gauge of several processes is one; ``sum`` where it is not named.
    """
    return [
        {
            "name": metric.name,
            "type": metric.type,
            "doc": metric.documentation,
            "merge": merge.get(metric.name, "sum"),
            "samples": [
                [sample.name, sample.labels, sample.value]
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ],
        }
        for metric in metrics
    ]


def gauge(
    name: str, doc: str, values: Mapping[tuple[tuple[str, str], ...], float]
) -> dict[str, Any]:
    """The family of a gauge, its values by their labels."""
    samples = [[name, dict(labels), float(value)] for labels, value in values.items()]
    return {"name": name, "type": "gauge", "doc": doc, "merge": "sum", "samples": samples}


def kept(families: Families) -> Families:
    """What stays of a process that has ended: all but its gauges."""
    return [family for family in families if family["type"] != "gauge"]


def add_up(processes: Sequence[Families]) -> Families:
    """One list of families of those of several processes."""
    merged: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[tuple[Any, ...], float]] = {}
    for families in processes:
        for family in families:
            name = family["name"]
            merged.setdefault(name, family)
            found = values.setdefault(name, {})
            add = _MERGE[family["merge"]]
            for sample, labels, value in family["samples"]:
                key = (sample, *labels.items())
                found[key] = add(found[key], value) if key in found else value
    return [
        {
            **family,
            "samples": [
                [key[0], dict(key[1:]), value] for key, value in values[family["name"]].items()
            ],
        }
        for family in merged.values()
    ]


def exposition(families: Families) -> tuple[str, bytes]:
    """Content type and body in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(families))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _Collector:
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """For a registry."""
        for family in self._families:
            metric = Metric(family["name"], family["doc"], family["type"])
            for name, labels, value in family["samples"]:
                metric.add_sample(name, labels, value)
            yield metric
