"""The browsers' side of the benchmark: ``python -m benchmarks.load '{"work": ...}'``.

A process of its own, so that what it costs is not the relay's. It reads the CPU clocks of the
relay's processes itself, at the moments that matter, and prints one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.console_host import ECHO_ANSWER, ECHO_REQUEST
from benchmarks.processes import cpu_seconds, pin, pss

_BUFFER = bytearray(1 << 20)


class Target:
    """Where to connect, and with which request."""

    def __init__(self, port: int, path: str, tls: bool = False) -> None:
        self.port = port
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n"
        ).encode()

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context:
            sock = self._context.wrap_socket(sock)
        sock.sendall(self._request)
        response = b""
        while not response.endswith(b"\r\n\r\n"):
            # TLS has no peeking; a byte at a time, it costs the load alone.
            data = sock.recv(1)
            if not data:
                raise ConnectionError(f"closed during the handshake: {response!r}")
            response += data
        if b" 101 " not in response[:20]:
            raise ConnectionError(f"not upgraded: {response[:200]!r}")
        return sock


def echo(sock: socket.socket) -> None:
    """One key press, and its answer."""
    sock.sendall(ECHO_REQUEST)
    missing = len(ECHO_ANSWER)
    while missing:
        data = sock.recv(missing)
        if not data:
            raise ConnectionError("closed instead of an echo")
        missing -= len(data)


def leave(sock: socket.socket) -> None:
    """Say goodbye, as a browser does first."""
    with contextlib.suppress(OSError):
        sock.sendall(b"\x88\x80\x00\x00\x00\x00")


def close(sock: socket.socket, *, left: bool = False) -> None:
    """Leave as a browser does; ``left``: :func:`leave` was called."""
    if not left:
        leave(sock)
    with contextlib.suppress(OSError):
        sock.settimeout(3)
        while sock.recv(65536):
            pass
    sock.close()


def percentiles(times: list[float]) -> dict[str, float]:
    """p50 and p99 in microseconds."""
    cuts = statistics.quantiles(times, n=100)
    return {"p50_us": cuts[49] * 1e6, "p99_us": cuts[98] * 1e6}


def bulk(target: Target, pids: list[int], *, streams: int, size: int) -> dict[str, float]:
    """Read *size* bytes in all from so many streams."""
    socks = [target.connect() for _ in range(streams)]
    poll = select.epoll()
    for sock in socks:
        sock.setblocking(False)
        poll.register(sock.fileno(), select.EPOLLIN)
    by_fd = {sock.fileno(): sock for sock in socks}
    counts = dict.fromkeys(by_fd, 0)

    def read(until: int) -> None:
        total = 0
        while total < until:
            for fd, _ in poll.poll(20) or stalled():
                sock = by_fd[fd]
                with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                    while True:
                        got = sock.recv_into(_BUFFER)
                        if not got:
                            raise ConnectionError("the stream ended")
                        total += got
                        counts[fd] += got
                        # A record that TLS holds already would wake nobody.
                        if not isinstance(sock, ssl.SSLSocket):
                            break

    def stalled() -> Iterator[tuple[int, int]]:
        raise ConnectionError("the stream stalls")

    read(max(size // 8, 1 << 24))  # socket buffers grow to their size first
    counts.update(dict.fromkeys(counts, 0))
    started, before = time.perf_counter(), cpu_seconds(pids)
    read(size)
    wall, cpu = time.perf_counter() - started, cpu_seconds(pids) - before
    for sock in socks:
        sock.close()
    return {
        "mb_per_s": size / wall / 1e6,
        "cpu_s_per_gib": cpu / size * (1 << 30),
        "fairness": min(counts.values()) / max(counts.values()),
    }


def keystroke(target: Target, pids: list[int], *, count: int, cpu: int | None) -> dict[str, float]:
    """One key after the other; everything on one core, or wherever the kernel puts it."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    with target.connect() as sock:
        for _ in range(min(count, 300)):
            echo(sock)
        times = []
        before = cpu_seconds(pids)
        for _ in range(count):
            started = time.perf_counter()
            echo(sock)
            times.append(time.perf_counter() - started)
        cost = cpu_seconds(pids) - before
        close(sock)
    return {**percentiles(times), "cpu_us": cost / count * 1e6}


def beside(target: Target, stream: Target, *, seconds: float) -> dict[str, float]:
    """Keys at 100 Hz while another session streams as fast as it can."""
    reader = os.fork()
    if not reader:
        try:
            with stream.connect() as sock:
                while sock.recv_into(_BUFFER):
                    pass
        finally:
            os._exit(0)
    try:
        time.sleep(0.5)
        times = []
        with target.connect() as sock:
            end = time.monotonic() + seconds
            sock.settimeout(30)
            while time.monotonic() < end:
                started = time.perf_counter()
                echo(sock)
                times.append(time.perf_counter() - started)
                time.sleep(0.01)
            close(sock)
    finally:
        os.kill(reader, 9)
        os.waitpid(reader, 0)
    return percentiles(times)


def beside_held(target: Target, *, sessions: int, rate: float, seconds: float) -> dict[str, float]:
    """Keys of one session at *rate*, while *sessions* others are open and answer pings.

    Paced, and for longer than anything that a relay does now and then takes to come round.
    """
    ready, told = os.pipe()
    holder = os.fork()
    if not holder:
        try:
            _hold(target, sessions, told)
        finally:
            os._exit(0)
    try:
        assert os.read(ready, 1) == b"x", "not all sessions could be opened"
        with target.connect() as sock:
            for _ in range(300):
                echo(sock)
            times = []
            due = time.perf_counter()
            end = due + seconds
            while due < end:
                due += 1 / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                started = time.perf_counter()
                echo(sock)
                times.append(time.perf_counter() - started)
            close(sock)
    finally:
        os.close(told)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        os.close(ready)
    return percentiles(times)


def _hold(target: Target, sessions: int, told: int) -> None:
    """Open them, say so, and answer their pings until the end."""
    poll = select.epoll()
    held: dict[int, socket.socket] = {}
    for _ in range(sessions):
        sock = target.connect()
        echo(sock)
        held[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    os.write(told, b"x")
    while True:
        for fd, _ in poll.poll():
            data = held[fd].recv(4096)
            if not data:
                poll.unregister(fd)
            elif data[0] == 0x89:
                payload = data[2 : 2 + data[1]]
                held[fd].send(b"\x8a" + bytes([0x80 | len(payload), 0, 0, 0, 0]) + payload)


def typists(
    target: Target, pids: list[int], *, sessions: int, rate: float, seconds: float
) -> dict[str, float]:
    """Many sessions, each with its keys at *rate*."""
    socks = [target.connect() for _ in range(sessions)]
    poll = select.epoll()
    by_fd = {sock.fileno(): sock for sock in socks}
    sent: dict[int, float] = {}
    for sock in socks:
        echo(sock)
        poll.register(sock.fileno(), select.EPOLLIN)
    start = time.perf_counter()
    due = [(start + index / sessions / rate, sock.fileno()) for index, sock in enumerate(socks)]
    times: list[float] = []
    before = cpu_seconds(pids)
    position = 0
    while True:
        now = time.perf_counter()
        if now - start > seconds:
            break
        while due[position][0] <= now:
            at, fd = due[position]
            by_fd[fd].send(ECHO_REQUEST)
            sent[fd] = now
            due[position] = (at + 1 / rate, fd)
            position = (position + 1) % sessions
        for fd, _ in poll.poll(max(0.0, due[position][0] - time.perf_counter())):
            with contextlib.suppress(ssl.SSLWantReadError):
                by_fd[fd].recv(4096)
            times.append(time.perf_counter() - sent[fd])
    cost = cpu_seconds(pids) - before
    for sock in socks:
        sock.close()
    return {**percentiles(times), "cpu_us": cost / len(times) * 1e6}


def connects(
    target: Target,
    pids: list[int],
    *,
    count: int,
    users: int = 1,
    cpu: int | None = None,
    greeting: int = 0,
) -> dict[str, float]:
    """Open a session, see that it works, leave, and once more, by so many *users* at a time.

    :param greeting: the first message has so many bytes and comes unasked; 0: an echo.
    """

    def one() -> None:
        sock = target.connect()
        if greeting:
            assert sock.recv(greeting)
        else:
            echo(sock)
        close(sock)

    with ThreadPoolExecutor(users) as pool:
        list(pool.map(lambda _: one(), range(max(10, 2 * users))))
        started, before = time.perf_counter(), cpu_seconds(pids)
        list(pool.map(lambda _: one(), range(count)))
        wall, cost = time.perf_counter() - started, cpu_seconds(pids) - before
    return {"per_s": count / wall, "cpu_us": cost / count * 1e6, "per_cpu_s": count / cost}


def idle(
    target: Target,
    pids: list[int],
    *,
    sessions: int,
    cycles: int,
    rest: float = 3.5,
    at_once: bool = False,
) -> dict[str, Any]:
    """Memory of sessions that have worked once and wait, and what is left when they are gone.

    :param rest: seconds after which it is looked at.
    :param at_once: they leave in one moment, not one after the other.
    """
    for _ in range(20):
        sock = target.connect()
        echo(sock)
        close(sock)
    time.sleep(0.5)
    base = pss(pids)
    result: dict[str, Any] = {"base_kb": base}
    left = []
    for cycle in range(cycles):
        socks = []
        for _ in range(sessions):
            socks.append(target.connect())
            echo(socks[-1])
        time.sleep(1.5)
        if not cycle:
            result["pss_kb"] = (pss(pids) - base) / sessions
        for sock in socks:
            echo(sock)  # none was lost
        if at_once:
            for sock in socks:
                leave(sock)
        for sock in socks:
            close(sock, left=at_once)
        time.sleep(rest)
        left.append((pss(pids) - base) / 1024)
    result["left_first_mb"], result["left_last_mb"] = left[0], left[-1]
    result["left_mb"] = left
    return result


def stalled_reader(target: Target, pids: list[int]) -> dict[str, float]:
    """A browser that stops reading in the middle of a stream."""
    # Once around, so that buffers which all sessions share are there.
    with target.connect() as sock:
        for _ in range(200):
            sock.recv_into(_BUFFER)
    time.sleep(0.5)
    base = pss(pids)
    with target.connect() as sock:
        for _ in range(50):
            sock.recv_into(_BUFFER)
        time.sleep(2)
        return {"growth_kb": pss(pids) - base}


def main() -> None:
    order: dict[str, Any] = json.loads(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target = Target(**order["target"])
    stream = order.get("stream")
    pids = order["pids"]
    options = order.get("options", {})
    work = order["work"]
    cpu = options.get("cpu")
    if cpu is not None:
        pin([*pids, *order["hosts"]], [cpu])
    try:
        if work == "bulk":
            result = bulk(target, pids, **options)
        elif work == "keystroke":
            result = keystroke(target, pids, **options)
        elif work == "beside":
            assert stream is not None
            result = beside(target, Target(**stream), **options)
        elif work == "held":
            result = beside_held(target, **options)
        elif work == "typists":
            result = typists(target, pids, **options)
        elif work == "connects":
            result = connects(target, pids, **options)
        elif work == "idle":
            result = idle(target, pids, **options)
        else:
            result = stalled_reader(target, pids)
    finally:
        if cpu is not None:
            pin([*pids, *order["hosts"]], range(os.cpu_count() or 1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
