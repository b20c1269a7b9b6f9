"""``python -m tests.chaos``: the faults in turn, and what the people at 500 consoles notice.

For each fault and each kind of browser: how many consoles it touched, how many of these were lost
(for our page: not back in time; for the others: ended), for how many seconds the picture stood
still before that was noticed ("told after"), and how long those that came back were without.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.browsers import Browser, Page, Stock
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.fleet import Fleet, fleet

__all__ = ["main"]

# Seconds in which everything has to be whole again after a fault has been healed.
_WHOLE_WITHIN = 90.0
# What no node may ever write.
_ALARMS = re.compile(
    r"Traceback \(most recent call last\)|\bALERT\b|\bCRITICAL\b|\bSIG(?:BUS|ABRT)\b"
)


@dataclasses.dataclass
class Row:
    """What one kind of browser noticed of one fault.

    :ivar touched: consoles that ended, if only for a moment.
    :ivar lost: those of them that did not come back, or could not.
    :ivar drained: those that a node kept for ``drain_time``, and ended then.
    :ivar told_after: seconds for which the picture stood still before the console ended, of 95 %.
    :ivar gap: seconds without a console, of 95 % of those that came back; ``longest`` of all.
    :ivar whole: seconds from the fault until all had a console that come back.
    :ivar said: the fleet has told its operator of the fault.
    :ivar why: how they ended.
    """

    fault: str
    kind: str
    consoles: int
    touched: int
    lost: int
    drained: int
    told_after: float | None
    gap: float | None
    longest: float | None
    whole: float | None
    kept: bool
    said: bool
    why: dict[str, int]


async def _opened(browsers: Sequence[Browser], at_once: int = 20) -> None:
    for _ in range(3):  # on a machine that is busy with the clients themselves one may time out
        waiting = [browser for browser in browsers if browser.over]
        for start in range(0, len(waiting), at_once):
            part = waiting[start : start + at_once]
            for browser in part:
                browser.start()
            await _until(lambda part=part: all(one.working or one.over for one in part), 60)
    for browser in browsers:
        if not browser.working:
            raise AssertionError(f"a {browser.kind} did not open: {list(browser.events)[-3:]}")


async def _until(true: object, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def _suffer(made: Fleet, browsers: Sequence[Browser], fault: Fault) -> list[Row]:
    for browser in browsers:
        browser.events.clear()
        browser.blind = 0.0
    began = time.monotonic()
    heal = await asyncio.to_thread(fault.inject, made)
    await asyncio.sleep(fault.lasts)
    await asyncio.to_thread(heal)
    pages = [browser for browser in browsers if browser.kind == "page"]
    await asyncio.sleep(3)  # what is noticed late
    await _until(lambda: all(page.working for page in pages), _WHOLE_WITHIN)
    said = False
    for _ in range(20):
        said = said or await asyncio.to_thread(fault.said, made)
        if said:
            break
        await asyncio.sleep(0.5)
    return [
        _row(
            fault,
            kind.kind,
            [one for one in browsers if one.kind == kind.kind],
            began,
            float(str(made.nodes[0].options["drain_time"])),
            said,
        )
        for kind in (Page, Stock)
    ]


def _row(
    fault: Fault,
    kind: str,
    browsers: Sequence[Browser],
    began: float,
    drain_time: float,
    said: bool,
) -> Row:
    touched, lost, drained, blind, gaps, backs = 0, 0, 0, [], [], []
    why: Counter[str] = Counter()
    for browser in browsers:
        events = list(browser.events)
        stops = [at for at, what in events if what == "stopped"]
        if not stops:
            continue
        touched += 1
        endings = [what for _, what in events if what.split()[0] in ("closed", "refused", "lost")]
        why[endings[0] if endings else "?"] += 1
        blind.append(browser.blind)
        if not browser.working:
            # Who is still there when a node's time is over has been kept as long as was promised.
            if endings == ["closed 1012"] and stops[0] - began > drain_time - 2:
                drained += 1
            else:
                lost += 1
                if kind not in fault.keeps and kind != "page":
                    continue
                story = ", ".join(f"{at - began:.1f} {what}" for at, what in events[-8:])
                print(f"  lost, a {kind}: {story}", file=sys.stderr)
            continue
        back = max(at for at, what in events if what == "works")
        gaps.append(_longest_gap(events))
        backs.append(back - began)
    return Row(
        fault=fault.name,
        kind=kind,
        consoles=len(browsers),
        touched=touched,
        lost=lost,
        drained=drained,
        told_after=_share(blind, 0.95),
        gap=_share(gaps, 0.95),
        longest=max(gaps, default=None),
        whole=max(backs, default=None),
        kept=not lost or (kind == "stock" and kind not in fault.keeps),
        said=said,
        why=dict(why.most_common(4)),
    )


def _longest_gap(events: Sequence[tuple[float, str]]) -> float:
    gaps, since = [0.0], None
    for at, what in events:
        if what == "stopped":
            since = since or at
        elif what == "works" and since is not None:
            gaps.append(at - since)
            since = None
    return max(gaps)


def _share(values: Sequence[float], share: float) -> float | None:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else None


def _line(row: Row) -> str:
    def seconds(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    figures = "".join(
        f"{seconds(value):>11}" for value in (row.told_after, row.gap, row.longest, row.whole)
    )
    verdict = ("" if row.kept else "  LOST") + ("" if row.said else "  NOT SAID")
    return (
        f"{row.fault:<40}{row.kind:<7}{row.consoles:>9}{row.touched:>9}{row.drained:>9}{row.lost:>6}"
        f"{figures}"
        f"  {', '.join(f'{number} {what}' for what, number in row.why.items())}{verdict}"
    )


_HEAD = (
    f"{'fault':<40}{'kind':<7}{'consoles':>9}{'touched':>9}{'drained':>9}{'lost':>6}"
    f"{'told after':>11}{'gap p95':>11}{'longest':>11}{'whole after':>11}  how they ended"
)


async def _run(made: Fleet, args: argparse.Namespace, rows: list[Row]) -> None:
    browsers: list[Browser] = [
        # Machines alternate between the vCenters, and so do both kinds of browsers.
        (Page if number // 2 % 2 else Stock)(
            made.port, made.context, f"127.0.{1 + number // 200}.{1 + number % 200}", made.token
        )
        for number in range(args.consoles)
    ]
    print(_HEAD, flush=True)
    try:
        for fault in FAULTS:
            if not re.search(args.only, fault.name):
                continue
            await _until(lambda: all(node.settled for node in made.nodes), 120)
            await asyncio.to_thread(fault.prepare, made)
            await _opened(browsers)
            await _until(lambda: all(browser.working for browser in browsers), 60)
            for row in await _suffer(made, browsers, fault):
                rows.append(row)
                print(_line(row), flush=True)
    finally:
        await asyncio.gather(*(browser.stop() for browser in browsers))


def _keep(directory: Path, rows: Sequence[Row], logs: Mapping[str, str]) -> Path:
    """Write down what there is; where."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    for name, log in logs.items():
        path.with_name(f"{path.stem}-{name}.log").write_text(log)
    return path


def main() -> int:
    """Print the table.

    Exit code 1: a console was lost that could have been kept, a fault was not told to the operator,
    or a node's log has a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--consoles", type=int, default=500, help="of two kinds (500)")
    parser.add_argument("--drain-time", type=int, default=20, help="of the nodes, seconds (20)")
    parser.add_argument(
        "--look-every",
        type=float,
        default=Browser.look_every,
        metavar="S",
        help='seconds between two looks at a console (0.5); that much is in "told after"',
    )
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="faults whose names have REGEX in them"
    )
    parser.add_argument("--output", type=Path, default=Path("var/chaos"))
    args = parser.parse_args()
    Browser.look_every = args.look_every
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{time.strftime('%Y-%m-%d %H:%M')}  {platform.system()} {platform.release()}  {args}")
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors before the first console\n"
    )
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="mksfilter-chaos-") as place,
        fleet(Path(place), args.consoles, drain_time=args.drain_time) as made,
    ):
        try:
            asyncio.run(_run(made, args, rows))
        finally:  # a console that does not open has its reason there
            logs = {node.name: node.log.read_text(errors="replace") for node in made.nodes}
            path = _keep(args.output, rows, logs)
    alarms = Counter(word for log in logs.values() for word in _ALARMS.findall(log))
    print(f"\ntracebacks in the nodes' logs: {alarms.total()} {dict(alarms) or ''}\n{path}")
    return 0 if all(row.kept and row.said for row in rows) and not alarms else 1


if __name__ == "__main__":
    sys.exit(main())
