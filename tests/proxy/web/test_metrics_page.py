"""docs/metrics.md has every metric, with its labels, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mksfilter.proxy.app import app_factory
from mksfilter.proxy.server.state import ServerState
from tests.support.proxy import configuration

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


@pytest.fixture
def families(tmp_path):
    """All that a worker has."""
    app = app_factory({"config_file": str(configuration(tmp_path, ticket_at="issue"))})
    app.start(ServerState())
    text = b"".join(
        app.manage(
            {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "REMOTE_ADDR": "127.0.0.1"},
            lambda status, headers: None,
        )
    ).decode()
    return set(re.findall(r"^# TYPE (mksfilter_\w+) ", text, re.M))


def test_every_metric_is_on_the_page_and_every_one_on_the_page_is_there(families):
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(mksfilter_\w+)`", " ".join(rows))) == families
