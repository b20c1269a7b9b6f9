"""Instructions, counted by callgrind: ``python -m benchmarks.instructions``.

The same on a busy machine as on a quiet one, which no clock is: what tells whether a change to a
hot path is one. The kernel's are not in it. (Of what uses OpenSSL it would tell little: valgrind
shows it a processor without instructions for AES and SHA.) Each piece of work runs so many times
and twice as many in a process of its own; the difference is the work's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable

from benchmarks.console_host import ECHO_ANSWER, ECHO_REQUEST, STREAM_FRAME

_TIMES = 2000


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


def _key() -> Callable[[], object]:
    """A key press to the host and its answer, the two ends' own calls included."""
    turn, browser, host = _relay()
    buffer = bytearray(100)

    def press() -> None:
        for source, sink, data in ((browser, host, ECHO_REQUEST), (host, browser, ECHO_ANSWER)):
            source.send(data)
            turn()
            assert sink.recv_into(buffer) == len(data)

    return press


def _frames() -> Callable[[], object]:
    """The headers in 256 KiB of a stream."""
    from mksfilter.proxy.relay.frames import FrameTracker

    tracker = FrameTracker(masked=False)
    data = (STREAM_FRAME * 17)[: 256 * 1024]
    return lambda: tracker.feed(data, len(STREAM_FRAME) * 15)


_WORKS = {"key": _key, "frames": _frames}


def _count(name: str, times: int) -> int:
    done = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, "-m", "benchmarks.instructions", "--run", name, str(times)),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"},
    )
    collected = re.search(r"Collected : (\d+)", done.stderr)
    assert collected is not None, done.stderr
    return int(collected[1])


def main() -> int:
    """Print the counts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--run", nargs=2, metavar=("WORK", "TIMES"), help="what callgrind watches")
    args = parser.parse_args()
    if args.run:
        work = _WORKS[args.run[0]]()
        for _ in range(int(args.run[1])):
            work()
        return 0
    if shutil.which("valgrind") is None:
        parser.error("needs valgrind (the Debian package of that name)")
    for name in _WORKS:
        _count(name, 1)  # whoever comes first compiles
        each = (_count(name, 2 * _TIMES) - _count(name, _TIMES)) / _TIMES
        print(f"{name:<8} {each:>12,.0f} instructions", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
