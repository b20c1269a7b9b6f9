"""What a scrape shows."""

from __future__ import annotations

import re

from mksfilter.exceptions import IdleTimeout, TokenExpired
from mksfilter.proxy.web.metrics import Metrics


def scrape(metrics: Metrics) -> dict[str, float]:
    content_type, body = metrics.exposition()
    assert content_type.startswith("text/plain")
    found = re.findall(r"^(mksfilter_\S+) (\S+)$", body.decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_sessions_are_counted_from_their_opening_to_their_end():
    metrics = Metrics()
    for mode in ("full", "full", "view"):
        metrics.session_opened(mode)
    metrics.session_ended(IdleTimeout.reason)
    shown = scrape(metrics)
    assert shown["mksfilter_sessions_active"] == 2
    assert shown['mksfilter_sessions_opened_total{mode="full"}'] == 2
    assert shown['mksfilter_sessions_ended_total{reason="idle-timeout"}'] == 1


def test_refusals_are_counted_by_their_reason():
    metrics = Metrics()
    metrics.refuse(TokenExpired.reason)
    metrics.refuse(TokenExpired.reason)
    assert scrape(metrics)['mksfilter_refusals_total{reason="token-expired"}'] == 2


def test_counters_are_there_before_they_count():
    shown = scrape(Metrics())
    assert shown['mksfilter_refusals_total{reason="host-unreachable"}'] == 0
    assert shown['mksfilter_sessions_ended_total{reason="internal-error"}'] == 0
    assert shown['mksfilter_audit_events_lost_total{sink="syslog"}'] == 0
    assert 'mksfilter_refusals_total{reason="idle-timeout"}' not in shown


def test_bytes_are_counted_each_way():
    metrics = Metrics()
    metrics.count_bytes(10, 0)
    metrics.count_bytes(5, 2000)
    shown = scrape(metrics)
    assert shown['mksfilter_bytes_total{direction="in"}'] == 15
    assert shown['mksfilter_bytes_total{direction="out"}'] == 2000


def test_each_step_of_an_opening_has_its_histogram():
    metrics = Metrics()
    metrics.took("token", 0.0007)
    for step in ("ticket", "dial", "open", "first-byte"):
        metrics.took(step, 0.3, "dc1")
    shown = scrape(metrics)
    assert shown['mksfilter_token_seconds_bucket{le="0.0005"}'] == 0
    assert shown['mksfilter_token_seconds_bucket{le="0.001"}'] == 1
    for name in ("ticket", "dial", "session_open", "first_byte"):
        bucket = f"mksfilter_{name}_seconds_bucket"
        assert shown[bucket + '{le="0.25",vcenter="dc1"}'] == 0
        assert shown[bucket + '{le="0.5",vcenter="dc1"}'] == 1


def test_names_of_vcenters_that_tokens_bring_are_bounded():
    metrics = Metrics()
    for number in range(1000):
        metrics.took("dial", 0.1, f"dc{number}")
    names = {name for name in scrape(metrics) if name.startswith("mksfilter_dial_seconds_count")}
    assert len(names) == 101
    assert scrape(metrics)['mksfilter_dial_seconds_count{vcenter="other"}'] == 900


def test_what_audit_loses_is_counted():
    metrics = Metrics()
    metrics.audit_lost("file", 3)
    assert scrape(metrics)['mksfilter_audit_events_lost_total{sink="file"}'] == 3
