"""An operator follows ``install.md`` and ``maintenance.md``: their commands, on real machines."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mksfilter.simulator.client import WEB_1, SimulatedVSphere
from tests.docs.page import Page
from tests.support.machine import Machine, Wire, wire
from tests.support.source import ROOT, copy_source

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

USER = "8d1f4e1c8f7c4b5e9d0a4f2b6c3e7a91"
#: The far end of the wire stands for vCenter, its host, and the load balancer.
VCENTER = "10.231.0.1"
REPLACED = {
    "vcenter.example.com": VCENTER,
    "192.0.2.5": VCENTER,
    # The simulated vCenter's user, whom its hosts know too.
    "mksfilter@vsphere.local": "administrator@vsphere.local",
}
INSTALL = Page("install.md", REPLACED)
MAINTENANCE = Page("maintenance.md", REPLACED)


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the machines install from: the locked libraries, and two releases of ours."""
    wheels = tmp_path_factory.mktemp("wheels")
    # pip asks the Python that runs it, not the machines', what a marker is about.
    locked = (ROOT / "requirements" / "lock.txt").read_text()
    every = wheels.parent / "lock.txt"
    every.write_text(re.sub(r" ; .*(?= \\$)", "", locked, flags=re.MULTILINE))
    pip(
        *("download", "-q", "--no-deps", "--require-hashes", "-r", every, "-d", wheels),
        *("--python-version", "3.11", "--only-binary=:all:"),
    )
    for version, target in (("0.1.0", wheels), ("0.2.0", wheels / "next")):
        source = copy_source(wheels.parent / f"source-{version}")
        module = source / "mksfilter" / "__init__.py"
        module.write_text(re.sub(r'(?<=__version__ = ").*(?=")', version, module.read_text()))
        pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source)
        shutil.rmtree(source)
    return wheels


class Site:
    """One nova-api, two proxies, and a vCenter."""

    def __init__(self, on: Wire, stack: contextlib.ExitStack) -> None:
        self.wire = on
        self._stack = stack
        self.api = on.machines["api1"]
        self.proxies = [on.machines[name] for name in ("proxy1", "proxy2")]
        self._consoles: list[subprocess.Popen[str]] = []
        self._vcenter: subprocess.Popen[str] | None = None

    def start_vcenter(self, password: str) -> None:
        """In the place of the one that runs, if one does."""
        if self._vcenter is not None:
            self._end(self._vcenter)
        simulator = (sys.executable, "-m", "mksfilter.simulator", "--host", VCENTER)
        options = ("--port", "443", "--password", password, "--json", "--until-eof")
        self._vcenter = self._inside(*simulator, *options)
        assert self._vcenter.stdout is not None
        ready = json.loads(self._vcenter.stdout.readline())
        authority = Path(SimulatedVSphere(ready).vcenter_settings().ca_file).read_bytes()
        for proxy in self.proxies:
            (proxy.root / "etc" / "mksfilter").mkdir(mode=0o755, exist_ok=True)
            (proxy.root / "etc" / "mksfilter" / "vcenter-ca.pem").write_bytes(authority)

    def token(self, *options: str) -> str:
        mint = "runuser -u nova -- /opt/nova/bin/mksfilter token mint --instance"
        keys = "--key-repository /etc/mksfilter/keys"
        return self.api.run(f"{mint} {WEB_1} {' '.join(options)} {keys}").strip()

    def console(self, node: str, token: str) -> subprocess.Popen[str]:
        """Opens one, and leaves it open."""
        program = self._open(node, token)
        self._consoles.append(program)
        journal = "journalctl -u mksproxy --no-pager -n 20"
        assert said(program) == "open web-1", self.wire.machines[node].run(journal)
        return program

    def _open(self, node: str, token: str) -> subprocess.Popen[str]:
        url = f"ws://{self.address(node)}:6090/websockify?token={token}"
        return self._inside(sys.executable, ROOT / "tests" / "docs" / "console.py", url)

    def address(self, node: str) -> str:
        found = re.search(rf"^(\S+) {node}$", self.api.run("cat /etc/hosts"), re.MULTILINE)
        assert found
        return found[1]

    def wait_for_new_workers(self, node: str, before: set[int]) -> None:
        """Until those of *before* have gone: the simulated vCenter has another CA now."""
        deadline = time.monotonic() + 60
        while not (workers := self.workers(node)) or workers & before:
            assert time.monotonic() < deadline, workers
            time.sleep(0.2)

    def workers(self, node: str) -> set[int]:
        """The processes of those that take consoles."""
        status = "mksfilter drain --status --json --config-file /etc/mksfilter/mksfilter.conf"
        found = json.loads(self.wire.machines[node].run(status))["workers"]
        return {each["pid"] for each in found if each["state"] == "serving"}

    def wait_until_refused(self, node: str, token: str) -> None:
        """Within some seconds a node has noticed."""
        deadline = time.monotonic() + 20
        while True:
            program = self._open(node, token)
            answer = said(program)
            self._end(program)
            if not answer:
                return
            assert time.monotonic() < deadline, answer
            time.sleep(0.5)

    def close(self, console: subprocess.Popen[str]) -> None:
        self._consoles.remove(console)
        self._end(console)

    def close_consoles(self) -> None:
        while self._consoles:
            self._end(self._consoles.pop())

    def wait_for_sessions(self, node: str, number: int) -> None:
        """Until *node* counts so many."""
        deadline = time.monotonic() + 30
        while True:
            ready = self.wire.machines[node].run("curl -s http://127.0.0.1:6091/readyz")
            if json.loads(ready)["sessions"] == number:
                return
            assert time.monotonic() < deadline, ready
            time.sleep(0.2)

    def _inside(self, *command: object) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            ["ip", "netns", "exec", self.wire.namespace, *map(str, command)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(self._end, program)
        return program

    @staticmethod
    def _end(program: subprocess.Popen[str]) -> None:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.close()
        program.terminate()
        program.wait(20)
        program.stdout.close()


def offer(machine: Machine, *directories: str) -> None:
    """Where pip finds packages on *machine*."""
    links = "".join(f"\n    {directory}" for directory in directories)
    configuration = f"[global]\nno-index = true\nfind-links ={links}\n"
    (machine.root / "etc" / "pip.conf").write_text(configuration)


def said(console: subprocess.Popen[str]) -> str:
    """The next line that a console's program prints."""
    assert console.stdout is not None
    return console.stdout.readline().strip()


@pytest.fixture(scope="module")
def site(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """After all of ``install.md``; what nova-api has before, a Nova's installation leaves there."""
    with wire(tmp_path_factory.mktemp("machines")) as on, contextlib.ExitStack() as stack:
        on.start({"api1": 11, "proxy1": 21, "proxy2": 22}, f"{index}:/var/wheels")
        for machine in on.machines.values():
            offer(machine, "/var/wheels")
        api = on.machines["api1"]
        api.run("useradd --system nova && python3 -m venv /opt/nova && mkdir /etc/nova")
        stock = ROOT / "tests" / "checks" / "pipelines" / "stock"
        keys = "[mksfilter]\nkey_repository = /etc/mksfilter/keys\n"
        nova = (stock / "nova.conf").read_text()
        nova = re.sub(r"^key_repository = .*$", "", nova, flags=re.M)
        (api.root / "etc" / "nova" / "nova.conf").write_text(nova.replace("[mksfilter]\n", keys))
        shutil.copy(stock / "api-paste.ini", api.root / "etc" / "nova")
        site = Site(on, stack)
        site.start_vcenter("the-password")
        for part in ("1. ", "2. ", "3. ", "4. ", "5. "):
            INSTALL.follow(part, on)
        # The next release comes out.
        for machine in on.machines.values():
            offer(machine, "/var/wheels", "/var/wheels/next")
        yield site


@pytest.fixture(autouse=True)
def _closed_consoles(site: Site) -> Iterator[None]:
    """Who is left would be waited for at the next stop."""
    yield
    site.close_consoles()


def test_after_install_each_proxy_opens_a_console(site):
    token = INSTALL.follow("6. A console", site.wire).strip()
    for node in ("proxy1", "proxy2"):
        site.console(node, token)
        site.wait_for_sessions(node, 1)


def test_the_service_runs_as_its_user_with_the_kernels_limits(site):
    for proxy in site.proxies:
        assert set(proxy.run("ps -C mksfilter -o user= | sort -u || true").split()) <= {"mksfilter"}
        status = proxy.run("systemctl show mksproxy -p User,Type,StatusText,LimitNOFILE,NRestarts")
        assert "StatusText=serving" in status
        assert "NRestarts=0" in status
        assert proxy.run("stat -c %U:%a /run/mksfilter").strip() == "mksfilter:750"
        assert proxy.run("sysctl -n net.core.somaxconn").strip() == "4096"


def test_a_rotation_leaves_consoles_and_links_alone(site):
    before = site.token()
    console = site.console("proxy1", before)
    listed = MAINTENANCE.follow("Rotate the keys", site.wire)
    assert "primary" in listed
    site.console("proxy2", before)
    site.console("proxy1", site.token())
    assert console.poll() is None


def test_a_revoked_users_console_ends_and_the_others_stay(site):
    revoked = site.console("proxy1", site.token("--user", USER))
    other = site.console("proxy1", site.token("--user", "somebody-else"))
    MAINTENANCE.follow("Revoke", site.wire)
    assert said(revoked).startswith("closed")
    assert other.poll() is None


def test_after_a_leak_no_token_of_before_opens_anything(site):
    before = site.token()
    MAINTENANCE.follow("A key has leaked", site.wire)
    site.console("proxy1", site.token())
    site.wait_until_refused("proxy2", before)


def test_vcenters_password_is_changed(site):
    site.start_vcenter("the-new-password")
    before = {node: site.workers(node) for node in ("proxy1", "proxy2")}
    MAINTENANCE.follow("Change vCenter's password", site.wire)
    for node, workers in before.items():
        site.wait_for_new_workers(node, workers)
        site.console(node, site.token())


def test_a_node_is_upgraded_and_rolled_back_while_the_other_serves(site):
    other = site.console("proxy2", site.token())
    proxy = site.proxies[0]
    version = "/opt/mksfilter/bin/pip list --format=freeze | grep mksfilter"
    MAINTENANCE.follow("Upgrade, one node after the other", site.wire)
    assert "0.2.0" in proxy.run(version)
    # Who cannot move would be waited for.
    site.close(site.console("proxy1", site.token()))
    MAINTENANCE.follow("Roll back", site.wire)
    assert "0.1.0" in proxy.run(version)
    site.console("proxy1", site.token())
    assert other.poll() is None


def test_a_stop_says_nothing_bad(site):
    for proxy in site.proxies:
        proxy.run("systemctl stop mksproxy")
        status = proxy.run("systemctl show mksproxy -p Result,NRestarts")
        assert "Result=success" in status
        assert "NRestarts=0" in status
        journal = proxy.run("journalctl -u mksproxy --no-pager --output=cat")
        assert "Traceback" not in journal, journal[journal.index("Traceback") - 500 :][:5000]
