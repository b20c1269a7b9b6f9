"""A file system of its own that is full: writing to a file mapped from it is a bus error."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["full_volume"]


@contextlib.contextmanager
def full_volume(path: Path) -> Iterator[Path]:
    """Mount one at *path*; skips the test where that is not allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=1777", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("mount is not installed")
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    try:
        with (path / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
