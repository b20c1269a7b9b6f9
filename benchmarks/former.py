"""The proxy of another commit as a peer: ``python -m benchmarks --against CHECKOUT``.

A process that imports everything from that checkout starts it, as the benchmarks there say, and
tells where it is. Both commits then get the same work in turns, from one load and one host.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer
from benchmarks.processes import stop

__all__ = ["Former", "former"]

_PATHS = ("", "/echo", "/stream")

_SERVE = """
import contextlib, json, sys, types
from pathlib import Path
from benchmarks import peers

order = json.loads(sys.argv[1])
host = types.SimpleNamespace(
    ports=order["ports"],
    certificate=Path(order["certificate"]),
    der=bytes.fromhex(order["der"]),
    process=types.SimpleNamespace(pid=order["pid"]),
)
directory = Path(order["directory"])
with contextlib.ExitStack() as stack:
    if order["link"] == "vCenter":
        peer = stack.enter_context(peers.TicketPeer.running(host, directory))
    else:
        peer = peers.Mksfilter(host, order["link"], directory)
        stack.callback(peer.stop)
        peer.start()
    targets = {path: peer.target(path) for path in order["paths"]}
    print(json.dumps({"pids": peer.pids, "hosts": peer.hosts, "targets": targets}), flush=True)
    sys.stdin.read()
"""


class Former(Peer):
    """This project at another commit.

    Its link may be ``vCenter`` too: one that asks a simulated vCenter for each ticket.

    :cvar checkout: of that commit.
    """

    name = "former"
    checkout: Path

    def start(self) -> None:
        """Start it.

        :raises RuntimeError: it does not.
        """
        order = {
            "link": self.link,
            "ports": self.host.ports,
            "certificate": str(self.host.certificate),
            "der": self.host.der.hex(),
            "pid": self.host.process.pid,
            "directory": str(self.directory),
            "paths": _PATHS,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, json.dumps(order)],
            cwd=self.checkout,
            env={**os.environ, "PYTHONPATH": str(self.checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("ab"),
            start_new_session=True,
        )
        self.processes = [process]
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(self.log.read_text()[-2000:])
        self._found: dict[str, Any] = json.loads(line)

    def target(self, path: str) -> dict[str, Any]:
        """See :class:`~benchmarks.peers.Peer`."""
        return self._found["targets"][path]  # type: ignore[no-any-return]

    @property
    def pids(self) -> list[int]:
        """Of its servers; the process that has started them is none."""
        return list(self._found["pids"])

    @property
    def hosts(self) -> list[int]:
        """See :class:`~benchmarks.peers.Peer`."""
        return list(self._found["hosts"])

    def stop(self) -> None:
        """End it with what it has started."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                stop(process)
        self.processes = []


def former(checkout: Path) -> type[Former]:
    """The class of the peer in *checkout*."""
    return type("Former", (Former,), {"checkout": checkout.resolve()})
