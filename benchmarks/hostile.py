"""``python -m benchmarks.hostile``: good sessions beside a crowd that means harm.

Good sessions echo a few bytes, twice a second each, through the real proxy; meanwhile hostile
clients connect as fast as asked: silent ones, ones that drip a byte at a time, junk, TLS hellos,
endless heads, forged tokens, foreign origins, early data, and sessions with a good token that break
RFC 6455 at once. Told: whether a good session was lost, the echo times, and the worker's memory.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import collections  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any, cast  # noqa: E402

import gevent  # noqa: E402
import psutil  # noqa: E402
from gevent import socket  # noqa: E402
from gevent.pool import Pool  # noqa: E402
from websockets.frames import Frame, Opcode  # noqa: E402

from mksfilter.simulator.client import DB_1, OFF_1, WEB_1, start  # noqa: E402
from tests.support.proxy import RunningProxy, start_proxy  # noqa: E402

__all__ = ["main"]


class Good:
    """One session that only wants to work."""

    def __init__(self, proxy: RunningProxy, number: int) -> None:
        self.sock = proxy.connect()
        self.sock.sendall(proxy.handshake(proxy.token((WEB_1, DB_1)[number % 2])))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.sock.recv(1)
        assert b" 101 " in head, head
        self.lost = False
        self.times: list[tuple[float, float]] = []

    def run(self, until: float) -> None:
        """Echo until then."""
        question = Frame(Opcode.BINARY, b"0123456789").serialize(mask=True)
        size = len(Frame(Opcode.BINARY, b"0123456789").serialize(mask=False))
        try:
            while time.monotonic() < until:
                started = time.perf_counter()
                self.sock.sendall(question)
                left = size
                while left:
                    chunk = self.sock.recv(left)
                    if not chunk:
                        raise ConnectionError("closed")
                    if chunk[0] == 0x89:  # a ping of the proxy's; the stream is ours otherwise
                        continue
                    left -= len(chunk)
                self.times.append((time.monotonic(), time.perf_counter() - started))
                gevent.sleep(0.5)
        except OSError as exc:
            self.lost = True
            print(f"a good session was lost: {exc!r}")


class Crowd:
    """Clients that mean harm, each kind in turn; runs in a process of its own."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._proxy = cast("RunningProxy", _Target(orders["port"]))
        self._token = orders["token"]
        self._off = orders["off"]
        self.done: collections.Counter[str] = collections.Counter()
        self._kinds = itertools.cycle(
            [
                *(self.silent, self.drip, self.junk, self.hello, self.endless, self.forged),
                *(self.foreign, self.early, self.off, self.unmasked, self.slow_reader),
            ]
        )

    def run(self, seconds: float, per_minute: float) -> None:
        """Send clients at that rate for that long."""
        pool = Pool(5000)
        due = time.monotonic()
        end = due + seconds
        while due < end:
            pool.spawn(self.one)
            due += 60 / per_minute
            gevent.sleep(max(0.0, due - time.monotonic()))
        pool.join(timeout=15)

    def one(self) -> None:
        """The next client."""
        attack = next(self._kinds)
        try:
            with self._proxy.connect() as sock:
                attack(sock)
            self.done[attack.__name__] += 1
        except OSError:
            self.done[f"{attack.__name__} cut off"] += 1

    def silent(self, sock: socket.socket) -> None:
        sock.recv(1)

    def drip(self, sock: socket.socket) -> None:
        for byte in b"GET / HTTP/1.1\r\nHost: h\r\nX-A: ":
            sock.sendall(bytes([byte]))
            gevent.sleep(0.3)
        sock.recv(1)

    def junk(self, sock: socket.socket) -> None:
        sock.sendall(b"\x00\xff" * 8000)
        sock.recv(100)

    def hello(self, sock: socket.socket) -> None:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))
        sock.recv(100)

    def endless(self, sock: socket.socket) -> None:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X-A: b\r\n" * 8000)
        sock.recv(100)

    def forged(self, sock: socket.socket) -> None:
        sock.sendall(self._proxy.handshake(self._token[:-3] + "AAA"))
        sock.recv(100)

    def foreign(self, sock: socket.socket) -> None:
        headers = {"Origin": "https://evil.example.net"}
        sock.sendall(self._proxy.handshake(self._token, headers=headers))
        sock.recv(100)

    def early(self, sock: socket.socket) -> None:
        sock.sendall(self._proxy.handshake(self._token) + b"\x82\x80" + bytes(4))
        sock.recv(100)

    def off(self, sock: socket.socket) -> None:
        sock.sendall(self._proxy.handshake(self._off))
        sock.recv(100)

    def unmasked(self, sock: socket.socket) -> None:
        sock.sendall(self._proxy.handshake(self._token))
        sock.recv(1)
        sock.sendall(b"\x82\x05hello" * 100)
        while sock.recv(65536):
            pass

    def slow_reader(self, sock: socket.socket) -> None:
        sock.sendall(b"GET /static/novnc/console.js HTTP/1.1\r\nHost: h\r\n\r\n")
        gevent.sleep(5)


class _Target(RunningProxy):
    """A proxy that somebody else started."""

    def __init__(self, port: int) -> None:
        self.port = port


def main() -> int:
    """Print what happened as JSON; exit code 1 when a good session was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--per-minute", type=float, default=10_000, help="hostile connections")
    parser.add_argument("--sessions", type=int, default=100, help="good ones")
    parser.add_argument("--crowd", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.crowd:
        crowd = Crowd(json.load(sys.stdin))
        crowd.run(args.seconds, args.per_minute)
        json.dump(crowd.done, sys.stdout)
        return 0
    with start() as vsphere:
        for name in ("web-1", "db-1"):
            vsphere.set_vm(name, screen="echo", max_connections=100_000)
        with start_proxy(
            [vsphere.vcenter_settings()],
            log_level="WARNING",
            handshake_timeout=10,
            max_sessions_per_instance=0,
        ) as proxy:
            report = _run(proxy, args)
    print(json.dumps(report, indent=1))
    return int(report["good sessions lost"] > 0)


def _run(proxy: RunningProxy, args: argparse.Namespace) -> dict[str, object]:
    (worker,) = psutil.Process(proxy.process.pid).children()
    good = [Good(proxy, number) for number in range(args.sessions)]
    calm, total = 5.0, 5.0 + args.seconds
    begin = time.monotonic()
    tasks = [gevent.spawn(session.run, begin + total) for session in good]
    gevent.sleep(calm)
    memory, used = [worker.memory_info().rss], sum(worker.cpu_times()[:2])
    orders = {
        "port": proxy.port,
        "token": proxy.token(WEB_1, ttl=3600),
        "off": proxy.token(OFF_1, ttl=3600),
    }
    crowd = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.hostile", "--crowd"),
            *("--seconds", str(args.seconds), "--per-minute", str(args.per_minute)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert crowd.stdin is not None
    crowd.stdin.write(json.dumps(orders))
    crowd.stdin.close()
    while time.monotonic() < begin + total:
        gevent.sleep(5)
        memory.append(worker.memory_info().rss)
    used = sum(worker.cpu_times()[:2]) - used
    gevent.joinall(tasks)
    assert crowd.stdout is not None
    done = json.loads(crowd.stdout.read())
    crowd.wait()
    echoes = sum(when > begin + calm for session in good for when, _ in session.times)
    times = [taken for session in good for when, taken in session.times if when > begin + calm]
    quiet = [taken for session in good for when, taken in session.times if when <= begin + calm]
    return {
        "good sessions": len(good),
        "good sessions lost": sum(session.lost for session in good),
        "hostile connections": sum(done.values()),
        "hostile by kind": dict(sorted(done.items())),
        "echoes beside them": echoes,
        "worker CPU ms per hostile connection, echoes included": round(
            used * 1000 / max(1, sum(done.values())), 3
        ),
        "echo ms, before: p50 p99": _percentiles(quiet),
        "echo ms, beside them: p50 p99": _percentiles(times),
        "worker RSS MiB every 5 s": [round(size / 2**20, 1) for size in memory],
        "worker RSS MiB at the end": round(worker.memory_info().rss / 2**20, 1),
        "load average": psutil.getloadavg()[0],
    }


def _percentiles(times: list[float]) -> list[float]:
    cuts = statistics.quantiles(times, n=100)
    return [round(cuts[49] * 1000, 2), round(cuts[98] * 1000, 2)]


if __name__ == "__main__":
    raise SystemExit(main())
