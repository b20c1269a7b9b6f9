"""Good sessions beside a hostile outside: ``python -m benchmarks.hostile --seconds 300``.

A hundred people type while ten thousand hostile connections a minute arrive: half requests,
silence, garbage, TLS where there is none, bad tokens, and customers whose own consoles break the
protocol. Promised: no good session is lost, a key's echo is there within 50 ms (99 of 100), and
memory does not grow with time.

The proxy is ``mksfilter serve`` with one worker, as operators run it. Each side has a vSphere of
its own, the simulator with consoles that echo, so that what is measured is the proxy and not how a
console host bears a flood. The attackers and theirs run at a lower priority: on one machine they
take the cores that they would not take from a proxy elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import Target
from benchmarks.processes import cpu_seconds, pss, rss, spawn, stop
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import OFF_1, WEB_1, SimulatedVSphere
from mksfilter.simulator.client import start as simulated_vsphere

__all__ = ["Typists", "main"]

_KEY = b"\x82\x8a\x00\x00\x00\x00" + b"0123456789"
_ECHO = b"\x82\x0a" + b"0123456789"
_PING = 0x89
_LIMIT_MS = 50.0
_NICE = 10
_AFTER = 5.0  # seconds of typing before and after


class Typists:
    """Good sessions, each with its keys at a steady rate.

    :ivar times: seconds from a key to its echo.
    :ivar lost: sessions that ended.
    """

    def __init__(self, target: Target, count: int, rate: float) -> None:
        self.times: list[float] = []
        self.lost = 0
        self._period = 1 / rate
        self._interval = self._period / count
        self._poll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._sent: dict[int, float] = {}
        self._heard: dict[int, bytes] = {}
        for _ in range(count):
            sock = target.connect()
            self._socks[sock.fileno()] = sock
            self._heard[sock.fileno()] = b""
            self._poll.register(sock.fileno(), select.EPOLLIN)
        self._turns = iter(self._next_turn())

    def _next_turn(self) -> Iterator[int]:
        while self._socks:
            yield from list(self._socks)

    def watch(self, fd: int) -> None:
        """Have :meth:`run` return when there is something to read from another descriptor."""
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """See :meth:`watch`."""
        self._poll.unregister(fd)

    def run(self, seconds: float) -> int | None:
        """Type for so long; returns early with a watched descriptor that has something to say."""
        end = time.perf_counter() + seconds
        due = time.perf_counter()
        while (now := time.perf_counter()) < end:
            while due <= now:
                self._press(next(self._turns, -1))
                due += self._interval
            for fd, _ in self._poll.poll(max(0.0, min(due, end) - time.perf_counter())):
                if fd not in self._socks:
                    return fd
                self._read(fd)
        return None

    def _press(self, fd: int) -> None:
        if fd not in self._socks:
            return
        waiting = self._sent.get(fd)
        if waiting is not None:
            return  # its last echo is not there yet, and that one is being timed
        self._sent[fd] = time.perf_counter()
        try:
            self._socks[fd].send(_KEY)
        except OSError:
            self._lose(fd)

    def _read(self, fd: int) -> None:
        try:
            data = self._socks[fd].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._lose(fd)
            return
        heard = self._heard[fd] + data
        while len(heard) >= 2 and len(heard) >= 2 + heard[1]:
            message, heard = heard[: 2 + heard[1]], heard[2 + heard[1] :]
            if message == _ECHO:
                self._note(time.perf_counter() - self._sent.pop(fd))
            elif message[0] == _PING:
                pong = bytes([0x8A, 0x80 | message[1], 0, 0, 0, 0]) + message[2:]
                self._socks[fd].send(pong)
            else:
                self._lose(fd)
                return
        self._heard[fd] = heard

    def _note(self, seconds: float) -> None:
        # A key that was not pressed because the one before had no echo would have waited too.
        while seconds > 0:
            self.times.append(seconds)
            seconds -= self._period

    def _lose(self, fd: int) -> None:
        self.lost += 1
        self._poll.unregister(fd)
        self._socks.pop(fd).close()
        self._sent.pop(fd, None)


def main() -> int:
    """Exit code 1 when a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="of attack (300)")
    parser.add_argument("--per-minute", type=int, default=10000, help="hostile connections (10000)")
    parser.add_argument("--sessions", type=int, default=100, help="good ones (100)")
    parser.add_argument("--rate", type=float, default=2.0, help="keys per second of each (2)")
    parser.add_argument("--kinds", default="", help="of attackers, separated by commas; all")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        good, bad = (stack.enter_context(simulated_vsphere("--screen", "echo")) for _ in range(2))
        for vsphere in (good, bad):
            vsphere.set_vm("web-1", max_connections=100_000)
        psutil.Process(bad.pid).nice(_NICE)
        proxy = _Proxy(directory, {"good": good, "bad": bad})
        stack.callback(proxy.stop)
        return _attack(proxy, args)


class _Proxy:
    """``mksfilter serve`` with one worker and the limits that operators have by default, but for
    the number of consoles of one machine: everybody here looks at the same."""

    def __init__(self, directory: Path, vspheres: dict[str, SimulatedVSphere]) -> None:
        keys = directory / "keys"
        KeyRepository(str(keys)).setup()
        lines = [
            f"[mksfilter]\nkey_repository = {keys}\naudience = hostile",
            "allowed_networks = 127.0.0.0/8\nmax_sessions_per_instance = 0",
            "max_sessions_per_user = 0\nconnection_rate = 0\nmax_openings_per_address = 0",
            "management_bind = 127.0.0.1:0",
            f"vcenters = {','.join(vspheres)}",
        ]
        for name, vsphere in vspheres.items():
            vcenter = vsphere.vcenter_settings()
            password = directory / f"password-{name}"
            password.touch(0o600)
            password.write_text(vcenter.password)
            lines += [
                f"[vcenter.{name}]\nhost = {vcenter.host}\nport = {vcenter.port}",
                f"username = {vcenter.username}\npassword_file = {password}",
                f"ca_file = {vcenter.ca_file}",
            ]
        config = directory / "mksfilter.conf"
        config.write_text("\n".join(lines) + "\n")
        self._codec = TokenCodec(KeyRepository(str(keys)), "hostile")
        self._log = directory / "proxy.log"
        command = [sys.executable, "-m", "mksfilter", "serve", "--config-file", str(config)]
        self._process = spawn([*command, "--bind", "127.0.0.1:0", "--workers", "1"], self._log)
        self.pids = [self._process.pid]
        self.port = self._wait()

    def _wait(self) -> int:
        deadline = time.monotonic() + 30
        while self._process.poll() is None and time.monotonic() < deadline:
            match = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self._log.read_text())
            if match:
                return int(match[1])
            time.sleep(0.05)
        raise RuntimeError(f"the proxy did not start:\n{self._log.read_text()}")

    def token(self, instance: str, vcenter: str) -> str:
        """A token for a machine of one of the two."""
        return self._codec.issue(
            ConsoleRequest(instance, vcenter=vcenter, mode="full"), ttl=86400
        ).token

    def refusals(self) -> dict[str, float]:
        """How many requests were refused so far, by reason."""
        management = re.search(r"management on (\S+)", self._log.read_text())
        assert management
        url = f"{management[1]}/metrics"
        with urllib.request.urlopen(url, timeout=20) as response:
            text = response.read().decode()
        found = re.findall(r'^mksfilter_refusals_total\{.*reason="([^"]+)".*\} (\S+)$', text, re.M)
        return {reason: float(count) for reason, count in found}

    def unexpected(self) -> int:
        """Errors in the log that nobody expected."""
        return self._log.read_text(errors="replace").count("event=unexpected-error")

    def stop(self) -> None:
        stop(self._process)


def _attack(proxy: _Proxy, args: argparse.Namespace) -> int:
    target = Target(proxy.port, f"/websockify?token={proxy.token(WEB_1, 'good')}")
    typists = Typists(target, args.sessions, args.rate)
    typists.run(2.0)
    typists.times.clear()
    typists.run(_AFTER)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"{started}  {args.sessions} good sessions at {args.rate:g} keys/s each")
    heads = "".join(f"{head:>8}" for head in ("RSS MB", "PSS MB", "p50 ms", "p99 ms"))
    print(f"{'':>8}{'hostile':>9}{'open':>7}{heads}  lost")
    _line("before", {"rss_kb": rss(proxy.pids), "pss_kb": pss(proxy.pids)}, typists, typists.times)
    before, cpu = pss(proxy.pids), cpu_seconds(proxy.pids)
    order = {
        "port": proxy.port,
        "token": proxy.token(WEB_1, "bad"),
        "off": proxy.token(OFF_1, "bad"),
        "rate": args.per_minute / 60,
        "seconds": args.seconds,
        "pids": proxy.pids,
        "kinds": args.kinds.split(",") if args.kinds else [],
        "nice": _NICE,
    }
    attack = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hostile_clients", json.dumps(order)],
        stdout=subprocess.PIPE,
    )
    assert attack.stdout is not None
    begun, shown = time.monotonic(), time.monotonic()
    typists.watch(attack.stdout.fileno())
    typists.times.clear()
    every, said, mark = [], {}, 0
    while (said_now := _follow(typists, attack.stdout)) is not None:
        said = said_now
        every.append(said["pss_kb"])
        if time.monotonic() - shown >= max(5.0, args.seconds / 10):
            shown = time.monotonic()
            _line(f"{shown - begun:.0f} s", said, typists, typists.times[mark:])
            mark = len(typists.times)
    typists.unwatch(attack.stdout.fileno())
    attack.wait()
    during = list(typists.times)
    cpu = cpu_seconds(proxy.pids) - cpu
    seconds = time.monotonic() - begun
    typists.times.clear()
    typists.run(_AFTER)
    now = {"rss_kb": rss(proxy.pids), "pss_kb": pss(proxy.pids), "started": said["started"]}
    _line("after", now, typists, typists.times)
    print(f"\nwhat came of {said['started']} hostile connections")
    for outcome, count in sorted(said["outcomes"].items()):
        print(f"{count:>8}  {outcome}")
    print("\nrefusals that the proxy counted")
    for reason, count in sorted(proxy.refusals().items()):
        print(f"{count:>8.0f}  {reason}")
    p99 = _percentile(during, 99)
    kept = not typists.lost and p99 < _LIMIT_MS and not proxy.unexpected()
    print(
        f"\ngood sessions lost: {typists.lost} of {args.sessions}"
        f"\necho during the attack: p50 {_percentile(during, 50):.2f} ms, p99 {p99:.2f} ms, "
        f"of {len(during)} keys (promised: p99 below {_LIMIT_MS:g} ms)"
        f"\nPSS: {before / 1024:.1f} MB before, {max(every) / 1024:.1f} MB at most, "
        f"{now['pss_kb'] / 1024:.1f} MB after"
        f"\nCPU of the proxy: {cpu / seconds:.0%} of a core, machine's load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        f"\nunexpected errors in the log: {proxy.unexpected()}"
        f"\n{'ok' if kept else 'MISSED'}"
    )
    return 0 if kept else 1


def _follow(typists: Typists, stream: Any) -> dict[str, Any] | None:
    """Type until the attack says something; None when it is over."""
    while typists.run(30.0) is None:
        pass
    line = stream.readline()
    return json.loads(line) if line else None


def _line(when: str, said: dict[str, Any], typists: Typists, times: list[float]) -> None:
    print(
        f"{when:>8}{said.get('started', 0):>9}{said.get('open', 0):>7}"
        f"{said['rss_kb'] / 1024:>8.1f}{said['pss_kb'] / 1024:>8.1f}"
        f"{_percentile(times, 50):>8.2f}{_percentile(times, 99):>8.2f}  {typists.lost}",
        flush=True,
    )


def _percentile(times: list[float], which: int) -> float:
    """In milliseconds."""
    return statistics.quantiles(times, n=100)[which - 1] * 1e3 if len(times) > 1 else 0.0


if __name__ == "__main__":
    sys.exit(main())
