"""Many sessions at once, for a few seconds: the short forms of ``benchmarks/soak.py`` and
``benchmarks/storm.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SESSIONS = 500


def test_all_sessions_of_a_dead_node_come_back_past_the_bound_of_two_vcenters(tmp_path):
    picture = tmp_path / "curve.svg"
    command = [sys.executable, "-m", "benchmarks.storm", "--sessions", "60", "--svg", str(picture)]
    done = subprocess.run(
        [*command, "--directory", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["back"] == result["alive"] == result["held"] == 60
    assert all(0 < most <= 8 for most in result["in_flight"].values())
    assert result["read"] == {}
    assert "60 sessions come back" in picture.read_text()


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of one run."""
    directory = tmp_path_factory.mktemp("soak")
    command = [sys.executable, "-m", "benchmarks.soak", "--workers", "2", "--interval", "1"]
    command += ["--sessions", str(SESSIONS), "--active", "50", "--after", "1"]
    # Long enough for several pings, one of which nobody may be said to have left unanswered.
    command += ["--ping-interval", "1", "--idle", "2", "--seconds", "9"]
    process = subprocess.Popen(
        [*command, "--directory", str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate()
    finally:
        process.terminate()
        process.wait(20)
    reports = list(directory.glob("*.json"))
    assert reports, output
    result: dict[str, Any] = json.loads(reports[0].read_text())["result"]
    return result


pytestmark = pytest.mark.timeout(300)


def test_every_session_opens_and_none_is_lost(soak: dict[str, Any]) -> None:
    assert soak["lost_why"] == {}
    assert soak["opened"] == soak["alive_at_the_end"] == SESSIONS


def test_every_keystroke_is_echoed(soak: dict[str, Any]) -> None:
    # The first of each session, those of the typists, and the last of each session.
    assert soak["keys"] > 2 * SESSIONS
    assert soak["keys_unanswered"] == 0


def test_sessions_that_answer_pings_live_on(soak: dict[str, Any]) -> None:
    assert soak["pings_answered"] > 3 * SESSIONS
    assert "client-lost" not in soak["ends"]


def test_the_workers_share_the_sessions(soak: dict[str, Any]) -> None:
    opened = zip(soak["descriptors_opened"], soak["descriptors_before"], strict=True)
    shares = [after - before for after, before in opened]
    assert len(shares) == 2
    assert min(shares) > 0
    assert sum(shares) >= 2 * SESSIONS


def test_closed_sessions_leave_no_descriptor_behind(soak: dict[str, Any]) -> None:
    closed = zip(soak["descriptors_closed"], soak["descriptors_before"], strict=True)
    assert all(after <= before + 16 for after, before in closed)


def test_memory_does_not_grow_once_everybody_is_there(soak: dict[str, Any]) -> None:
    assert soak["flat"], (soak["pss_first_third_kb"], soak["pss_last_third_kb"])
    assert soak["pss_closed_kb"] <= soak["pss_opened_kb"] + 4096
