"""Debian machines with a real systemd, each in a network namespace of its own, on one wire.

A machine is systemd-nspawn on a copy-on-write view of one directory, which debootstrap fills once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.source import ROOT

__all__ = ["Machine", "Wire", "base", "wire"]

_BASE = ROOT / "var" / "debian-node"
_SUITE = "bookworm"
_PACKAGES = (
    "ca-certificates",
    "curl",
    "openssh-server",
    "openssh-client",
    "python3",
    "python3-venv",
    "rsync",
    "systemd",
    "systemd-sysv",
)
_NETWORK = "10.231.0"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _run(*command: object, timeout: float = 60) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def base() -> Path:
    """The directory that all machines begin with."""
    if not (_BASE / ".complete").exists():
        shutil.rmtree(_BASE, ignore_errors=True)
        _BASE.parent.mkdir(exist_ok=True)
        included = f"--include={','.join(_PACKAGES)}"
        _run("debootstrap", "--variant=minbase", included, _SUITE, _BASE, timeout=900)
        # One key for all: whoever is root here is root there.
        (_BASE / "root" / ".ssh").mkdir(mode=0o700, exist_ok=True)
        key = _BASE / "root" / ".ssh" / "id_ed25519"
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        shutil.copy(key.with_suffix(".pub"), key.with_name("authorized_keys"))
        key.with_name("config").write_text("StrictHostKeyChecking no\nLogLevel ERROR\n")
        (_BASE / ".complete").touch()
    return _BASE


class Wire:
    """A network namespace with a bridge, to which machines are attached.

    :ivar namespace: its name for ``ip netns``; the far end of the wire is ``10.231.0.1``.
    """

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.namespace = self._namespace("wire")
        self.machines: dict[str, Machine] = {}
        ip = ("ip", "-n", self.namespace)
        _run(*ip, "link", "add", "wire", "type", "bridge")
        _run(*ip, "address", "add", f"{_NETWORK}.1/24", "dev", "wire")
        _run(*ip, "link", "set", "wire", "up")
        _run(*ip, "link", "set", "lo", "up")

    def _namespace(self, name: str) -> str:
        name = f"mks-{os.getpid()}-{name}"
        _run("ip", "netns", "add", name)
        self._stack.callback(_run, "ip", "netns", "delete", name)
        return name

    def start(self, names: Mapping[str, int], *binds: str) -> None:
        """Start a machine for each name, at this address of the network.

        :param binds: what all of them see read-only, as systemd-nspawn's ``--bind-ro`` has it.
        """
        hosts = "127.0.0.1 localhost\n" + "".join(
            f"{_NETWORK}.{number} {name}\n" for name, number in names.items()
        )
        for name, number in names.items():
            namespace = self._namespace(name)
            ip = ("ip", "-n", namespace)
            port = f"port{number}"
            peer = ("peer", "name", "host0", "netns", namespace)
            _run("ip", "-n", self.namespace, "link", "add", port, "type", "veth", *peer)
            _run("ip", "-n", self.namespace, "link", "set", port, "master", "wire", "up")
            _run(*ip, "address", "add", f"{_NETWORK}.{number}/24", "dev", "host0")
            _run(*ip, "link", "set", "host0", "up")
            _run(*ip, "link", "set", "lo", "up")
            root = self._overlay(name)
            (root / "etc" / "hostname").write_text(f"{name}\n")
            (root / "etc" / "hosts").write_text(hosts)
            machine = Machine(name, root, namespace, binds)
            self._stack.callback(machine.stop)
            self.machines[name] = machine
        for machine in self.machines.values():
            machine.wait_until_up()

    def _overlay(self, name: str) -> Path:
        parts = {part: self._directory / name / part for part in ("upper", "work", "root")}
        for part in parts.values():
            part.mkdir(parents=True)
        options = f"lowerdir={base()},upperdir={parts['upper']},workdir={parts['work']}"
        _run("mount", "-t", "overlay", "overlay", "-o", options, parts["root"])
        self._stack.callback(_run, "umount", "--lazy", parts["root"])
        return parts["root"]


class Machine:
    """One of them.

    :ivar root: its file system.
    """

    def __init__(self, name: str, root: Path, namespace: str, binds: tuple[str, ...]) -> None:
        self.name = name
        self.root = root
        self._console = (root.parent / "console").open("wb")
        self._nspawn = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"),
                *("--console=pipe", f"--machine={namespace}", f"--directory={root}"),
                f"--network-namespace-path=/run/netns/{namespace}",
                *(f"--bind-ro={bind}" for bind in binds),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=self._console,
        )

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 120
        state = ""
        # degraded: a unit of Debian's own has failed, which is none of the tests' business.
        while state not in ("running", "degraded"):
            assert self._nspawn.poll() is None, self._said()
            assert time.monotonic() < deadline, f"{state}; {self._said()}"
            time.sleep(0.2)
            state = self.run("systemctl is-system-running || true", check=False).strip()

    def run(self, command: str, *, check: bool = True, timeout: float = 300) -> str:
        """What *command* says, which root's shell on this machine runs."""
        leader = self._leader()
        if not leader:
            assert not check, self._said()
            return ""
        done = subprocess.run(
            [
                "nsenter",
                f"--target={leader}",
                "--all",
                "--root",
                "env",
                "-C/",
                "bash",
                "-c",
                command,
            ],
            env={"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        said = done.stdout
        assert not check or done.returncode == 0, f"{self.name}# {command}\n{said}"
        return said

    def stop(self) -> None:
        """Shut it down."""
        self._nspawn.terminate()
        try:
            self._nspawn.wait(20)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._console.close()

    def _leader(self) -> int:
        """Its process 1, as this machine numbers it; 0: it is not there yet."""
        pending = [self._nspawn.pid]
        while pending:
            pid = pending.pop()
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                numbers = status.partition("NSpid:")[2].splitlines()[0].split()
                if len(numbers) > 1 and numbers[-1] == "1":
                    return pid
                for task in Path(f"/proc/{pid}/task").iterdir():
                    pending += map(int, (task / "children").read_text().split())
        return 0

    def _said(self) -> str:
        return Path(self._console.name).read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def wire(directory: Path) -> Iterator[Wire]:
    """A wire whose machines stop at the end; *directory* is for what they write."""
    with contextlib.ExitStack() as stack:
        yield Wire(directory, stack)
