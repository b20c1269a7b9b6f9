"""The alerts in etc/prometheus: raised by what they name, and by nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mksfilter import exceptions

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RULES = ROOT / "etc" / "prometheus" / "mksfilter.rules.yml"


def promtool(*arguments: object) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documented() -> set[str]:
    """The metrics of docs/metrics.md, histograms' series included."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    names = set(re.findall(r"`(mksfilter_\w+)`", page))
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}


def reasons(of: type = exceptions.ConsoleError) -> set[str]:
    return {of.reason, *(reason for cls in of.__subclasses__() for reason in reasons(cls))}


@pytest.mark.programs
def test_prometheus_takes_them():
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("check", "config", RULES.with_name("mksfilter.yml"))


@pytest.mark.programs
def test_each_is_raised_by_what_it_names_and_a_healthy_fleet_raises_none():
    promtool("test", "rules", HERE / "mksfilter.rules.test.yml")


def test_each_has_series_that_raise_it():
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    tests = (HERE / "mksfilter.rules.test.yml").read_text()
    assert [alert for alert in alerts if alert not in tests] == []


def test_they_ask_for_metrics_that_there_are():
    asked = set(re.findall(r"\b(mksfilter_\w+)", RULES.read_text()))
    assert asked <= documented()


def test_they_ask_for_reasons_that_there_are():
    text = RULES.read_text()
    alternatives = {
        alternative
        for pattern in re.findall(r'reason=~?"([^"]+)"', text)
        for alternative in pattern.split("|")
    }
    known = reasons()
    assert [one for one in alternatives if not any(re.fullmatch(one, it) for it in known)] == []
