"""What the faults happen to: three nodes behind HAProxy as ``etc/haproxy`` has it, and the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import SimulatedVSphere
from mksfilter.simulator.client import start as simulated_vsphere
from tests.support.certificates import SelfSigned
from tests.support.ports import free_port
from tests.support.proxy import configuration, fetch
from tests.support.wire import Wire

__all__ = ["WORKERS", "Fleet", "Node", "fleet"]

#: Of each node.
WORKERS = 2

_EXAMPLE = Path(__file__).parents[2] / "etc" / "haproxy" / "haproxy.cfg"
_PATH = f"{os.environ['PATH']}:/usr/sbin"
_NODES = 3
_DISK = "64m"
_FAKETIME = (
    f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)


class Disk:
    """A file system of its own, for what a node writes. Needs root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(path)]
        subprocess.run(command, check=True)

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def clear(self) -> None:
        self._filler.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


class Node:
    """One machine of the proxy's: ``mksfilter serve`` with two workers.

    :param log_file: its log is a file on a disk of its own, and no pipe.
    :ivar directory: its configuration, its copy of the keys, its log and its temporary files.
    :ivar reader: of its log.
    :ivar log_disk: what its log is on, and ``audit_disk`` its audit file; None without *log_file*.
    """

    def __init__(
        self,
        directory: Path,
        keys: Path,
        vsphere: SimulatedVSphere,
        *,
        log_file: bool = False,
        **options: object,
    ) -> None:
        self.name = directory.name
        self.directory = directory
        directory.mkdir()
        self.keys = directory / "keys"
        shutil.copytree(keys, self.keys)
        self.port, self.management = free_port(), free_port()
        self.log_disk = Disk(directory / "logs") if log_file else None
        self.audit_disk = Disk(directory / "audits") if log_file else None
        self.log = directory / "logs" / "log" if log_file else directory / "log"
        self.audit = directory / "audits" / "audit" if log_file else directory / "audit"
        self._clock: Path | None = None
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.reader: psutil.Process | None = None
        self._groups: set[int] = set()
        self.options = {
            "key_repository": self.keys,
            "audience": "chaos",
            "trusted_proxies": "127.0.0.1/32",
            "management_bind": f"127.0.0.1:{self.management}",
            "max_sessions_per_instance": 0,
            "audit_file": self.audit,
            **options,
        }
        self.ca_file = directory / "ca.pem"
        shutil.copy(vsphere.vcenter["ca_file"], self.ca_file)
        self._vcenters = [
            dataclasses.replace(vsphere.vcenter_settings(index), ca_file=str(self.ca_file))
            for index in range(len(vsphere.vcenters))
        ]
        self.configure()
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, **options: object) -> None:
        """Write its configuration, with *options* of ``[mksfilter]`` changed."""
        self.config = configuration(self.directory, self._vcenters, **{**self.options, **options})

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "mksfilter", "serve", "--config-file", str(self.config)]
        with self._log_stream() as stream:
            self._process = subprocess.Popen(
                [*command, "--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={
                    **os.environ,
                    "TMPDIR": str(self.temporary),
                    "PYTHONUNBUFFERED": "1",
                    **self._faketime(),
                },
                start_new_session=True,
            )
        self._groups.add(self._process.pid)
        _wait_for_port(self.port, self._process, self.log)

    @contextlib.contextmanager
    def _log_stream(self) -> Iterator[IO[bytes]]:
        with self.log.open("ab") as log:
            if self.log_disk is not None:
                yield log
                return
            # A log is a pipe, as under systemd and in a container; somebody has to read it.
            reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        self.reader = psutil.Process(reader.pid)
        assert reader.stdin is not None
        with reader.stdin as pipe:
            yield pipe

    def _faketime(self) -> dict[str, str]:
        if self._clock is None:
            return {}
        library = next((path for path in _FAKETIME if os.path.exists(path)), None)
        assert library, "libfaketime is missing; run tools/install-test-tools"
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            # The time of day is what somebody sets; the times of files are the kernel's.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def start_with_own_clock(self) -> None:
        """Start it anew so that :meth:`set_clock` works.

        Not from the beginning: libfaketime has ``time.sleep`` fail now and then.
        """
        self.kill()
        self._clock = self.directory / "clock"
        self.set_clock(0)
        before = self.times_said("event=management-listening")
        self.start()
        # A worker that starts after its clock was set has never known another time.
        _wait_until(lambda: self.times_said("event=management-listening") == before + WORKERS)

    def set_clock(self, ahead: int) -> None:
        """Set the time of day, *ahead* seconds from everybody else's."""
        if self._clock is not None:
            replaced = self._clock.with_suffix(".new")
            replaced.write_text(f"{ahead:+d}\n")
            replaced.replace(self._clock)

    def metric(self, name: str) -> float:
        """The sum of a metric's values; 0 where there is none yet."""
        text = fetch(self.management, "/metrics").body.decode()
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))

    def has_said(self, text: str) -> bool:
        """Whether *text* is in its log."""
        return self.times_said(text) > 0

    def times_said(self, text: str) -> int:
        """How often *text* is in its log."""
        return self.log.read_text(errors="replace").count(text)

    @property
    def process(self) -> psutil.Process:
        """The master."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def settled(self) -> bool:
        """Its workers are there, and nobody is left of masters that were killed."""
        groups = {group for group in self._groups if group != self.process.pid}
        return len(self.workers) == WORKERS and not any(map(_is_alive, groups))

    @property
    def workers(self) -> list[psutil.Process]:
        return self.process.children()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait_until_ended(self, timeout: float) -> None:
        """:raises subprocess.TimeoutExpired: it has not ended."""
        assert self._process is not None
        self._process.wait(timeout)

    def kill(self) -> None:
        """The machine loses its power, as far as processes can."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def dispose(self) -> None:
        """Kill it, and give its disks back."""
        self.kill()
        for disk in (self.log_disk, self.audit_disk):
            if disk is not None:
                disk.unmount()


class Fleet:
    """Nodes, balancer, cache, vCenters.

    :ivar port: where browsers connect, by TLS; ``context`` is what they trust.
    :ivar wire: between HAProxy and the last node.
    """

    def __init__(
        self, directory: Path, vsphere: SimulatedVSphere, consoles: int, **options: object
    ) -> None:
        self.directory = directory
        self.vsphere = vsphere
        self._numbers = itertools.count(1)
        self.machines = itertools.cycle(
            [vm["uuid"] for vm in vsphere.vms if vm["power"] == "on"][:consoles]
        )
        self.keys = directory / "keys"
        repository = KeyRepository(str(self.keys))
        repository.setup()
        self._codec = TokenCodec(repository, "chaos")
        self.memcached_port = free_port()
        self._memcached: subprocess.Popen[bytes] | None = None
        self.nodes = [
            Node(
                directory / f"node{number}",
                self.keys,
                vsphere,
                replay_cache=f"memcached://127.0.0.1:{self.memcached_port}",
                log_file=number == _NODES,
                **options,
            )
            for number in range(1, _NODES + 1)
        ]
        self.certificate = SelfSigned(directory)
        self.context = ssl.create_default_context(
            cadata=ssl.DER_cert_to_PEM_cert(self.certificate.der)
        )
        self.port = free_port()
        self._haproxy: subprocess.Popen[bytes] | None = None

    def token(self) -> str:
        """A link's, for the next machine."""
        user = f"user-{next(self._numbers)}"
        request = ConsoleRequest(next(self.machines), user_id=user, mode="full")
        return self._codec.issue(request, ttl=300).token

    def start(self) -> None:
        self.start_memcached()
        for node in self.nodes:
            node.start()
        self.wire = Wire(self.nodes[-1].port)
        self._start_haproxy()

    def stop(self) -> None:
        for node in self.nodes:
            node.dispose()
        for process in (self._haproxy, self._memcached):
            if process is not None:
                process.kill()
                process.wait()

    def start_memcached(self) -> None:
        port = str(self.memcached_port)
        program = _program("memcached")
        command = [program, "-u", "root", "-l", "127.0.0.1", "-p", port, "-U", "0"]
        log = self.directory / "memcached.log"
        with log.open("ab") as stream:
            self._memcached = subprocess.Popen(command, stdout=stream, stderr=stream)
        _wait_for_port(self.memcached_port, self._memcached, log)

    def stop_memcached(self) -> None:
        assert self._memcached is not None
        self._memcached.kill()
        self._memcached.wait()

    def copy_keys(self, *nodes: Node) -> None:
        """What an operator's ``rsync`` does, to all nodes unless some are named."""
        for node in nodes or self.nodes:
            for path in self.keys.iterdir():
                copy = node.keys / f".{path.name}.new"
                shutil.copy2(path, copy)
                copy.replace(node.keys / path.name)
            for path in set(node.keys.iterdir()):
                if not (self.keys / path.name).exists():
                    path.unlink()

    def _servers(self, example: re.Match[str]) -> str:
        """Our nodes in the place of the example's."""
        lines = []
        for number, node in enumerate(self.nodes, 1):
            port = self.wire.port if node is self.nodes[-1] else node.port
            check = f"check port {node.management}" if "check port" in example[0] else "check"
            lines.append(f"    server proxy{number} 127.0.0.1:{port} {check} inter 2s\n")
        return "".join(lines)

    def _start_haproxy(self) -> None:
        text = _EXAMPLE.read_text()
        text = text.replace("/etc/haproxy/console.pem", str(self.certificate.pem))
        text = text.replace("maxconn 20000", "maxconn 5000")
        text = text.replace("log /dev/log", "log stderr format raw")
        text = text.replace("bind :443", f"bind 127.0.0.1:{self.port}")
        text, replaced = re.subn(r"(?:    server proxy\d .*\n)+", self._servers, text)
        assert replaced == 2
        path = self.directory / "haproxy.cfg"
        path.write_text(text)
        log = self.directory / "haproxy.log"
        with log.open("wb") as stream:
            command = [_program("haproxy"), "-db", "-f", str(path)]
            self._haproxy = subprocess.Popen(command, stdout=stream, stderr=stream)
        _wait_for_port(self.port, self._haproxy, log)


def _is_alive(group: int) -> bool:
    """Whether a process group has a process that is no zombie's."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    assert found, f"{name} is missing; run tools/install-test-tools"
    return found


def _wait_for_port(
    port: int, process: subprocess.Popen[bytes], log: Path, timeout: float = 60.0
) -> None:
    """Return when somebody listens on a port of 127.0.0.1."""
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"{process.args!r} does not listen:\n{log.read_text()}")


def _wait_until(true: Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def fleet(directory: Path, consoles: int, **options: object) -> Iterator[Fleet]:
    """A running fleet, for as long as the context lasts.

    :param consoles: how many machines there are to look at.
    :param options: of ``[mksfilter]`` of each node.
    """
    with simulated_vsphere("--vcenters", "2", "--vms", str(consoles)) as vsphere:
        made = Fleet(directory, vsphere, consoles, **options)
        try:
            made.start()
            yield made
        finally:
            made.stop()
