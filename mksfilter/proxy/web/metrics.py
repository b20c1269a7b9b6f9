"""What one process counts for Prometheus; :mod:`.gauges` is what is looked at, and :mod:`.report`
adds up the processes of a node.

Every label has few values, all of them ours: a reason, a mode, the name of a configured vCenter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from mksfilter.exceptions import ConsoleError, SessionEnded
from mksfilter.proxy.web import samples
from mksfilter.proxy.web.tallies import HistogramTally, Tally

__all__ = ["Metrics", "Step"]

#: Of an opening, in their order.
Step = Literal["token", "ticket", "dial", "open", "first-byte"]

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
# Microseconds of cryptography, or a question to Nova or to a cache.
_TOKEN_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10)
#: Names in tokens that another process sealed; more than these are one.
_MOST_VCENTERS: Final = 100
_OTHER: Final = "other"


class Metrics:
    """The proxy's counters and histograms.

    :ivar pid: whose they are.
    :ivar registry: where they are, and where :mod:`.gauges` are.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.registry = registry = CollectorRegistry()
        self._looks: list[Callable[[], None]] = []
        self._merge: dict[str, samples.Merge] = {}
        self._active = 0
        Gauge(
            "mksfilter_sessions_active", "Console sessions that are open.", registry=registry
        ).set_function(lambda: self._active)
        self._opened = Tally(
            registry, "mksfilter_sessions_opened", "Console sessions opened.", "mode"
        )
        self._refused = Tally(
            registry, "mksfilter_refusals", "Requests refused, by reason.", "reason"
        )
        self._ended = Tally(
            registry, "mksfilter_sessions_ended", "Console sessions ended, by reason.", "reason"
        )
        self._bytes = Tally(
            registry,
            "mksfilter_bytes",
            "Bytes relayed: in from browsers, out to them.",
            "direction",
        )
        self._steps: dict[Step, HistogramTally] = {
            "token": HistogramTally(
                registry,
                "mksfilter_token_seconds",
                "Seconds to verify a good token; one of Nova's own is asked of Nova.",
                bounds=_TOKEN_SECONDS,
            ),
            "ticket": self._by_vcenter("ticket", "Seconds to find the VM and take a ticket."),
            "dial": self._by_vcenter(
                "dial", "Seconds to connect to the console host: name, TCP, TLS, handshake."
            ),
            "open": self._by_vcenter(
                "session_open", "Seconds from a good token to the answer 101: ticket, dial."
            ),
            "first-byte": self._by_vcenter(
                "first_byte", "Seconds from the answer 101 to the host's first byte."
            ),
        }
        self._vcenters: set[str] = {""}
        self._audit_lost = Counter(
            "mksfilter_audit_events_lost",
            "Audit events that a place of the audit trail will not get.",
            ["sink"],
            registry=registry,
        )
        # A counter that first shows with 1 has not increased, for Prometheus: all begin with 0.
        for reason in _reasons(ConsoleError):
            self._refused.add(reason, 0)
        for reason in _reasons(SessionEnded):
            self._ended.add(reason, 0)
        for direction in ("in", "out"):
            self._bytes.add(direction, 0)
        for sink in ("file", "syslog", "messaging"):
            self._audit_lost.labels(sink)

    def _by_vcenter(self, name: str, words: str) -> HistogramTally:
        return HistogramTally(
            self.registry,
            f"mksfilter_{name}_seconds",
            words,
            bounds=_SECONDS,
            label="vcenter",
        )

    # -- what happened ---------------------------------------------------------------------------

    def refuse(self, reason: str) -> None:
        """Count a refused request; *reason* is that of a :class:`ConsoleError`."""
        self._refused.add(reason)

    def took(self, step: Step, seconds: float, vcenter: str = "") -> None:
        """Note how long a step of an opening took.

        :param vcenter: where the console is; not for ``token``.
        """
        if vcenter not in self._vcenters:
            vcenter = self._known(vcenter)
        self._steps[step].observe(seconds, vcenter)

    def session_opened(self, mode: str) -> None:
        """Count a session that begins; *mode* is that of its claims."""
        self._active += 1
        self._opened.add(mode)

    def session_lost(self, reason: str) -> None:
        """Count a session that is over, and that is among nobody's open ones any more."""
        self._ended.add(reason)

    def session_ended(self, reason: str) -> None:
        """Count a session that is over; *reason* is that of a :class:`SessionEnded`."""
        self._active -= 1
        self._ended.add(reason)

    def count_bytes(self, arrived: int, sent: int) -> None:
        """Add to what was relayed."""
        if arrived:
            self._bytes.add("in", arrived)
        if sent:
            self._bytes.add("out", sent)

    def audit_lost(self, sink: str, count: int) -> None:
        """Count audit events that *sink* (``file``, ``syslog``, ``messaging``) will not get."""
        self._audit_lost.labels(sink).inc(count)

    def _known(self, vcenter: str) -> str:
        if len(self._vcenters) > _MOST_VCENTERS:  # one of them is none
            return _OTHER
        self._vcenters.add(vcenter)
        return vcenter

    # -- what is looked at -----------------------------------------------------------------------

    def look_with(self, look: Callable[[], None]) -> None:
        """Have *look* called before each publication, to set its gauges."""
        self._looks.append(look)

    def gauge(
        self, name: str, words: str, labels: tuple[str, ...] = (), *, merge: samples.Merge = "sum"
    ) -> Gauge:
        """A gauge ``mksfilter_NAME``.

        :param merge: how those of several workers are one.
        """
        self._merge[f"mksfilter_{name}"] = merge
        return Gauge(f"mksfilter_{name}", words, labels, registry=self.registry)

    def families(self) -> samples.Families:
        """All of it, as values."""
        for look in self._looks:
            look()
        return samples.of_registry(self.registry.collect(), self._merge)

    def exposition(self) -> tuple[str, bytes]:
        """Content type and body for a scrape of this process alone."""
        return samples.exposition(self.families())


def _reasons(of: type[ConsoleError]) -> Iterator[str]:
    """That of *of* and of what is derived from it; ends of sessions refuse nothing."""
    yield of.reason
    for error in of.__subclasses__():
        if error is not SessionEnded:
            yield from _reasons(error)
