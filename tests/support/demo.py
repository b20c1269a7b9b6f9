"""``mksfilter demo`` as a user starts it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

__all__ = ["DEMO", "running_demo"]

DEMO = (sys.executable, "-m", "mksfilter", "demo")


@contextlib.contextmanager
def running_demo(**environ: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A demo on free ports, and the lines it printed; the last is the console URL.

    It starts with SIGINT ignored, as a shell starts what it runs in the background.
    """
    with subprocess.Popen(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *DEMO, "--port", "0", "--api-port", "0"],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if re.fullmatch(r"http://\S+[?&]token=\S+", lines[-1]):
                break
        try:
            yield process, lines
        finally:
            process.kill()
