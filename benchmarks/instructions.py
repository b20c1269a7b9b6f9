"""Instructions, counted by callgrind: ``python -m benchmarks.instructions``.

The same on a busy machine as on a quiet one, which no clock is: what tells whether a change to a
hot path is one. The kernel's are not in it, and valgrind shows OpenSSL a processor without
instructions for AES and SHA: compare cryptography with itself only. Each piece of work runs so many
times and twice as many in processes of its own; the difference is the work's.

Beside each figure stands the one that is kept in ``benchmarks/instructions.json`` with the date and
commit of its measurement; what has grown by more than 5 % is said. ``--keep`` keeps today's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.console_host import ECHO_ANSWER, ECHO_REQUEST, STREAM_FRAME
from benchmarks.load import Target, close, echo
from benchmarks.opening import PARTS, import_parts, surroundings
from benchmarks.peers import Host, Mksfilter, Peer, TicketPeer
from benchmarks.processes import family, spawn

__all__ = ["main", "report"]

_KEPT = Path(__file__).with_suffix(".json")
_TIMES = {"key": 2000, "frames": 2000, "token": 500}
_TIMES_OTHERWISE = 100
_OPENINGS = 90
# A hundred million instructions of a worker's start come once or not, a million for each opening.
_ROUNDS = 3
# Growth that nothing is said of.
_TOLERANCE = 0.05
# Seconds in which a worker under callgrind has imported everything.
_STARTS_WITHIN = 900.0


def _relay() -> tuple[Callable[[], None], socket.socket, socket.socket]:
    import gevent

    from mksfilter.proxy.console import control_channel
    from mksfilter.proxy.relay.driver import Relay, RelayOptions
    from mksfilter.proxy.relay.transport import PlainTransport, Upstream

    ends = [socket.socketpair() for _ in range(2)]
    browser, client = ends[0]
    host, upstream = ends[1]
    relay = Relay(
        PlainTransport(client),
        Upstream(PlainTransport(upstream), b"", "websocket"),
        options=RelayOptions(rfb_handshake="full", end_message=control_channel.end),
        on_end=lambda *_: None,
    )
    relay.start()
    loop = gevent.get_hub().loop

    def turn() -> None:
        loop.run(nowait=True, once=True)

    return turn, browser, host


def _key(_where: dict[str, Any]) -> Callable[[], object]:
    """A key press to the host and its answer, the two ends' own calls included."""
    turn, browser, host = _relay()
    buffer = bytearray(100)

    def press() -> None:
        for source, sink, data in ((browser, host, ECHO_REQUEST), (host, browser, ECHO_ANSWER)):
            source.send(data)
            turn()
            assert sink.recv_into(buffer) == len(data)

    return press


def _frames(_where: dict[str, Any]) -> Callable[[], object]:
    """The headers in 256 KiB of a stream."""
    from mksfilter.proxy.relay.frames import FrameTracker

    tracker = FrameTracker(masked=False)
    data = (STREAM_FRAME * 17)[: 256 * 1024]
    return lambda: tracker.feed(data, len(STREAM_FRAME) * 15)


_WORKS = {"key": _key, "frames": _frames}


def _callgrind(command: Sequence[str], out: Path) -> list[str]:
    """*command*, counted; each of its processes leaves what it has counted in *out*.<pid>."""
    tool = ("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}.%p")
    return [*tool, *command]


def _counted(file: Path) -> int:
    text = file.read_text()
    total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    assert total is not None, text[-500:]
    return int(total[1])


def _parts(names: Sequence[str], where: dict[str, Any], out: Path) -> Iterator[tuple[str, float]]:
    """Instructions of one repetition of each.

    One process imports everything, which takes callgrind half a minute. Each count is a fork of it.
    """
    log = out.with_suffix(".log")
    order = json.dumps([names, where])
    run = [sys.executable, "-m", "benchmarks.instructions", "--run", order]
    process = subprocess.Popen(
        _callgrind(run, out),
        stdout=subprocess.PIPE,
        stderr=log.open("ab"),
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        name, times, once, twice = json.loads(line)
        counts = [_counted(Path(f"{out}.{pid}")) for pid in (once, twice)]
        yield name, (counts[1] - counts[0]) / times
    if process.wait():
        raise RuntimeError(log.read_text()[-2000:])


def _under_callgrind(kind: type[Mksfilter]) -> type[Mksfilter]:
    """A node of *kind* whose worker is counted."""

    class Counted(kind):  # type: ignore[valid-type, misc]
        name = f"{kind.name}-counted"

        def _run(self, command: list[str], port: int = 0, **options: object) -> None:
            # gunicorn must not take a worker that imports for one that hangs.
            command = _callgrind([*command, "--timeout", "0"], self.directory / "count")
            options.setdefault("env", {**os.environ, "PYTHONHASHSEED": "0"})
            self.processes.append(spawn(command, self.log, **options))

    return Counted


def _open(peer: Peer, times: int, seconds: float = 0.0) -> tuple[int, float]:
    """Instructions of a worker that starts, serves so many sessions and ends, and how long it has
    served.

    :param seconds: for which it serves at least.
    """
    peer.start()
    try:
        _wait_until_it_answers(peer)
        (worker,) = set(family(peer.pids)) - set(peer.pids)
        target = Target(**peer.target("/echo"))
        began = time.monotonic()
        for _ in range(times):
            sock = target.connect()
            if isinstance(peer, TicketPeer):
                assert sock.recv(1)
            else:
                echo(sock)
            close(sock)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        took = time.monotonic() - began
        peer.processes[0].send_signal(signal.SIGTERM)
        peer.processes[0].wait(120)
        return _counted(peer.directory / f"count.{worker}"), took
    finally:
        peer.stop()


def _opening(peer: Peer) -> float:
    """Instructions of a worker for one session, from its request to its end."""
    peer.stop()
    found = []
    for _ in range(_ROUNDS):
        # What a worker does every second is not the sessions': both serve as long.
        all_of_them, seconds = _open(peer, _OPENINGS)
        few, _ = _open(peer, _OPENINGS // 6, seconds)
        found.append((all_of_them - few) / (_OPENINGS - _OPENINGS // 6))
    return statistics.median(found)


def _wait_until_it_answers(peer: Peer) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{peer.port}/healthz"
            with urllib.request.urlopen(url, timeout=_STARTS_WITHIN):
                return
        time.sleep(0.2)
    raise RuntimeError(peer.log.read_text()[-2000:])


def _openings(directory: Path, only: str) -> Iterator[tuple[str, float]]:
    """A whole session in a worker of gunicorn's."""
    sealed, asked = "opening, ticket in the token", "opening, ticket from vCenter"
    host = Host(directory)
    try:
        if only in sealed:
            yield sealed, _opening(_under_callgrind(Mksfilter)(host, "tls", directory))
        if only in asked:
            with _under_callgrind(TicketPeer).running(host, directory) as peer:  # type: ignore[attr-defined]
                yield asked, _opening(peer)
    finally:
        host.stop()


def figures(only: str = "") -> Iterator[tuple[str, float]]:
    """Name and instructions of each piece of work with *only* in its name."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for number, works in enumerate((_WORKS, PARTS)):
            names = [name for name in works if only in name]
            if names:
                with surroundings(directory) as where:
                    yield from _parts(names, where, directory / f"count{number}")
        if only in "opening, ticket in the token" or only in "opening, ticket from vCenter":
            yield from _openings(directory, only)


def _run(names: Sequence[str], where: dict[str, Any]) -> None:
    """Do each work once, so many times and twice as many, in a process of its own each time."""
    if names[0] in PARTS:
        from gevent import monkey

        monkey.patch_all()
        import_parts()
    for name in names:
        times = _TIMES.get(name, _TIMES_OTHERWISE)
        pids = []
        for number in (1, times, 2 * times):
            pid = os.fork()
            if not pid:
                work = {**_WORKS, **PARTS}[name](where)
                for _ in range(number):
                    work()
                os._exit(0)
            if os.waitpid(pid, 0)[1]:
                raise SystemExit(f"{name} fails")
            pids.append(pid)
        print(json.dumps([name, times, *pids[1:]]), flush=True)


def _line(name: str, each: float, kept: dict[str, Any] | None) -> str:
    line = f"{name:<30} {each:>12,.0f} instructions"
    if kept is None:
        return line
    growth = each / kept["instructions"] - 1
    line += f"  {growth:+7.1%} since {kept['date']} ({kept['commit']})"
    return line + ("  GROWN" if growth > _TOLERANCE else "")


def report(only: str = "", *, keep: bool = False) -> dict[str, float]:
    """Print each count beside the one that is kept, and return them; nothing without valgrind.

    :param keep: these are to be compared with from now on.
    """
    if shutil.which("valgrind") is None:
        print("instructions are not counted: no valgrind (the Debian package of that name)")
        return {}
    kept = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
    found: dict[str, float] = {}
    for name, each in figures(only):
        print(_line(name, each, kept.get(name)), flush=True)
        found[name] = each
    if keep:
        when, commit = time.strftime("%Y-%m-%d"), _commit()
        for name, each in found.items():
            kept[name] = {"instructions": round(each), "date": when, "commit": commit}
        _KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    return found


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> int:
    """Print the counts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="works with TEXT in their names")
    parser.add_argument("--keep", action="store_true", help="keep these figures to compare with")
    parser.add_argument("--run", metavar="ORDER", help="for callgrind")
    args = parser.parse_args()
    if args.run:
        _run(*json.loads(args.run))
        return 0
    return 0 if report(args.only, keep=args.keep) else 1


if __name__ == "__main__":
    sys.exit(main())
