"""What a scrape shows."""

from __future__ import annotations

import re
from types import SimpleNamespace

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
    metrics.opened_in(0.3)
    shown = scrape(metrics)
    assert shown["mksfilter_sessions_active"] == 2
    assert shown['mksfilter_sessions_opened_total{mode="full"}'] == 2
    assert shown['mksfilter_sessions_ended_total{reason="idle-timeout"}'] == 1
    assert shown['mksfilter_session_open_seconds_bucket{le="0.25"}'] == 0
    assert shown['mksfilter_session_open_seconds_bucket{le="0.5"}'] == 1


def test_refusals_are_counted_by_their_reason():
    metrics = Metrics()
    metrics.refuse(TokenExpired.reason)
    metrics.refuse(TokenExpired.reason)
    assert scrape(metrics)['mksfilter_refusals_total{reason="token-expired"}'] == 2


def test_bytes_are_counted_each_way():
    metrics = Metrics()
    metrics.count_bytes(10, 0)
    metrics.count_bytes(5, 2000)
    shown = scrape(metrics)
    assert shown['mksfilter_bytes_total{direction="in"}'] == 15
    assert shown['mksfilter_bytes_total{direction="out"}'] == 2000


def test_vcenters_are_looked_at_when_they_are_asked_about():
    vcenter = SimpleNamespace(name="dc1", state="up", in_flight=3, waiting=1)
    metrics = Metrics(lambda: [vcenter])
    assert scrape(metrics)['mksfilter_vcenter_up{vcenter="dc1"}'] == 1
    vcenter.state = "left alone"
    shown = scrape(metrics)
    assert shown['mksfilter_vcenter_up{vcenter="dc1"}'] == 0
    assert shown['mksfilter_vcenter_calls{state="in-flight",vcenter="dc1"}'] == 3
    assert shown['mksfilter_vcenter_calls{state="waiting",vcenter="dc1"}'] == 1
