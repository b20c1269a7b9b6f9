"""What is looked at before a scrape."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

import mksfilter
from mksfilter import log
from mksfilter.auth.clock import SetClock
from mksfilter.exceptions import KeyRepositoryError
from mksfilter.proxy.console.openings import Openings
from mksfilter.proxy.web import gauges
from mksfilter.proxy.web.metrics import Metrics


@pytest.fixture
def metrics():
    return Metrics()


def scrape(metrics: Metrics) -> dict[str, float]:
    found = re.findall(r"^(mksfilter_\S+) (\S+)$", metrics.exposition()[1].decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_a_vcenter_is_seen_as_it_is_now(metrics):
    vcenter = SimpleNamespace(
        name="dc1", state="up", healthy=True, in_flight=3, waiting=1, retry_in=0.0
    )
    gauges.watch_vcenters(metrics, lambda: [vcenter], {"dc1": 8})
    assert scrape(metrics)['mksfilter_vcenter_up{vcenter="dc1"}'] == 1
    vcenter.state, vcenter.healthy, vcenter.retry_in = "down", False, 9.5
    shown = scrape(metrics)
    assert shown['mksfilter_vcenter_up{vcenter="dc1"}'] == 0
    assert shown['mksfilter_vcenter_state{state="down",vcenter="dc1"}'] == 1
    assert shown['mksfilter_vcenter_state{state="up",vcenter="dc1"}'] == 0
    assert shown['mksfilter_vcenter_retry_seconds{vcenter="dc1"}'] == 9.5
    assert shown['mksfilter_vcenter_calls{state="in-flight",vcenter="dc1"}'] == 3
    assert shown['mksfilter_vcenter_calls{state="waiting",vcenter="dc1"}'] == 1
    assert shown['mksfilter_vcenter_calls_limit{vcenter="dc1"}'] == 8


def test_keys_are_counted_and_have_an_age(metrics):
    keys = SimpleNamespace(
        created=lambda: {0: 300.0, 3: 100.0, 4: 200.0}, look=lambda: (frozenset("ab"), "b")
    )
    gauges.watch_keys(metrics, keys)
    shown = scrape(metrics)
    assert shown["mksfilter_keys"] == 3
    assert shown['mksfilter_primary_key{kid="b"}'] == 1
    assert shown['mksfilter_key_created_timestamp_seconds{role="primary"}'] == 200
    assert shown['mksfilter_key_created_timestamp_seconds{role="staged"}'] == 300

    def none():
        raise KeyRepositoryError("gone")

    keys.created = none
    shown = scrape(metrics)
    assert shown["mksfilter_keys"] == 0
    assert not any("primary_key" in name for name in shown)


def test_limits_are_shown_with_what_is_used_of_them(metrics):
    gauges.watch_limits(metrics, lambda: {"max_sessions": (5000, 17)})
    shown = scrape(metrics)
    assert shown['mksfilter_limit{limit="max_sessions"}'] == 5000
    assert shown['mksfilter_limit_used{limit="max_sessions"}'] == 17


def test_consoles_that_are_being_opened_and_that_wait_are_limits_too(metrics):
    openings = Openings(2, per_user=1, per_address=0)
    for user in ("alice", "alice", "bob", "carol"):
        openings.ask(user, "192.0.2.1", lambda: None)
    gauges.watch_limits(metrics, lambda: openings.use)
    shown = scrape(metrics)
    figures = {
        name: (shown[f'mksfilter_limit{{limit="{name}"}}'], used)
        for name in openings.use
        for used in (shown[f'mksfilter_limit_used{{limit="{name}"}}'],)
    }
    assert figures == {
        "max_openings_per_user": (1, 1),
        "max_openings_per_address": (0, 2),
        "openings": (2, 2),
        "openings_waiting": (512, 2),
    }


def test_the_end_of_a_certificate_is_shown(metrics):
    gauges.watch_certificates(metrics, lambda: {"server": 1_800_000_000.0})
    name = 'mksfilter_certificate_expiry_timestamp_seconds{certificate="server"}'
    assert scrape(metrics)[name] == 1_800_000_000


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_is_counted_and_said_once(metrics, caplog, jump):
    wall, steady = [1_800_000_000.0], [50.0]
    gauges.watch_clock(metrics, SetClock(30, wall=lambda: wall[0], steady=lambda: steady[0]))
    for seconds, set_by in ((1, 0), (1, jump), (1, 0), (86400, 5)):
        steady[0] += seconds
        wall[0] += seconds + set_by
        shown = scrape(metrics)
    assert shown["mksfilter_clock_jumps_total"] == 1
    (record,) = caplog.records
    assert f"event=clock-jumped seconds={jump}" in record.getMessage()


def test_lost_lines_of_the_log_are_counted(metrics, monkeypatch):
    lost = iter([2, 2, 7])
    monkeypatch.setattr(log, "lines_dropped", lambda: next(lost))
    gauges.watch_log(metrics)
    assert [scrape(metrics)["mksfilter_log_lines_dropped_total"] for _ in range(3)] == [2, 2, 7]


def test_the_release_is_shown(metrics):
    gauges.watch_build(metrics)
    assert scrape(metrics)[f'mksfilter_build_info{{version="{mksfilter.__version__}"}}'] == 1
