"""The dashboard in etc/grafana: queries that Prometheus takes, for metrics that there are."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from tests.etc.test_prometheus import documented, promtool

DASHBOARD = json.loads(
    (Path(__file__).parents[2] / "etc" / "grafana" / "mksfilter.json").read_text()
)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
#: What Grafana puts in place of its variables.
VALUES = {"$__rate_interval": "1m", "$job": "mksproxy", "$instance": ".*", "$vcenter": ".*"}


def queries() -> list[str]:
    """Every query, as Grafana sends it."""
    found = []
    for panel in PANELS:
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VALUES.items():
                query = query.replace(variable, value)
            found.append(query)
    return found


@pytest.mark.programs
def test_prometheus_takes_every_query(tmp_path):
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "queries.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_they_ask_for_metrics_that_there_are_and_leave_none_out():
    asked = set(re.findall(r"\b(mksfilter_\w+)", json.dumps(DASHBOARD)))
    assert asked <= documented()
    shown = {re.sub(r"_bucket$", "", name) for name in asked}
    events = {name for name in documented() if name.endswith(("_seconds", "_total"))}
    apart = {"mksfilter_vcenter_retry_seconds"}
    assert {name for name in events if "timestamp" not in name} - shown <= apart


def test_no_variable_is_left_to_grafana_that_it_does_not_know():
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", json.dumps(DASHBOARD)))
    assert used <= known
    assert not any("$" in query for query in queries())


def test_every_panel_has_a_place_of_its_own():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x, y in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
