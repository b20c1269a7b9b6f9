"""A virtual environment under ``var/`` (git-ignored) for a client of others, used again later."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "ClientEnvironment"]

ROOT = Path(__file__).parents[3]


class ClientEnvironment:
    """Packages from PyPI, and programs run in their midst.

    :param name: of its directory.
    :param requirements: as pip takes them.
    """

    def __init__(self, name: str, *requirements: str) -> None:
        self._directory = ROOT / "var" / name
        self._requirements = requirements
        self.python = self._directory / "bin" / "python"

    def make(self) -> None:
        """Install what is missing; a second call has nothing to do."""
        stamp = self._directory / ".made-of"
        made_of = "\n".join([sys.version, *self._requirements])
        digest = hashlib.sha256(made_of.encode()).hexdigest()
        if stamp.exists() and stamp.read_text() == digest:
            return
        base = getattr(sys, "_base_executable", sys.executable)
        self._run(base, "-m", "venv", str(self._directory))
        pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check")
        self._run(str(self.python), *pip, *self._requirements)
        stamp.write_text(digest)

    def run(self, program: Path, *arguments: str, **environ: str) -> str:
        """What *program*, a Python file, prints; when it fails, its errors are ours."""
        return self._run(str(self.python), str(program), *arguments, **environ)

    def _run(self, *command: str, **environ: str) -> str:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            command, env={**kept, **environ}, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout
