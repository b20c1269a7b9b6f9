"""The relay beside its peers: the same load through each of them, in turns, in one run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.former import former
from benchmarks.peers import PEERS, Direct, Host, Peer, TicketPeer

__all__ = ["Row", "run"]


@dataclasses.dataclass(frozen=True)
class Column:
    """One figure of a measurement: which key, what it is called, and what is promised of it.

    :param ratio: greatest ratio to HAProxy.
    :param websockify: greatest ratio to websockify.
    :param limit: greatest value; ``least``: smallest.
    """

    key: str
    label: str
    ratio: float | None = None
    websockify: float | None = None
    limit: float | None = None
    least: float | None = None


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One kind of work, given to every peer."""

    name: str
    work: str
    path: str
    columns: tuple[Column, ...]
    options: dict[str, Any]
    quick: dict[str, Any]
    skip: tuple[str, ...] = ()
    fresh: bool = False  # in processes that have done nothing else


@dataclasses.dataclass
class Row:
    """A line of the table."""

    measure: str
    link: str
    unit: str
    values: dict[str, float] = dataclasses.field(default_factory=dict)
    spread: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    ratio: float | None = None
    promised: str = ""
    kept: bool | None = None


def _bulk(link: str, streams: int) -> Column:
    ratio = 1.0 if link == "plain" or streams > 1 else 1.1
    return Column("cpu_s_per_gib", "CPU s/GiB", ratio=ratio, websockify=1.0)


def _measurements(link: str) -> list[Measurement]:
    gib = 1 << 30
    return [
        Measurement(
            "bulk, 1 stream",
            "bulk",
            "/stream",
            (_bulk(link, 1), Column("mb_per_s", "MB/s")),
            {"streams": 1, "size": gib},
            {"streams": 1, "size": gib // 4},
        ),
        Measurement(
            "bulk, 20 streams",
            "bulk",
            "/stream",
            (_bulk(link, 20), Column("fairness", "least/most per stream")),
            {"streams": 20, "size": gib},
            {"streams": 20, "size": gib // 4},
        ),
        Measurement(
            "keystroke, one core",
            "keystroke",
            "/echo",
            (
                Column("cpu_us", "CPU µs", ratio=2.0, websockify=0.8),
                Column("added_us", "p50 µs added", ratio=2.0),
            ),
            {"count": 10000, "cpu": 0},
            {"count": 1500, "cpu": 0},
        ),
        Measurement(
            "keystroke, any core",
            "keystroke",
            "/echo",
            (Column("p50_us", "p50 µs"), Column("p99_us", "p99 µs")),
            {"count": 10000, "cpu": None},
            {"count": 1500, "cpu": None},
        ),
        Measurement(
            "keystroke beside a stream",
            "beside",
            "/echo",
            (Column("p50_us", "p50 µs"), Column("p99_us", "p99 µs", ratio=1.0)),
            {"seconds": 8},
            {"seconds": 2},
        ),
        Measurement(
            "50 sessions at 20 Hz",
            "typists",
            "/echo",
            (Column("cpu_us", "CPU µs per key"), Column("p99_us", "p99 µs")),
            {"sessions": 50, "rate": 20, "seconds": 5},
            {"sessions": 50, "rate": 20, "seconds": 2},
        ),
        Measurement(
            "keystroke beside idle sessions",
            "held",
            "/echo",
            (Column("p50_us", "p50 µs"), Column("p99_us", "p99 µs")),
            # Two descriptors of a relay's each, of the 20,000 that many systems allow.
            {"sessions": 7000, "rate": 50, "seconds": 45},
            {"sessions": 500, "rate": 50, "seconds": 5},
            skip=("websockify", "naive"),
            fresh=True,
        ),
        Measurement(
            "session opened and closed, one core",
            "connects",
            "/echo",
            (Column("cpu_us", "CPU µs", websockify=1 / 3), Column("per_cpu_s", "per CPU second")),
            {"count": 500, "cpu": 0},
            {"count": 100, "cpu": 0},
        ),
        Measurement(
            "session opened and closed, any core",
            "connects",
            "/echo",
            (Column("cpu_us", "CPU µs"),),
            {"count": 500},
            {"count": 100},
        ),
        Measurement(
            "idle session",
            "idle",
            "/echo",
            (
                Column("pss_kb", "PSS kB", limit=48),
                Column("left_first_mb", "MB left after a cycle"),
                Column("left_last_mb", "MB left after all cycles"),
            ),
            {"sessions": 1000, "cycles": 3},
            {"sessions": 200, "cycles": 1},
            skip=("websockify",),
            fresh=True,
        ),
        Measurement(
            "idle session, a process each",
            "idle",
            "/echo",
            (Column("pss_kb", "PSS kB"),),
            {"sessions": 60, "cycles": 1},
            {"sessions": 20, "cycles": 1},
            skip=("HAProxy", "nginx", "naive", "mksfilter"),
            fresh=True,
        ),
        Measurement(
            "a reader that stops",
            "stalled",
            "/stream",
            (Column("growth_kb", "kB", limit=1024),),
            {},
            {},
            fresh=True,
        ),
    ]


class _Bench:
    def __init__(
        self, directory: Path, host: Host, say: Callable[[str], None], cycles: int = 0
    ) -> None:
        self._directory = directory
        self._host = host
        self.say = say
        self.cycles = cycles

    def measure(self, peer: Peer, measurement: Measurement, options: dict[str, Any]) -> Any:
        order = {
            "work": measurement.work,
            "target": peer.target(measurement.path),
            "stream": peer.target("/stream") if measurement.work == "beside" else None,
            "pids": peer.pids,
            "hosts": [self._host.process.pid, *peer.hosts],
            "options": options,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.load", json.dumps(order)],
                capture_output=True,
                text=True,
                timeout=480 + 60 * self.cycles,
                check=True,
            )
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as exc:
            last = (exc.stderr or b"timeout")[-200:]
            self.say(f"  {peer.name} fails: {last!r}")
            return {}
        return json.loads(done.stdout)

    def block(
        self, link: str, kinds: Iterable[type[Peer]], *, rounds: int, quick: bool, only: str
    ) -> list[Row]:
        """All measurements with one kind of link between the relays and the host."""
        peers = [
            kind(self._host, kind.link_for(link), self._directory)
            for kind in kinds
            if kind.link_for(link)
        ]
        rows: list[Row] = []
        try:
            for measurement in _measurements(link):
                if only and only not in measurement.name:
                    continue
                options = measurement.quick if quick else measurement.options
                rows += self._rows(link, measurement, options, peers, rounds)
        finally:
            for peer in peers:
                peer.stop()
        return rows

    def _rows(
        self,
        link: str,
        measurement: Measurement,
        options: dict[str, Any],
        peers: list[Peer],
        rounds: int,
    ) -> list[Row]:
        chosen = [peer for peer in peers if peer.name not in measurement.skip]
        if not chosen:
            return []
        self.say(f"{link}: {measurement.name}")
        if self.cycles and measurement.work == "idle":
            # Long enough for a relay that gives back what is free when nobody leaves any more.
            options = {**options, "cycles": self.cycles, "rest": 9.0, "at_once": True}
        results: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in chosen}
        direct = Direct(self._host, link, self._directory)
        direct.start()
        base = 0.0
        for number in range(1 if measurement.work == "idle" else rounds):
            if measurement.work == "keystroke" and options["cpu"] is not None:
                found = self.measure(direct, measurement, options)
                base = min(base or found["p50_us"], found["p50_us"])
            # Turned round each time: nobody is always behind the same neighbour.
            for peer in chosen[number % len(chosen) :] + chosen[: number % len(chosen)]:
                if measurement.fresh or not peer.alive:
                    try:
                        peer.restart()
                    except RuntimeError as exc:
                        self.say(f"  {exc}")
                        continue
                result = self.measure(peer, measurement, options)
                if result:
                    results[peer.name].append(result)
                if self.cycles and "left_mb" in result:
                    left = ", ".join(f"{each:.2f}" for each in result["left_mb"])
                    self.say(f"  {peer.name}: MB left after each cycle: {left}")
        for found in (result for each in results.values() for result in each):
            if base:
                found["added_us"] = max(0.1, found["p50_us"] - base)
        return [_row(link, measurement, column, results) for column in measurement.columns]


def _row(
    link: str,
    measurement: Measurement,
    column: Column,
    results: dict[str, list[dict[str, float]]],
) -> Row:
    row = Row(measurement.name, link, column.label)
    for name, found in results.items():
        values = [result[column.key] for result in found if column.key in result]
        if values:
            row.values[name] = statistics.median(values)
            row.spread[name] = (min(values), max(values))
    ours = row.values.get("mksfilter")
    if ours is None:
        return row
    verdicts, promises = [], []
    for peer, ratio in (("HAProxy", column.ratio), ("websockify", column.websockify)):
        other = row.values.get(peer)
        if other and peer == "HAProxy":
            row.ratio = ours / other
        if other and ratio is not None:
            promises.append(f"<= {ratio:.2g}x {peer}")
            verdicts.append(ours <= ratio * other)
    if column.limit is not None:
        promises.append(f"<= {column.limit:g}")
        verdicts.append(ours <= column.limit)
    if column.least is not None:
        promises.append(f">= {column.least:g}")
        verdicts.append(ours >= column.least)
    if promises:
        row.promised, row.kept = ", ".join(promises), all(verdicts)
    return row


def run(
    directory: Path,
    *,
    quick: bool = False,
    rounds: int = 0,
    only: str = "",
    names: Iterable[str] = (),
    links: Iterable[str] = ("tls", "plain", "both"),
    against: Path | None = None,
    cycles: int = 0,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """All rows; what a peer cannot do is left out of its column.

    :param only: measurements whose name holds this.
    :param names: peers; all that are installed by default.
    :param against: a checkout of another commit, which is a peer too.
    :param cycles: idle sessions come and go so many times, all at once, and *say* is told what is
        left each time; by default three times, one after the other.
    """
    wanted = set(names)
    kinds = [kind for kind in PEERS if kind.available() and (not wanted or kind.name in wanted)]
    if against is not None:
        kinds.append(former(against))
    rounds = rounds or (1 if quick else 5)
    host = Host(directory)
    rows: list[Row] = []
    try:
        bench = _Bench(directory, host, say, cycles)
        for link in links:
            rows += bench.block(link, kinds, rounds=rounds, quick=quick, only=only)
        rows += _with_tickets(
            bench, host, directory, rounds=rounds, quick=quick, only=only, against=against
        )
    finally:
        host.stop()
    return rows


def _ticket_measurements() -> list[Measurement]:
    """The whole way: token, vCenter, ticket, host, first message of the console.

    What a node's CPU opens is promised for many users at once. One user after the other is shown
    beside it: then each send wakes a process that sleeps, and finds the caches cold.
    """
    found = Column("per_cpu_s", "per CPU second")
    promised = dataclasses.replace(found, least=300)
    full, quick = {"count": 500, "greeting": 14}, {"count": 200, "greeting": 14}
    return [
        Measurement(
            f"session with its ticket, {name}",
            "connects",
            "",
            (column,),
            {**full, **options},
            {**quick, **options},
        )
        for name, column, options in (
            ("16 users, one core", promised, {"cpu": 0, "users": 16}),
            ("one user, one core", found, {"cpu": 0}),
            ("one user, any core", found, {}),
        )
    ]


def _with_tickets(
    bench: _Bench,
    host: Host,
    directory: Path,
    *,
    rounds: int,
    quick: bool,
    only: str,
    against: Path | None,
) -> list[Row]:
    chosen = [each for each in _ticket_measurements() if only in each.name]
    if not chosen:
        return []
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        peers: dict[str, Peer] = {
            "mksfilter": stack.enter_context(TicketPeer.running(host, directory))
        }
        if against is not None:
            peers["former"] = before = former(against)(host, "vCenter", directory)
            stack.callback(before.stop)
            before.start()
        for measurement in chosen:
            bench.say(f"vCenter: {measurement.name}")
            options = measurement.quick if quick else measurement.options
            found: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
            for _ in range(rounds):
                for name, peer in peers.items():
                    if result := bench.measure(peer, measurement, options):
                        found[name].append(result)
            rows += [_row("vCenter", measurement, column, found) for column in measurement.columns]
    return rows


def cpus() -> int:
    return os.cpu_count() or 1
