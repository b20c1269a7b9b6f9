"""``python -m benchmarks``: the table of what everything costs, and the same as JSON under var/."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import instructions, relay

_COLUMNS = ("HAProxy", "nginx", "websockify", "naive", "former", "mksfilter")


def main() -> int:
    """Print the tables; exit code 1 when a promise is broken and ``--strict`` was given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, for CI; rough figures")
    parser.add_argument("--rounds", type=int, default=0, help="interleaved rounds (5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="measurements with TEXT in them")
    parser.add_argument("--peers", default="", help="comma-separated; all that are installed")
    parser.add_argument(
        "--links", default="tls,plain,both", help="TLS to the host, none, both ways"
    )
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="of another commit, as one more peer"
    )
    parser.add_argument(
        "--cycles", type=int, default=0, help="of idle sessions: what is left after each (3)"
    )
    parser.add_argument("--skip-relay", action="store_true", help="only what needs no peers")
    parser.add_argument("--strict", action="store_true", help="fail when a promise is not kept")
    # SIGTERM ends what was started as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser.add_argument("--output", type=Path, default=Path("var/benchmarks"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "machine": f"{platform.system()} {platform.release()}, {relay.cpus()} cores",
        "python": platform.python_version(),
    }
    print(f"{report['date']}  {report['machine']}  Python {report['python']}\n")
    kept = True
    if not args.only:
        report["parts"] = _parts(args.quick)
        kept &= _print_parts(report["parts"])
        if not args.quick:
            report["instructions"] = instructions.report()
            print()
    if not args.skip_relay:
        rows = relay.run(
            (args.output / "run").resolve(),
            quick=args.quick,
            rounds=args.rounds,
            only=args.only,
            names=[name for name in args.peers.split(",") if name],
            links=args.links.split(","),
            against=args.against,
            cycles=args.cycles,
            say=lambda text: print(f"... {text}", file=sys.stderr, flush=True),
        )
        report["relay"] = [dataclasses.asdict(row) for row in rows]
        kept &= _print_rows(rows)
    path = args.output / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{path}")
    return 0 if kept or not args.strict else 1


def _parts(quick: bool) -> list[dict[str, Any]]:
    """What is measured without peers: the token, the filter, the backends."""
    found: list[dict[str, Any]] = []
    for name in ("token", "filter", "backends"):
        found += importlib.import_module(f"benchmarks.{name}").run(quick)
    return found


def _print_parts(parts: list[dict[str, Any]]) -> bool:
    kept = True
    for part in parts:
        limit = part.get("limit")
        verdict = ""
        if limit is not None:
            good = part["value"] <= limit
            kept &= good
            verdict = f"<= {limit:g}  {'ok' if good else 'MISSED'}"
        print(
            f"{part['measure']:<44} {part['subject']:<14} {part['value']:>10g} "
            f"{part['unit']:<12} {verdict}"
        )
    print()
    return kept


def _print_rows(rows: list[relay.Row]) -> bool:
    names = [name for name in _COLUMNS if any(name in row.values for row in rows)]
    head = "".join(f"{name:>12}" for name in names)
    print(f"{'link':<8}{'measure':<37}{'unit':<24}{head}{'ratio':>8}  promise")
    kept = True
    for row in rows:
        values = "".join(f"{_figure(row.values.get(name)):>12}" for name in names)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = ""
        if row.kept is not None:
            verdict = f"{row.promised}  {'ok' if row.kept else 'MISSED'}"
            kept &= row.kept
        print(f"{row.link:<8}{row.measure:<37}{row.unit:<24}{values}{ratio:>8}  {verdict}".rstrip())
    print("\nratio: mksfilter to HAProxy with one thread, medians of the same run")
    return kept


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
