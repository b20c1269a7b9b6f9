"""The lock is what somebody can install: from nothing, by hash, and the proxy starts with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

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
    # A copy: building leaves files beside what it builds.
    source = tmp_path / "source"
    shutil.copytree(ROOT / "mksfilter", source / "mksfilter")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    run(*pip, "install", "-q", "--no-deps", source)
    assert "No broken requirements" in run(*pip, "check")
    command = tmp_path / "bin" / "mksfilter"
    keys = tmp_path / "keys"
    run(command, "keys", "setup", "--key-repository", keys)
    run(tmp_path / "bin" / "python", "-c", "import mksfilter.proxy.worker, mksfilter.filter")
