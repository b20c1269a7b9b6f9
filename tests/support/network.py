"""Two machines with a cable between them: network namespaces, and ways to cut them off.

A thread is on one of the machines at a time; what it starts and the sockets that it makes are
there too, and stay there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

__all__ = ["FAR", "NEAR", "Network", "network"]

#: The addresses of the two machines.
NEAR, FAR = "10.231.0.1", "10.231.0.2"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """Machines ``near`` and ``far``."""

    def __init__(self, near: str, far: str) -> None:
        self._names = {"near": near, "far": far}

    @contextlib.contextmanager
    def on(self, machine: str) -> Iterator[None]:
        """Be on *machine*, ``near`` or ``far``, for as long as the context lasts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self._names[machine]}", os.O_RDONLY)
        try:
            _enter(there)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(there)
            os.close(before)

    def lose_power(self) -> None:
        """The far machine's network card is dead: nobody answers for its address."""
        _ip("-n", self._names["far"], "link", "set", "cable", "down")

    def lose_route(self) -> None:
        """Nothing that the far machine sends arrives any more, and nobody says so."""
        _ip("-n", self._names["far"], "route", "add", "blackhole", f"{NEAR}/32")

    def restore(self) -> None:
        """The far machine is reachable again."""
        _ip("-n", self._names["far"], "link", "set", "cable", "up")
        _ip("-n", self._names["far"], "route", "flush", "type", "blackhole")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Two machines, for as long as the context lasts; needs root."""
    made = Network(f"mks-near-{os.getpid()}", f"mks-far-{os.getpid()}")
    near, far = made._names.values()
    with contextlib.ExitStack() as stack:
        for name in (near, far):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        cable = ("type", "veth", "peer", "name", "cable", "netns", far)
        _ip("-n", near, "link", "add", "cable", *cable)
        for name, address in ((near, NEAR), (far, FAR)):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
        yield made


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}; is this root?"


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
