"""``mksfilter demo``: the whole way on one machine, against a simulated vSphere.

A simulated vCenter with two ESXi hosts, an API pipeline loaded from ``etc/api-paste.ini`` with
Paste, and the proxy under gunicorn: the same programs an operator runs, each in its own process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from mksfilter import extras
from mksfilter.auth.keys import KeyRepository
from mksfilter.exceptions import ConfigurationError, OperationError
from mksfilter.simulator.processes import Children

__all__ = ["configure", "run"]

HOST = "127.0.0.1"
AUTH_TOKEN = "demo-member"  # noqa: S105 - the demo's static token, see etc/api-paste.ini
START_TIMEOUT = 60.0

CONFIGURATION = """\
[mksfilter]
webmks_proxy_base_url = {base_url}
allowed_origins = {localhost}
key_repository = {keys}
audience = demo
vcenters = demo
# The simulated ESXi hosts are on this machine; real ones are not.
allowed_networks = 127.0.0.0/8
# Nobody probes a demo.
management_bind =

[vcenter.demo]
host = {vcenter[host]}
port = {vcenter[port]}
username = {vcenter[username]}
password_file = {password_file}
thumbprint = {vcenter[thumbprint]}
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to *parser*."""
    parser.add_argument(
        "--once",
        action="store_true",
        help="drive it as a client would, write the first framebuffer, and exit",
    )
    parser.add_argument(
        "--output", default="demo.png", metavar="FILE", help="with --once: the picture (demo.png)"
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help="port of the proxy (6090; with --once a free one)"
    )
    parser.add_argument(
        "--api-port", type=int, metavar="N", help="port of the API (8774; with --once a free one)"
    )
    parser.add_argument(
        "--rfb", metavar="HOST:PORT", help="show this VNC server instead of the built-in screen"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="of the proxy (2)")
    parser.add_argument("--verbose", action="store_true", help="show what the programs log")


def run(args: argparse.Namespace) -> int:
    """Start everything, say where, and serve until SIGINT or SIGTERM; or drive it once.

    :raises KeyboardInterrupt: one of them came before there was a console.
    """
    if args.config_file:
        raise ConfigurationError("demo makes its own configuration; drop --config-file")
    extras.require("mksfilter demo", "simulator", "gevent", "gunicorn", "pyVmomi", "PIL")
    children = Children()
    with contextlib.ExitStack() as stack:
        # SIGINT too: a shell starts what it runs in the background with SIGINT ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.signal(number, lambda _number, _frame: children.terminate())
            stack.callback(signal.signal, number, previous)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mksfilter-")))
        stack.enter_context(children)
        demo = Demo(args, directory, children)
        ready = False
        try:
            demo.start()
            url = demo.console_url()
            if args.once:
                demo.drive(url)
                return 0
            ready = True
            demo.explain(url)
            dead = children.wait()
            raise OperationError(f"{demo.name_of(dead)} ended unexpectedly; see --verbose")
        except Exception:
            # What failed did so because the programs were told to end.
            if not children.terminated:
                raise
        if not ready:
            raise KeyboardInterrupt
    return 0


class Demo:
    """The demo's programs, their ports and their files."""

    def __init__(self, args: argparse.Namespace, directory: Path, children: Children) -> None:
        self._args = args
        self._directory = directory
        self._children = children
        self._names: dict[int, str] = {}
        self._port = self._choose_port(args.port, 6090, "--port")
        self._api_port = self._choose_port(args.api_port, 8774, "--api-port")
        self._vm: dict[str, Any] = {}

    @property
    def base_url(self) -> str:
        """Where the console page is."""
        return f"http://{HOST}:{self._port}/"

    def start(self) -> None:
        """Start the simulator, the API and the proxy, and wait until each answers."""
        simulated = self._start_simulator()
        self._vm = simulated["vms"][0]
        KeyRepository(str(self._directory / "keys")).setup()
        self._write("password", simulated["vcenter"]["password"])
        self._write("servers.json", json.dumps(simulated["vms"]))
        configuration = self._write(
            "mksfilter.conf",
            CONFIGURATION.format(
                base_url=self.base_url,
                localhost=self.base_url.replace(HOST, "localhost").rstrip("/"),
                keys=self._directory / "keys",
                password_file=self._directory / "password",
                vcenter=simulated["vcenter"],
            ),
        )
        self._start_api(configuration)
        self._start_proxy(configuration)

    def console_url(self) -> str:
        """Ask the API for a console of the first machine, as ``curl`` would."""
        request = urllib.request.Request(  # noqa: S310 - our own loopback URL
            self._api_url(),
            data=json.dumps(self._body()).encode(),
            headers=self._headers(),
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            url: str = json.load(answer)["remote_console"]["url"]
        return url

    def explain(self, url: str) -> None:
        """Say how to get a console; the URL comes last."""
        headers = " ".join(f"-H '{name}: {value}'" for name, value in self._headers().items())
        print(
            f"A console of {self._vm['name']} ({self._vm['uuid']}). Ask for another one with\n\n"
            f"  curl -s {headers} -d '{json.dumps(self._body())}' {self._api_url()}\n\n"
            f"Open this in a browser (it is good for ten minutes; Ctrl-C ends the demo):\n\n{url}",
            flush=True,
        )

    def drive(self, url: str) -> None:
        """Page, WebSocket, first framebuffer: what a browser would do, and a picture of it."""
        from mksfilter.simulator.viewer import Viewer

        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
            page = answer.read()
        if b"<html" not in page:
            raise OperationError("the console page is not HTML")
        with Viewer.open_page(url) as viewer:
            picture = viewer.framebuffer()
        try:
            picture.save(self._args.output)
        except (OSError, ValueError) as exc:
            raise OperationError(f"cannot write {self._args.output}: {exc}") from exc
        print(
            f"{self._args.output}: {picture.width}x{picture.height} pixels of {viewer.name!r}, "
            f"received through the proxy"
        )

    def name_of(self, process: subprocess.Popen[str]) -> str:
        """What *process* is in the words of this demo."""
        return self._names[process.pid]

    def _start_simulator(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "mksfilter", "simulator", "--json"]
        if self._args.rfb:
            command += ["--rfb", self._args.rfb]
        process = self._start("the simulator", command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise OperationError(f"the simulator did not start: {self._log_of(process)}")
        ready: dict[str, Any] = json.loads(line)
        return ready

    def _start_api(self, configuration: Path) -> None:
        command = [
            *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "8"),
            *("--bind", f"{HOST}:{self._api_port}", "--graceful-timeout", "1"),
            *("--paste-global", f"config_file={configuration}"),
            *("--paste-global", f"servers={self._directory / 'servers.json'}"),
            *("--paste", f"{paste_file()}#demo"),
        ]
        process = self._start("the API", command)
        self._wait_for(process, f"http://{HOST}:{self._api_port}/")

    def _start_proxy(self, configuration: Path) -> None:
        command = [
            *(sys.executable, "-m", "mksfilter", "serve", "--bind", f"{HOST}:{self._port}"),
            *("--workers", str(self._args.workers), "--config-file", str(configuration)),
            *("--graceful-timeout", "2"),
        ]
        process = self._start("the proxy", command)
        self._wait_for(process, f"{self.base_url}healthz")

    def _start(
        self, name: str, command: list[str], *, stdout: int | None = None
    ) -> subprocess.Popen[str]:
        # What a program leaves behind, since it was told to end while it started, goes with ours.
        env = {"TMPDIR": str(self._directory)}
        if self._args.verbose:
            process = self._children.start(command, env=env, stdout=stdout or sys.stderr.fileno())
        else:
            log = (self._directory / f"{name.split()[-1]}.log").open("w", encoding="utf-8")
            with log:
                process = self._children.start(command, env=env, stdout=stdout or log, stderr=log)
        self._names[process.pid] = name
        return process

    def _wait_for(self, process: subprocess.Popen[str], url: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(url, timeout=5).close()  # noqa: S310
                return
            except urllib.error.HTTPError:
                return  # it answers; what it answers is not asked here
            except OSError:
                time.sleep(0.05)
        raise OperationError(f"{self.name_of(process)} did not start: {self._log_of(process)}")

    def _log_of(self, process: subprocess.Popen[str]) -> str:
        log = self._directory / f"{self.name_of(process).split()[-1]}.log"
        lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else []
        told = [line for line in lines if line.strip()]
        return told[-1] if told else "it said nothing"

    def _choose_port(self, asked: int | None, usual: int, option: str) -> int:
        port = asked if asked is not None else (0 if self._args.once else usual)
        if not 0 <= port <= 65535:
            raise ConfigurationError(f"{option} {port}: not a port number")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as exc:
                raise OperationError(
                    f"port {port} of {HOST}: {exc.strerror}; choose another with {option} N"
                ) from exc
            chosen: int = probe.getsockname()[1]
        return chosen

    def _write(self, name: str, text: str) -> Path:
        path = self._directory / name
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return path

    def _api_url(self) -> str:
        return f"http://{HOST}:{self._api_port}/v2.1/servers/{self._vm['uuid']}/remote-consoles"

    def _headers(self) -> dict[str, str]:
        return {
            "X-Auth-Token": AUTH_TOKEN,
            "OpenStack-API-Version": "compute 2.8",
            "Content-Type": "application/json",
        }

    def _body(self) -> dict[str, Any]:
        return {"remote_console": {"protocol": "mks", "type": "webmks"}}


def paste_file() -> Path:
    """``etc/api-paste.ini`` of this checkout, or the one the package installed.

    :raises ConfigurationError: there is neither.
    """
    checkout = Path(__file__).resolve().parents[2] / "etc" / "api-paste.ini"
    installed = Path(sysconfig.get_path("data")) / "etc" / "mksfilter" / "api-paste.ini"
    for path in (checkout, installed):
        if path.is_file():
            return path
    raise ConfigurationError(f"neither {checkout} nor {installed} exists; reinstall mksfilter")
