"""Nodes die, and all their sessions come back at once: ``python -m benchmarks.storm``.

A node of its own holds all sessions and is killed. The browsers come to the rest in the same
moment, with a token each, as a balancer distributes them; who is refused comes again, as the page
does. Each ticket is a call to one of two vCenters that answer in 50 ms, and all nodes together may
make 8 at a time to each. Printed are the time until the last is back, beside the time in which 8
calls at a time can be made at all, the most calls in flight that each vCenter saw, and what users
read meanwhile. The exit code is 1 when a bound was passed or a session was not back.

The sessions come with connect tokens: a page's proof of possession (0.2 ms) is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.console_host import ECHO_REQUEST
from benchmarks.idle_clients import IdleClients, first_frame
from benchmarks.peers import Host
from benchmarks.processes import cpu_seconds, family, spawn, stop, wait_for_port
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import SimulatedVSphere
from tests.support.ports import free_port

__all__ = ["main"]

_VCENTERS = 2
_MACHINES = 200
_USERS = 500
#: Seconds between two samples.
_SAMPLE = 0.25
#: Seconds after which a page comes again that was told that too many consoles are being opened, and
#: no time, as page/src/endings.js has it.
_AGAIN = (2.0, 5.0)
#: Descriptors that a process needs for other things.
_SPARE = 300


class _Node:
    """One node of one worker.

    :param calls: that it may make to each vCenter at once.
    """

    def __init__(
        self, name: str, directory: Path, vsphere: SimulatedVSphere, *, calls: int, sessions: int
    ) -> None:
        self.port = free_port()
        config = directory / f"{name}.conf"
        text = (
            f"[mksfilter]\nkey_repository = {directory / 'keys'}\naudience = storm\n"
            f"allowed_networks = 127.0.0.0/8\nmanagement_bind =\nmax_sessions = {sessions + 10}\n"
            f"max_sessions_per_instance = 0\nmax_sessions_per_user = 0\nconnection_rate = 0\n"
            f"max_openings_per_user = 0\nmax_openings_per_address = 0\nlog_level = WARNING\n"
            f"vcenters = {', '.join(f'v{number}' for number in range(_VCENTERS))}\n"
        )
        for number in range(_VCENTERS):
            found = vsphere.vcenter_settings(number)
            text += (
                f"[vcenter.v{number}]\nhost = {found.host}\nport = {found.port}\n"
                f"username = {found.username}\npassword = {found.password}\n"
                f"ca_file = {found.ca_file}\npool_size = {calls}\n"
            )
        config.touch(0o600)
        config.write_text(text)
        log = directory / f"{name}.log"
        command = [sys.executable, "-m", "mksfilter", "serve", "--config-file", str(config)]
        command += ["--bind", f"127.0.0.1:{self.port}", "--workers", "1"]
        self.process = spawn(command, log)
        wait_for_port(self.port, self.process, log)

    def kill(self) -> None:
        """As a power cut does."""
        for pid in family([self.process.pid]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class _Page:
    """One browser that comes back."""

    __slots__ = ("head", "port", "received", "sock", "token", "told")

    def __init__(self, token: str, port: int) -> None:
        self.token = token
        self.port = port
        self.sock: socket.socket | None = None
        self.head = False  # its 101 was read
        self.received = b""
        self.told = 0.0  # seconds after which to come again


class _Return:
    """All of them; one is back when its first key press is answered.

    :ivar read: what users were told, and how many of them.
    """

    def __init__(self, tokens: Sequence[str], ports: Sequence[int]) -> None:
        self.read: Counter[str] = Counter()
        self.back: list[float] = []
        self.curve: list[tuple[float, int]] = []
        self._pages = [_Page(token, port) for token, port in zip(tokens, itertools.cycle(ports))]
        self._poll = select.epoll()
        self._by_fd: dict[int, _Page] = {}
        self._again: list[tuple[float, int, _Page]] = []
        self._kept: list[_Page] = []

    def run(self, limit: float) -> float:
        """Until all are back, or for *limit* seconds; returns the seconds."""
        began = time.monotonic()
        self._began, next_sample = began, began
        for number, page in enumerate(self._pages):
            self._connect(page)
            if not number % 50:
                self._serve(0)
        while len(self.back) < len(self._pages) and time.monotonic() < began + limit:
            now = time.monotonic()
            if now >= next_sample:
                self.curve.append((now - began, len(self.back)))
                next_sample = now + _SAMPLE
            while self._again and self._again[0][0] <= now:
                self._connect(heapq.heappop(self._again)[2])
            self._serve(0.05)
        seconds = (self.back[-1] if self.back else time.monotonic()) - began
        self.curve.append((seconds, len(self.back)))
        return seconds

    def _connect(self, page: _Page) -> None:
        page.sock = sock = socket.socket()
        page.head, page.received = False, b""
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", page.port))
        self._by_fd[sock.fileno()] = page
        self._poll.register(sock.fileno(), select.EPOLLOUT)

    def _serve(self, timeout: float) -> None:
        for fd, event in self._poll.poll(timeout, 1024):
            page = self._by_fd.get(fd)
            if page is None or page.sock is None:
                continue
            try:
                if event & select.EPOLLOUT:
                    page.sock.send(self._request(page))
                    self._poll.modify(fd, select.EPOLLIN)
                else:
                    self._receive(page, page.sock)
            except OSError as exc:
                self._refused(page, exc.strerror or type(exc).__name__)

    @staticmethod
    def _request(page: _Page) -> bytes:
        return (
            f"GET /websockify HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: mks.v1, binary, mks.token.{page.token}\r\n\r\n"
        ).encode()

    def _receive(self, page: _Page, sock: socket.socket) -> None:
        data = sock.recv(65536)
        if not data:
            self._refused(page, "closed without a word")
            return
        page.received += data
        if not page.head:
            head, end, rest = page.received.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:16]:
                self._refused(page, head.partition(b"\r\n")[0].decode("latin-1"))
                return
            page.head, page.received = True, rest
            sock.send(ECHO_REQUEST)
        while (frame := first_frame(page.received)) is not None:
            opcode, payload, size = frame
            page.received = page.received[size:]
            if opcode == 2:
                self.back.append(time.monotonic())
                self._poll.unregister(sock.fileno())
                del self._by_fd[sock.fileno()]
                self._kept.append(page)
                return
            if opcode == 1:
                page.told = json.loads(payload).get("facts", {}).get("seconds", 0.0)
            if opcode == 8:
                self._refused(page, payload[2:].decode("utf-8", "replace") or "closed")
                return

    def _refused(self, page: _Page, why: str) -> None:
        self.read[why] += 1
        assert page.sock is not None
        self._poll.unregister(page.sock.fileno())
        del self._by_fd[page.sock.fileno()]
        page.sock.close()
        pause = page.told - random.random() if page.told else random.uniform(*_AGAIN)
        heapq.heappush(self._again, (time.monotonic() + pause, id(page), page))
        page.told = 0.0

    def alive(self) -> int:
        """How many of those that are back still have their console."""
        count = 0
        for page in self._kept:
            with contextlib.suppress(OSError):
                assert page.sock is not None
                page.sock.send(ECHO_REQUEST)
                count += 1
        return count


def _vsphere(stack: contextlib.ExitStack, host: Host, delay: float) -> SimulatedVSphere:
    command = [sys.executable, "-m", "benchmarks.vcenter", str(host.ports["tls"])]
    command += [str(host.certificate), str(_MACHINES), str(_VCENTERS), str(delay)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    stack.callback(stop, process)
    assert process.stdout is not None
    return SimulatedVSphere(json.loads(process.stdout.readline()), pid=process.pid)


def run(
    directory: Path, *, sessions: int, nodes: int, bound: int, delay: float, limit: float
) -> dict[str, Any]:
    """One storm; its figures."""
    directory.mkdir(parents=True, exist_ok=True)
    keys = KeyRepository(str(directory / "keys"))
    if not (directory / "keys").exists():
        keys.setup()
    codec = TokenCodec(keys, "storm")
    with contextlib.ExitStack() as stack:
        host = Host(directory)
        stack.callback(host.stop)
        vsphere = _vsphere(stack, host, delay)
        vcenters = {vcenter["name"]: 0 for vcenter in vsphere.vcenters}
        machines = [vm for vm in vsphere.vms if vm["power"] == "on"]
        chosen = list(itertools.islice(itertools.cycle(machines), sessions))
        for vm in chosen:
            vcenters[vm["vcenter"]] += 1

        def tokens() -> list[str]:
            return [
                codec.issue(
                    ConsoleRequest(
                        vm["uuid"],
                        user_id=f"user-{number % _USERS}",
                        project_id="storm",
                        mode="full",
                        vcenter=f"v{list(vcenters).index(vm['vcenter'])}",
                    ),
                    ttl=3600,
                ).token
                for number, vm in enumerate(chosen)
            ]

        doomed = _Node("doomed", directory, vsphere, calls=bound, sessions=sessions)
        stack.callback(stop, doomed.process)
        rest = [
            _Node(f"rest{number}", directory, vsphere, calls=bound // nodes, sessions=sessions)
            for number in range(nodes)
        ]
        for node in rest:
            stack.callback(stop, node.process)
        clients = IdleClients(doomed.port, lambda: None, 10)
        clients.open(iter(tokens()), rate=1000, at_once=64)
        held, fresh = clients.opened, tokens()
        pids = [node.process.pid for node in rest]
        cpu = cpu_seconds(pids)
        doomed.kill()
        storm = _Return(fresh, [node.port for node in rest])
        seconds = storm.run(limit)
        cpu = cpu_seconds(pids) - cpu
        return {
            "sessions": sessions,
            "held": held,
            "back": len(storm.back),
            "alive": storm.alive(),
            "seconds": seconds,
            "allowed": max(vcenters.values()) * delay / bound,
            "in_flight": {name: vsphere.calls(name)["max_in_flight"] for name in vcenters},
            "bound": bound,
            "cpu_ms": cpu / max(1, len(storm.back)) * 1e3,
            "read": dict(storm.read),
            "curve": storm.curve,
        }


def picture(result: dict[str, Any], title: str) -> str:
    """The curve, as an SVG: sessions that are back, and what the bound allows (dashed)."""
    width, height, left, bottom = 720, 320, 60, 40
    sessions, allowed = result["sessions"], result["allowed"]
    end = max(result["seconds"], allowed) * 1.05

    def at(seconds: float, count: float) -> str:
        x = left + seconds / end * (width - left - 20)
        return f"{x:.1f},{height - bottom - count / sessions * (height - bottom - 40):.1f}"

    curve = " ".join(at(*point) for point in result["curve"])
    zero, top = at(0, 0).split(","), at(end, sessions).split(",")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="20" font-size="13">{title}</text>',
        f'<path d="M{zero[0]} {top[1]}V{zero[1]}H{top[0]}" fill="none" stroke="#444"/>',
        f'<polyline points="{at(0, 0)} {at(allowed, sessions)} {at(end, sessions)}" fill="none" '
        f'stroke="#888" stroke-dasharray="5 4"/>',
        f'<polyline points="{curve}" fill="none" stroke="#0b62a4" stroke-width="2"/>',
        f'<text x="{left - 8}" y="{float(top[1]) + 4:.0f}" text-anchor="end">{sessions}</text>',
        f'<text x="{left - 8}" y="{zero[1]}" text-anchor="end">0</text>',
    ]
    step = max(1, round(end / 8))
    for second in range(0, int(end) + 1, step):
        x = at(second, 0).split(",")[0]
        lines.append(f'<text x="{x}" y="{height - 20}" text-anchor="middle">{second} s</text>')
    return "\n".join([*lines, "</svg>\n"])


def main() -> int:
    """Run it; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10000, help="fewer where files run out")
    parser.add_argument("--nodes", type=int, default=2, help="that are left (2)")
    parser.add_argument("--bound", type=int, default=8, help="calls to a vCenter at once (8)")
    parser.add_argument("--delay", type=float, default=0.05, help="of a vCenter, seconds (0.05)")
    parser.add_argument("--limit", type=float, default=600, help="seconds to wait (600)")
    parser.add_argument("--directory", type=Path, default=Path("var/storm"))
    parser.add_argument("--svg", type=Path, help="write the curve here")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sessions = min(args.sessions, (hard - _SPARE) // 2)
    result = run(
        args.directory.resolve(),
        sessions=sessions,
        nodes=args.nodes,
        bound=args.bound,
        delay=args.delay,
        limit=args.limit,
    )
    (args.directory / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, value in result.items():
        if name != "curve":
            print(f"{name:<10} {round(value, 2) if isinstance(value, float) else value}")
    ratio = result["seconds"] / result["allowed"]
    print(f"last back within {ratio:.2f}x of what the bound allows")
    if args.svg:
        title = (
            f"{sessions} sessions come back, the last after {result['seconds']:.1f} s; dashed: "
            f"{args.bound} calls of {args.delay * 1e3:.0f} ms to each of {_VCENTERS} vCenters"
        )
        args.svg.write_text(picture(result, title))
    kept = max(result["in_flight"].values()) <= args.bound
    return 0 if kept and result["alive"] == sessions else 1


if __name__ == "__main__":
    sys.exit(main())
