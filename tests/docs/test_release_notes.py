"""The release notes can be built, and tell an operator about an upgrade."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support.source import ROOT

pytestmark = pytest.mark.programs


def reno(*arguments: str) -> str:
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "reno", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_note_is_well_formed():
    reno("lint")


def test_the_report_has_a_section_on_upgrading():
    report = reno("report")
    assert "When upgrading" in report
    assert "rolled back after it" in report
