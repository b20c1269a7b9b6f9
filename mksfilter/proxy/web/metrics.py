"""What Prometheus may know. One object per process; under several workers set
``PROMETHEUS_MULTIPROC_DIR``, and each worker's ``/metrics`` tells the sum of all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

if TYPE_CHECKING:
    from mksfilter.backends.resolver import VCenterState

__all__ = ["Metrics"]


class Metrics:
    """The proxy's counters and gauges.

    :param vcenters: called at each scrape; the state of each vCenter.
    """

    def __init__(self, vcenters: Callable[[], Iterable[VCenterState]] = tuple) -> None:
        self._vcenters = vcenters
        registry = CollectorRegistry()
        self._registry = registry
        self._active = Gauge(
            "mksfilter_sessions_active",
            "Console sessions that are open.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._opened = Counter(
            "mksfilter_sessions_opened", "Console sessions opened.", ["mode"], registry=registry
        )
        self._refused = Counter(
            "mksfilter_refusals", "Requests refused, by reason.", ["reason"], registry=registry
        )
        self._ended = Counter(
            "mksfilter_sessions_ended",
            "Console sessions ended, by reason.",
            ["reason"],
            registry=registry,
        )
        sent = Counter(
            "mksfilter_bytes",
            "Bytes relayed: in from browsers, out to them.",
            ["direction"],
            registry=registry,
        )
        self._bytes_in, self._bytes_out = sent.labels("in"), sent.labels("out")
        self._open_seconds = Histogram(
            "mksfilter_session_open_seconds",
            "Seconds from a good token to the answer 101: ticket, dial, handshake.",
            registry=registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
        )
        self._audit_lost = Counter(
            "mksfilter_audit_events_lost",
            "Audit events that a place of the audit trail will not get.",
            ["sink"],
            registry=registry,
        )
        self._vcenter_up = Gauge(
            "mksfilter_vcenter_up",
            "1 when the last calls to the vCenter were answered, 0 when it is left alone.",
            ["vcenter"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._vcenter_calls = Gauge(
            "mksfilter_vcenter_calls",
            "Calls that a vCenter is working on, and those that wait for a place.",
            ["vcenter", "state"],
            registry=registry,
            multiprocess_mode="livesum",
        )

    def refuse(self, reason: str) -> None:
        """Count a refused request; *reason* is that of a :class:`ConsoleError`."""
        self._refused.labels(reason).inc()

    def opened_in(self, seconds: float) -> None:
        """Note how long a console took from a good token to its ``101``."""
        self._open_seconds.observe(seconds)

    def session_opened(self, mode: str) -> None:
        """Count a session that begins; *mode* is that of its claims."""
        self._active.inc()
        self._opened.labels(mode).inc()

    def session_ended(self, reason: str) -> None:
        """Count a session that is over; *reason* is that of a :class:`SessionEnded`."""
        self._active.dec()
        self._ended.labels(reason).inc()

    def count_bytes(self, arrived: int, sent: int) -> None:
        """Add to what was relayed."""
        if arrived:
            self._bytes_in.inc(arrived)
        if sent:
            self._bytes_out.inc(sent)

    def audit_lost(self, sink: str, count: int) -> None:
        """Count audit events that *sink* (``file``, ``syslog``, ``messaging``) will not get."""
        self._audit_lost.labels(sink).inc(count)

    def refresh(self) -> None:
        """Look at the vCenters; under several workers each has to do so for itself."""
        for vcenter in self._vcenters():
            self._vcenter_up.labels(vcenter.name).set(int(vcenter.state in ("new", "up")))
            self._vcenter_calls.labels(vcenter.name, "in-flight").set(vcenter.in_flight)
            self._vcenter_calls.labels(vcenter.name, "waiting").set(vcenter.waiting)

    def exposition(self) -> tuple[str, bytes]:
        """Content type and body for a scrape."""
        self.refresh()
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return CONTENT_TYPE_LATEST, generate_latest(registry)
