"""Thousands of sessions for a while: ``python -m benchmarks.soak --sessions 10000 --active 500``.

The proxy as operators start it, a token and a vCenter's ticket for each session, TLS to the console
host. All sessions are opened at a steady rate; they idle; some of them type; everybody is asked
for one more echo, and leaves. A line is printed every interval, and all of it is kept as JSON.
The exit code is 1 when a session or a key was lost, or memory grew.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.idle_clients import IdleClients
from benchmarks.peers import Host
from benchmarks.processes import cpu_seconds, pss, spawn, stop, wait_for_port
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.request import ConsoleRequest
from tests.support.ports import free_port

LOGGER = "mksfilter.proxy.console.sessions"

__all__ = ["Sample", "Soak"]

_MACHINES = 100
_WARM_UP = 40
#: What a steady process may grow by from the first third of the run to the last.
_GROWTH = 1.01
_GROWTH_KB = 1024
_COLUMNS = (
    f"{'s':>6} {'phase':<8}{'sessions':>9}{'lost':>6}{'echo/s':>8}{'p50 ms':>8}{'p99 ms':>8}"
    f"{'CPU':>7}{'PSS MB':>8}{'kB/session':>11}  {'descriptors':<14}{'load':>5}"
)


@dataclasses.dataclass(frozen=True)
class Sample:
    """How things stand.

    :ivar at: seconds since the start.
    :ivar echoes: per second, since the sample before; ``p50_ms`` and ``p99_ms`` of these.
    :ivar cpu: share of one core that the proxy took since the sample before.
    :ivar cpu_s: CPU seconds of the proxy, since its start.
    :ivar pss_kb: of each worker; ``rest_kb`` of the process above them.
    :ivar descriptors: of each worker.
    """

    at: float
    phase: str
    sessions: int
    lost: int
    echoes: float
    p50_ms: float | None
    p99_ms: float | None
    cpu: float
    cpu_s: float
    pss_kb: list[int]
    rest_kb: int
    descriptors: list[int]
    load: float

    @property
    def total_kb(self) -> int:
        """PSS of the whole proxy."""
        return sum(self.pss_kb) + self.rest_kb


class Soak:
    """A proxy with everything around it, and what is seen of it.

    :param directory: for configuration, keys and logs.
    :param interval: seconds between samples.
    :param options: of ``[mksfilter]``, beside those that so many sessions need.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sessions: int,
        workers: int,
        interval: float,
        **options: object,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "proxy.log"
        self.log.unlink(missing_ok=True)
        self.samples: list[Sample] = []
        self.phase = "warm-up"
        self._directory = directory
        self._sessions = sessions
        self._workers = workers
        self._options = options
        self._interval = interval
        self._began = time.monotonic()
        self._last = (self._began, 0.0, 0)  # time, CPU and echoes of the sample before
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Soak:
        with contextlib.ExitStack() as stack:
            host = Host(self._directory)
            stack.callback(host.stop)
            vcenter = _start_vcenter(stack, host)
            machines = [vm["uuid"] for vm in vcenter["vms"] if vm["power"] == "on"]
            port = free_port()
            codec = self._configure(vcenter["vcenter"])
            command = [sys.executable, "-m", "mksfilter", "serve", "--bind", f"127.0.0.1:{port}"]
            command += ["--config-file", str(self._directory / "mksfilter.conf")]
            self._proxy = spawn([*command, "--workers", str(self._workers)], self.log)
            stack.callback(stop, self._proxy)
            wait_for_port(port, self._proxy, self.log)
            self.tokens = (
                codec.issue(
                    ConsoleRequest(machine, user_id="soak", project_id="soak", mode="full"), ttl=600
                ).token
                for machine in itertools.cycle(machines)
            )
            self.clients = IdleClients(port, self._tick, self._interval)
            self._pids: list[int] = []
            self._stack = stack.pop_all()
        return self

    def warm_up(self, **pace: Any) -> None:
        """Open and close sessions until every worker has made what it makes at first use."""
        for _ in range(20):
            self.clients.open(itertools.islice(self.tokens, _WARM_UP), **pace)
            self.clients.leave(rate=500)
            self._pids = sorted(c.pid for c in psutil.Process(self._proxy.pid).children())
            log = self.log.read_text(errors="replace")
            served = all(f"[{pid}] [INFO] {LOGGER}" in log for pid in self._pids)
            if len(self._pids) == self._workers and served:
                break
        self.clients.wait(1)
        self.clients.opened = self.clients.pressed = self.clients.echoed = 0
        self._last = (time.monotonic(), cpu_seconds([self._proxy.pid]), 0)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _configure(self, vcenter: dict[str, Any]) -> TokenCodec:
        keys = KeyRepository(str(self._directory / "keys"))
        if not (self._directory / "keys").exists():
            keys.setup()
        password = self._directory / "password"
        password.touch(0o600)
        password.write_text(vcenter["password"])
        options = "".join(f"{name} = {value}\n" for name, value in self._options.items())
        (self._directory / "mksfilter.conf").write_text(
            f"[mksfilter]\nkey_repository = {self._directory / 'keys'}\naudience = soak\n"
            f"allowed_networks = 127.0.0.0/8\nmanagement_bind =\n"
            f"max_sessions = {self._sessions + _WARM_UP}\n"
            f"max_sessions_per_instance = 0\nmax_sessions_per_user = 0\nconnection_rate = 0\n"
            f"max_openings_per_user = 0\nmax_openings_per_address = 0\nvcenters = one\n{options}"
            f"[vcenter.one]\nhost = {vcenter['host']}\nport = {vcenter['port']}\n"
            f"username = {vcenter['username']}\npassword_file = {password}\n"
            f"ca_file = {vcenter['ca_file']}\n"
        )
        return TokenCodec(keys, "soak")

    def begin(self, phase: str) -> None:
        """What is sampled from here on is called *phase*."""
        self.phase = phase

    def _tick(self) -> None:
        if self.phase != "warm-up":
            self.sample()

    def sample(self) -> Sample:
        """Look at everything, and print a line."""
        now, cpu = time.monotonic(), cpu_seconds([self._proxy.pid])
        then, cpu_before, echoed_before = self._last
        self._last = (now, cpu, self.clients.echoed)
        times = sorted(self.clients.take_times())
        pids = self._pids
        pss_kb = [pss([pid]) for pid in pids]
        sample = Sample(
            at=now - self._began,
            phase=self.phase,
            sessions=self.clients.sessions,
            lost=self.clients.lost.total(),
            echoes=(self.clients.echoed - echoed_before) / max(0.001, now - then),
            p50_ms=times[len(times) // 2] * 1e3 if times else None,
            p99_ms=times[len(times) * 99 // 100] * 1e3 if times else None,
            cpu=(cpu - cpu_before) / max(0.001, now - then),
            cpu_s=cpu,
            pss_kb=pss_kb,
            rest_kb=pss([self._proxy.pid]) - sum(pss_kb),
            descriptors=[len(os.listdir(f"/proc/{pid}/fd")) for pid in pids],
            load=os.getloadavg()[0],
        )
        self.samples.append(sample)
        print(self._line(sample), flush=True)
        return sample

    def _line(self, sample: Sample) -> str:
        per_session = "-"
        if sample.sessions and sample.phase not in ("start", "leaving"):
            grown = sample.total_kb - self.samples[0].total_kb
            per_session = f"{grown / sample.sessions:.1f}"
        latency = "".join(
            f"{'-' if value is None else format(value, '.2f'):>8}"
            for value in (sample.p50_ms, sample.p99_ms)
        )
        return (
            f"{sample.at:>6.1f} {sample.phase:<8}{sample.sessions:>9}{sample.lost:>6}"
            f"{sample.echoes:>8.0f}{latency}{sample.cpu:>7.0%}{sample.total_kb / 1024:>8.1f}"
            f"{per_session:>11}  {'+'.join(map(str, sample.descriptors)):<14}{sample.load:>5.1f}"
        )

    def settle(self, seconds: float, timeout: float = 30.0) -> None:
        """Wait until the workers have closed what they had open, and then *seconds* more."""
        limit = [count + 16 for count in self.samples[0].descriptors]
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.clients.wait(0.2)
            now = [len(os.listdir(f"/proc/{pid}/fd")) for pid in self._pids]
            if all(count <= most for count, most in zip(now, limit, strict=True)):
                break
        self.clients.wait(seconds)

    def ends(self) -> dict[str, int]:
        """Why the proxy ended sessions and refused them, by its own log."""
        found: Counter[str] = Counter()
        for line in self.log.read_text(errors="replace").splitlines():
            if "session-ended" in line or "console-refused" in line or " ERROR " in line:
                fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
                found[fields.get("reason", "error")] += 1
        return dict(found)


def _start_vcenter(stack: contextlib.ExitStack, host: Host) -> dict[str, Any]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.vcenter"),
            *(str(host.ports["tls"]), str(host.certificate), str(_MACHINES)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    stack.callback(stop, process)
    assert process.stdout is not None
    ready: dict[str, Any] = json.loads(process.stdout.readline())
    return ready


def _run(soak: Soak, args: argparse.Namespace) -> dict[str, Any]:
    """All phases; the figures that matter."""
    clients = soak.clients
    soak.warm_up(rate=args.rate, at_once=args.at_once)
    print(_COLUMNS)
    soak.begin("start")
    before = soak.sample()

    soak.begin("opening")
    tokens = itertools.islice(soak.tokens, args.sessions)
    seconds = clients.open(tokens, rate=args.rate, at_once=args.at_once)
    opened = soak.sample()

    soak.begin("idle")
    clients.wait(args.idle)
    soak.sample()
    soak.begin("typing")
    clients.take_times()
    if args.active:
        clients.type(args.active, rate=args.typing_rate, seconds=args.seconds)
    soak.sample()
    soak.begin("touch")
    clients.touch(rate=1000)
    soak.sample()
    soak.begin("leaving")
    alive = clients.sessions
    clients.leave(rate=500)
    soak.begin("closed")
    soak.settle(args.after)
    closed = soak.sample()

    steady = [s for s in soak.samples if s.phase in ("idle", "typing")]
    typing = [s for s in steady if s.phase == "typing" and s.p50_ms is not None]
    first, last = _thirds(steady)
    return {
        "opened": clients.opened,
        "opened_per_s": clients.opened / seconds,
        "open_cpu_ms": (opened.cpu_s - before.cpu_s) / max(1, clients.opened) * 1e3,
        "lost": clients.lost.total(),
        "lost_why": dict(clients.lost),
        "alive_at_the_end": alive,
        "keys": clients.pressed,
        "keys_unanswered": clients.pressed - clients.echoed,
        "keys_skipped": clients.skipped,
        "echoes_per_s": _median(s.echoes for s in typing),
        "p50_ms": _median(s.p50_ms for s in typing),
        "p99_ms": _median(s.p99_ms for s in typing),
        "worst_p99_ms": max((s.p99_ms or 0 for s in typing), default=None),
        "pings_answered": clients.pings,
        "control_messages": clients.messages,
        "pss_before_kb": before.total_kb,
        "pss_opened_kb": opened.total_kb,
        "pss_closed_kb": closed.total_kb,
        "pss_per_session_kb": (opened.total_kb - before.total_kb) / max(1, clients.opened),
        "pss_first_third_kb": first,
        "pss_last_third_kb": last,
        "flat": last <= first * _GROWTH + _GROWTH_KB,
        "cpu_s": closed.cpu_s,
        "descriptors_before": before.descriptors,
        "descriptors_opened": opened.descriptors,
        "descriptors_closed": closed.descriptors,
        "ends": soak.ends(),
    }


def _thirds(samples: list[Sample]) -> tuple[float, float]:
    """Mean PSS in the first and in the last third of *samples*."""
    count = max(1, len(samples) // 3)
    sizes = [sample.total_kb for sample in samples]
    return statistics.fmean(sizes[:count]), statistics.fmean(sizes[-count:])


def _median(values: Iterator[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def _descriptors_needed(sessions: int) -> None:
    """Raise the limit to what the clients needs; children inherit it.

    :raises SystemExit: the hard limit is lower.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and sessions + 200 > hard:
        raise SystemExit(f"{sessions} sessions: only {hard} descriptors; raise ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Run it; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10000)
    parser.add_argument("--active", type=int, default=500, help="sessions that type (500)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="of typing (60)")
    parser.add_argument("--idle", type=float, help="seconds before it (a quarter of --seconds)")
    parser.add_argument("--after", type=float, default=3, help="seconds after the last left (3)")
    parser.add_argument("--rate", type=float, default=300, help="sessions opened per second (300)")
    parser.add_argument("--at-once", type=int, default=32, help="on their way together (32)")
    parser.add_argument("--typing-rate", type=float, default=20, help="keys per second each (20)")
    parser.add_argument("--interval", type=float, help="between lines (a twelfth of --seconds)")
    parser.add_argument("--ping-interval", type=int, help="of the proxy (its default)")
    parser.add_argument("--directory", type=Path, default=Path("var/soak"))
    args = parser.parse_args()
    args.idle = args.seconds / 4 if args.idle is None else args.idle
    args.interval = max(0.5, args.seconds / 12) if args.interval is None else args.interval
    _descriptors_needed(args.sessions)
    # So that whoever stops us does not leave the proxy and its surroundings behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(["python -m benchmarks.soak", *sys.argv[1:]]),
        "machine": f"{platform.system()} {platform.release()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    print(f"{report['date']}  {report['machine']}  Python {report['python']}\n")
    directory = args.directory.resolve()
    soak = Soak(
        directory / "run",
        sessions=args.sessions,
        workers=args.workers,
        interval=args.interval,
        **({} if args.ping_interval is None else {"ping_interval": args.ping_interval}),
    )
    with soak:
        report["result"] = result = _run(soak, args)
    report["samples"] = [dataclasses.asdict(sample) for sample in soak.samples]
    path = directory / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(report, indent=1) + "\n")
    print()
    for name, value in result.items():
        print(f"{name:<22} {round(value, 2) if isinstance(value, float) else value}")
    print(f"\n{path}")
    good = not result["lost"] and not result["keys_unanswered"] and result["flat"]
    return 0 if good and result["opened"] == args.sessions else 1


if __name__ == "__main__":
    sys.exit(main())
