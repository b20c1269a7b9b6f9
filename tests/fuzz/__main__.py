"""``python -m tests.fuzz [TARGET ...] --seconds N``: how many hostile inputs, and what they broke.

What is found stays under ``var/fuzz/TARGET`` and is where the next run begins.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.engine import TARGETS, WHEELS, fuzz

_FOUND = Path("var/fuzz")


def main() -> int:
    """Exit code 1 when an input broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    args = parser.parse_args()
    for target in args.targets:
        if target not in TARGETS:
            parser.error(f"no target {target!r}; there are {', '.join(TARGETS)}")
    if not WHEELS:
        parser.error("atheris has no wheel for this interpreter and machine")
    broken = False
    for target in args.targets or TARGETS:
        outcome = fuzz(target, seconds=args.seconds, found=(_FOUND / target).resolve())
        verdict = "BROKEN" if outcome.failed else "ok"
        print(f"{target:<14}{args.seconds:>6} s {outcome.executions:>12,} executions  {verdict}")
        sys.stdout.flush()
        if outcome.failed:
            broken = True
            print(outcome.output)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
