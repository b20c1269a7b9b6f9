"""What Prometheus may know of one process; :mod:`.report` adds up those of a node.

Every label has few values, all of them ours: a reason, a mode, the name of a configured vCenter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mksfilter import log
from mksfilter.proxy.web import samples

if TYPE_CHECKING:
    from mksfilter.backends.resolver import VCenterState

__all__ = ["Metrics"]


class Metrics:
    """The proxy's counters and gauges.

    :param vcenters: called at each look; the state of each vCenter.
    :ivar pid: whose they are.
    """

    def __init__(self, vcenters: Callable[[], Iterable[VCenterState]] = tuple) -> None:
        self.pid = os.getpid()
        self._dropped_before = 0
        self._vcenters = vcenters
        registry = CollectorRegistry()
        self._registry = registry
        self._active = Gauge(
            "mksfilter_sessions_active",
            "Console sessions that are open.",
            registry=registry,
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
        self._log_dropped = Counter(
            "mksfilter_log_lines_dropped",
            "Lines of the log that nobody took in time.",
            registry=registry,
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
        )
        self._vcenter_calls = Gauge(
            "mksfilter_vcenter_calls",
            "Calls that a vCenter is working on, and those that wait for a place.",
            ["vcenter", "state"],
            registry=registry,
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
        """Look at what is not told but asked: the vCenters, and the log."""
        dropped = log.lines_dropped()
        self._log_dropped.inc(dropped - self._dropped_before)
        self._dropped_before = dropped
        for vcenter in self._vcenters():
            self._vcenter_up.labels(vcenter.name).set(int(vcenter.state in ("new", "up")))
            self._vcenter_calls.labels(vcenter.name, "in-flight").set(vcenter.in_flight)
            self._vcenter_calls.labels(vcenter.name, "waiting").set(vcenter.waiting)

    def families(self) -> samples.Families:
        """All of it, as values."""
        self.refresh()
        return samples.of_registry(self._registry.collect(), _MERGE)

    def exposition(self) -> tuple[str, bytes]:
        """Content type and body for a scrape of this process alone."""
        return samples.exposition(self.families())


#: How a gauge of several workers is one; the others are added.
_MERGE: Final[dict[str, samples.Merge]] = {"mksfilter_vcenter_up": "max"}
