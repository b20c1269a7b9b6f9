"""Runs one target under atheris, in a process of its own: libFuzzer ends the process it runs in."""

from __future__ import annotations

import dataclasses
import importlib
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["CORPUS", "TARGETS", "WHEELS", "Outcome", "fuzz", "load", "seeds"]

#: What each target's module is called; the proxy's parsers and what in them is fed.
TARGETS = (
    "decoding",
    "frames",
    "proof",
    "proxy_header",
    "relay",
    "revocations",
    "rfb",
    "ticket",
    "token",
    "upgrade",
    "upstream",
)
CORPUS = Path(__file__).parent / "corpus"
#: Whether atheris has wheels for this interpreter; the same condition stands in setup.cfg.
WHEELS = (
    sys.implementation.name == "cpython"
    and (3, 10) <= sys.version_info < (3, 15)
    and sys.platform == "linux"
    and platform.machine() == "x86_64"
)

# Seconds for one input, megabytes for all: an input that takes more is a finding too.
_LIMITS = ("-timeout=10", "-rss_limit_mb=1024")
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run of a target came to.

    :ivar executions: inputs that were tried.
    :ivar failed: whether one of them broke a promise.
    :ivar output: what atheris printed, the traceback and the file with the input included.
    """

    executions: int
    failed: bool
    output: str


def load(target: str) -> Callable[[bytes], None]:
    """``TestOneInput`` of a target."""
    function: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.{target}").TestOneInput
    return function


def seeds(target: str) -> list[Path]:
    """The inputs that a target starts from, and those that once broke it."""
    return sorted(path for path in (CORPUS / target).iterdir() if path.is_file())


def fuzz(target: str, *, seconds: int, found: Path) -> Outcome:
    """Run *target* for so many seconds.

    :param found: directory for inputs that reach new code (taken up by the next run), and for
        those that break a promise (``crash-*``).
    """
    found.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.engine", target),
            *(f"-max_total_time={seconds}", "-print_final_stats=1", *_LIMITS),
            *(f"-artifact_prefix={found}/", str(found), str(CORPUS / target)),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 60,
        cwd=Path(__file__).parents[2],
    )
    output = done.stdout + done.stderr
    executed = _EXECUTED.search(output)
    return Outcome(int(executed[1]) if executed else 0, done.returncode != 0, output)


def _main() -> None:
    import atheris

    target = sys.argv[1]
    # Everything is instrumented that reads the outside's bytes, ours and theirs.
    with atheris.instrument_imports(include=["mksfilter", "websockets"]):
        test_one_input = load(target)
    atheris.Setup(sys.argv[1:], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
