"""What processes cost: CPU time to the nanosecond, and memory that is theirs alone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

__all__ = [
    "cpu_seconds",
    "family",
    "pin",
    "pss",
    "rss",
    "spawn",
    "stop",
    "wait_for_port",
]

_TICK = os.sysconf("SC_CLK_TCK")


def family(pids: Iterable[int]) -> list[int]:
    """*pids* and all their descendants that are alive."""
    found: list[int] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [pid, *(child.pid for child in process.children(recursive=True))]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of a family, children that have ended included."""
    total = 0.0
    for pid in family(pids):
        with contextlib.suppress(OSError):
            # The CPU clock of another process (man 3 clock_getcpuclockid).
            total += time.clock_gettime((~pid << 3) | 2)
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[13]) + int(fields[14])) / _TICK
    return total


def pss(pids: Iterable[int]) -> int:
    """Proportional set size of a family, in kB: shared pages count in parts."""
    total = 0
    for pid in family(pids):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total


def rss(pids: Iterable[int]) -> int:
    """Resident set size of a family, in kB: shared pages count in each."""
    total = 0
    for pid in family(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).memory_info().rss // 1024
    return total


def pin(pids: Iterable[int], cpus: Iterable[int]) -> None:
    """Let a family, every thread of it, run on *cpus* only."""
    for pid in family(pids):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(int(thread.name), set(cpus))


def spawn(command: list[str], log: Path, **options: object) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, with its output in *log*."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when somebody listens on *port*."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen:\n{log.read_text()[-2000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program that :func:`spawn` started, and what it started."""
    pids = family([process.pid])
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
            break
