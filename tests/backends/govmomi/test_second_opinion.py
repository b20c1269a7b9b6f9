"""Our vCenter sessions against a vCenter that is not ours: govmomi's simulator.

Built here from Debian's golang-github-vmware-govmomi-dev.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyVim.connect import Connect, Disconnect

from mksfilter.backends.resolver import Consoles
from mksfilter.backends.vcenter import VCenterConsole
from mksfilter.checks.vcenters import check_vcenters
from mksfilter.config import VCenterSettings
from mksfilter.exceptions import (
    CertificateMismatch,
    InstanceNotFound,
    InstancePoweredOff,
    TicketRefused,
    VCenterLoginRefused,
)
from mksfilter.tls import ssl_context

GOPATH = Path("/usr/share/gocode")
SOURCES = GOPATH / "src/github.com/vmware/govmomi/simulator"

# Compiling vSphere's types takes half a minute of a processor, the first time.
pytestmark = [pytest.mark.programs, pytest.mark.timeout(600)]


@dataclasses.dataclass
class GoVCenter:
    """A running vCenter: where it is, and what it has."""

    settings: VCenterSettings
    vms: list[dict[str, str]]

    @contextlib.contextmanager
    def operator(self) -> Iterator[Any]:
        """Another client, with pyvmomi alone."""
        service = Connect(
            host=self.settings.host,
            port=self.settings.port,
            user=self.settings.username,
            pwd=self.settings.password,
            version="vim.version.version11",
            sslContext=ssl_context(self.settings),
        )
        try:
            yield service.content
        finally:
            Disconnect(service)

    def sessions(self) -> list[str]:
        with self.operator() as content:
            mine = content.sessionManager.currentSession.key
            return [one.key for one in content.sessionManager.sessionList if one.key != mine]

    def expire_sessions(self) -> None:
        keys = self.sessions()
        with self.operator() as content:
            content.sessionManager.TerminateSession(keys)


@pytest.fixture(scope="module")
def _program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shutil.which("go") and SOURCES.is_dir()):
        pytest.fail("Go or govmomi's sources are missing; run tools/install-test-tools")
    program = tmp_path_factory.mktemp("govmomi") / "vcenter"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
    environment.setdefault("HOME", str(program.parent))
    subprocess.run(
        ["go", "build", "-p", "1", "-o", program, "main.go"],
        cwd=Path(__file__).parent,
        env=environment,
        check=True,
        timeout=580,
    )
    return program


@pytest.fixture
def govcenter(_program: Path) -> Iterator[GoVCenter]:
    process = subprocess.Popen([_program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        yield GoVCenter(
            VCenterSettings(
                "go",
                ready["host"],
                int(ready["port"]),
                ready["username"],
                ready["password"],
                thumbprint=ready["thumbprint"],
            ),
            ready["machines"],
        )
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def test_each_vm_has_its_console(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles]
) -> None:
    consoles = consoles_of(govcenter.settings)
    for _again in range(2):
        for vm in govcenter.vms:
            endpoint = consoles.connect(vm["uuid"])
            assert endpoint.address == f"{vm['host']}:443"
            assert endpoint.resource.startswith(f"/ticket/{vm['moid']}-")
    assert consoles.state()[0].api_version == "6.5"
    assert len(govcenter.sessions()) == 1


def test_wrong_password_is_refused(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles]
) -> None:
    consoles = consoles_of(dataclasses.replace(govcenter.settings, password="wr0ng"))
    with pytest.raises(VCenterLoginRefused, match=r"user nova@vsphere\.local.*password_file"):
        consoles.connect(govcenter.vms[0]["uuid"])


def test_wrong_pin_is_refused_each_time(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles]
) -> None:
    consoles = consoles_of(dataclasses.replace(govcenter.settings, thumbprint="00" * 32))
    for _attempt in range(3):
        with pytest.raises(CertificateMismatch):
            consoles.connect(govcenter.vms[0]["uuid"])
    assert govcenter.sessions() == []


def test_expired_session_is_renewed_once_for_all(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles]
) -> None:
    consoles = consoles_of(govcenter.settings)
    uuids = [vm["uuid"] for vm in govcenter.vms]
    consoles.connect(uuids[0])
    govcenter.expire_sessions()
    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(consoles.connect, uuids * 4))) == 16
    assert len(govcenter.sessions()) == 1


def test_log_out_leaves_no_session(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles]
) -> None:
    consoles = consoles_of(govcenter.settings)
    consoles.connect(govcenter.vms[0]["uuid"])
    consoles.close()
    assert govcenter.sessions() == []


def test_unknown_instance(govcenter: GoVCenter, consoles_of: Callable[..., Consoles]) -> None:
    with pytest.raises(InstanceNotFound):
        consoles_of(govcenter.settings).connect("5f1c7e20-0000-4000-8000-00000000dead")


@pytest.mark.parametrize("known", [False, True])
def test_vm_that_was_switched_off(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles], known: bool
) -> None:
    uuid = govcenter.vms[0]["uuid"]
    consoles = consoles_of(govcenter.settings)
    if known:
        consoles.connect(uuid)
    with govcenter.operator() as content:
        vm = content.searchIndex.FindByUuid(None, uuid, True, True)
        task = vm.PowerOffVM_Task()
        while task.info.state not in ("success", "error"):
            pass
    with pytest.raises(InstancePoweredOff):
        consoles.connect(uuid)


def test_clone_ticket_is_good_for_one_session(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles], monkeypatch: pytest.MonkeyPatch
) -> None:
    # This vCenter is a 6.5, which has the ticket but no console proxy any more.
    settings = dataclasses.replace(govcenter.settings, backend="vcenter")
    consoles = consoles_of(settings)
    with pytest.raises(TicketRefused, match=r"6\.5 and later"):
        consoles.connect(govcenter.vms[0]["uuid"])
    session = consoles._sites["go"].session
    ticket = session.run(
        lambda: VCenterConsole(settings).ticket(session, session.find(govcenter.vms[0]["uuid"]))
    )
    with govcenter.operator() as content:
        content.sessionManager.Logout()
        assert content.sessionManager.CloneSession(ticket.ticket).userName == settings.username
        content.sessionManager.Logout()
        with pytest.raises(Exception, match=r"(?i)login"):
            content.sessionManager.CloneSession(ticket.ticket)


def test_options_are_read_and_those_not_set_are_empty(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles]
) -> None:
    consoles = consoles_of(govcenter.settings)
    session = consoles._sites["go"].session
    assert session.run(session.fqdn) == ""
    has_sso = session.run(lambda: session._client.option("config.vpxd.sso.enabled"))
    assert has_sso in ("true", "false")


def test_check(govcenter: GoVCenter) -> None:
    ((_, ok, words),) = check_vcenters([govcenter.settings])
    assert ok
    assert "API 6.5" in words
    assert "pinned by thumbprint" in words


def test_live_consoles_need_a_newer_one(
    govcenter: GoVCenter, consoles_of: Callable[..., Consoles]
) -> None:
    with pytest.raises(TicketRefused, match=r"7\.0\.1"):
        consoles_of(govcenter.settings).connections(govcenter.vms[0]["uuid"])
