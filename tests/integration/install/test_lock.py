"""The lock is what somebody can install: from nothing, by hash, and the proxy starts with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.source import ROOT, copy_source

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the lock is for Python 3.11 and later"),
]


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_locked_tree_installs_by_hash_and_runs(tmp_path):
    run(sys.executable, "-m", "venv", tmp_path)
    pip = (tmp_path / "bin" / "pip", "--disable-pip-version-check")
    run(*pip, "install", "-q", "--require-hashes", "-r", ROOT / "requirements" / "lock.txt")
    run(*pip, "install", "-q", "--no-deps", copy_source(tmp_path / "source"))
    assert "No broken requirements" in run(*pip, "check")
    command = tmp_path / "bin" / "mksfilter"
    keys = tmp_path / "keys"
    run(command, "keys", "setup", "--key-repository", keys)
    run(tmp_path / "bin" / "python", "-c", "import mksfilter.proxy.worker, mksfilter.filter")
