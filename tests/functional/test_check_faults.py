"""``mksfilter check --connect`` finds each fault that is planted here, and praises what is good.

The table is the list of what it is for: a row is a fault as operators make them, and what is said.
"""

from __future__ import annotations

import dataclasses
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.checks import reached
from mksfilter.cli import main
from mksfilter.simulator.client import OFF_1, WEB_1, SimulatedVSphere
from tests.support.balancer import Balancer, start_balancer
from tests.support.ports import free_port
from tests.support.proxy import RunningProxy, configuration, start_proxy


class Site:
    """A proxy behind a balancer, in front of a vSphere, all well until something is planted.

    :ivar options: of the configuration that is checked; *vcenter* likewise.
    :ivar nova: of nova.conf, which is checked too where there is one.
    :ivar text: more of the configuration.
    """

    def __init__(
        self,
        directory: Path,
        vsphere: SimulatedVSphere,
        proxy: RunningProxy,
        balancer: Balancer,
        patch: pytest.MonkeyPatch,
    ) -> None:
        self.directory = directory
        self.vsphere = vsphere
        self.proxy = proxy
        self.balancer = balancer
        self.patch = patch
        self.options: dict[str, Any] = {
            "key_repository": proxy.directory / "keys",
            "webmks_proxy_base_url": balancer.url,
        }
        self.vcenter: dict[str, Any] = {}
        self.nova: dict[str, Any] = {}
        self.instance = ""
        self.text = ""
        self.mode = 0o600

    def check(self) -> int:
        settings = self.vsphere.vcenter_settings(**self.vcenter)
        path = configuration(self.directory, [settings], **self.options)
        path.write_text(path.read_text() + self.text)
        path.chmod(self.mode)
        arguments = ["check", "--connect", "--config-file", str(path)]
        if self.instance:
            arguments += ["--instance", self.instance]
        if self.nova:
            values = {
                "key_repository": self.options["key_repository"],
                "audience": "tests",
                "webmks_proxy_base_url": "https://console.example.com/",
                **self.nova,
            }
            nova = self.directory / "nova.conf"
            lines = [f"{name} = {value}" for name, value in values.items()]
            nova.write_text("\n".join(["[mksfilter]", *lines]) + "\n")
            arguments += ["--nova-conf", str(nova)]
        return main(arguments)

    def other_keys(self) -> str:
        keys = self.directory / "other-keys"
        if not keys.exists():
            KeyRepository(str(keys)).setup()
        return str(keys)


@dataclasses.dataclass(frozen=True)
class Fault:
    """
    :ivar plant: makes it.
    :ivar found: in the line that tells it.
    """

    name: str
    plant: Callable[[Site], object]
    found: str


def option(**options: Any) -> Callable[[Site], None]:
    return lambda site: site.options.update(options)


def vcenter(**options: Any) -> Callable[[Site], None]:
    return lambda site: site.vcenter.update(options)


def balancer(fault: str) -> Callable[[Site], None]:
    return lambda site: setattr(site.balancer, "fault", fault)


def url(change: Callable[[str], str]) -> Callable[[Site], None]:
    def plant(site: Site) -> None:
        site.options["webmks_proxy_base_url"] = change(site.balancer.url)

    return plant


def both(*plants: Callable[[Site], object]) -> Callable[[Site], None]:
    def plant(site: Site) -> None:
        for each in plants:
            each(site)

    return plant


FAULTS = [
    # vCenter's user
    Fault(
        "privilege missing everywhere",
        lambda site: site.vsphere.set_vcenter(permitted=False),
        r"lacks VirtualMachine\.Interact\.ConsoleInteract on every one of 4 VMs",
    ),
    Fault(
        "privilege missing on one VM",
        lambda site: site.vsphere.set_vm("db-1", permitted=False),
        r"lacks VirtualMachine\.Interact\.ConsoleInteract on 1 of 4 instances of Nova: db-1",
    ),
    Fault("password changed", vcenter(password="wr0ng"), r"login refused .* check password_file"),
    Fault(
        "certificate of vCenter is another",
        vcenter(ca_file=None, thumbprint="00" * 32),
        r"expected; if it was renewed on purpose, correct the thumbprint",
    ),
    # the way to the hosts
    Fault(
        "host's name does not resolve",
        lambda site: site.vsphere.set_vcenter(ticket_host="unresolvable"),
        r"console host esxi-1\.invalid:\d+ does not resolve here",
    ),
    Fault(
        "host's port is blocked",
        lambda site: vcenter(console_port=free_port())(site),
        r"console host \S+ is not reached: Connection refused; open TCP",
    ),
    # the base URL against the page as reached
    Fault(
        "base URL: https where there is no TLS",
        lambda site: option(webmks_proxy_base_url=f"https://127.0.0.1:{site.proxy.port}/")(site),
        r"is https, and \S+ does not speak TLS",
    ),
    Fault("base URL: http where there is TLS", balancer("tls"), r"is http, and \S+ does not speak"),
    Fault(
        "base URL: leads on elsewhere",
        balancer("redirect"),
        r"leads on to https://127\.0\.0\.1/; write https://127\.0\.0\.1/",
    ),
    Fault(
        "base URL: host that does not resolve",
        url(lambda good: "http://console.mksfilter.invalid/"),
        r"console\.mksfilter\.invalid does not resolve here",
    ),
    Fault(
        "base URL: port that nobody listens on",
        url(lambda good: f"http://127.0.0.1:{free_port()}/"),
        r"is not reached at 127\.0\.0\.1:\d+: Connection refused",
    ),
    Fault("base URL: somebody else's page", balancer("other"), r"is something else's page"),
    Fault(
        "base URL: another path prefix",
        both(balancer("prefix"), url(lambda good: good + "cell9/mks/")),
        r"has no console page: 404 for /cell9/mks/",
    ),
    Fault("balancer passes the page alone", balancer("static"), r"answers 404 for its static/"),
    Fault(
        "balancer does not pass upgrades",
        balancer("upgrade"),
        r"answers 426 to a WebSocket at /websockify; let the load balancer pass upgrades",
    ),
    Fault("balancer has no node", balancer("down"), r"answers 503 for the page"),
    Fault(
        "allowed_origins, trusted_proxies: the page's own origin is refused",
        balancer("host"),
        r"refuses the page's own origin http://127\.0\.0\.1:\d+; write this webmks_proxy_base_url",
    ),
    Fault(
        "trusted_proxies is empty behind a balancer",
        lambda site: site.patch.setattr(reached, "_is_here", lambda address: False),
        r"warning: .* trusted_proxies is empty: then every client has the balancer's address",
    ),
    # keys, audience, clocks
    Fault(
        "keys: the running proxies have others",
        lambda site: option(key_repository=site.other_keys())(site),
        r"refuses a token that is good here; copy the keys",
    ),
    Fault(
        "audience: the running proxies have another",
        option(audience="elsewhere"),
        r"refuses a token that is good here; .* write the same audience",
    ),
    Fault(
        "keys: nova-api signs with one that the proxy has not",
        lambda site: site.nova.update(key_repository=site.other_keys()),
        r"the filter signs with key [0-9a-f]{12} of \S+other-keys, and \S+ has .* only",
    ),
    Fault(
        "audience: nova-api has another",
        lambda site: site.nova.update(audience="cloud-b"),
        r"audience is 'tests' here and 'cloud-b' for the filter",
    ),
    Fault(
        "clock of vCenter",
        lambda site: site.vsphere.set_vcenter(clock_offset=3600.0),
        r"its clock is 3600 s ahead of this machine's",
    ),
    Fault(
        "clock of the proxies",
        lambda site: setattr(site.balancer, "clock", -600),
        r"is \d+ s behind this machine, by its answers' Date",
    ),
    # this node
    Fault(
        "replay cache is down",
        lambda site: option(replay_cache=f"memcached://127.0.0.1:{free_port()}")(site),
        r"replay_cache: .*; start it, or open the way to it",
    ),
    Fault(
        "replay cache forgets",
        lambda site: option(replay_cache=f"memcached://127.0.0.1:{forgetful()}")(site),
        r"takes a token for new that it has seen",
    ),
    Fault(
        "replay cache of each worker",
        option(replay_cache="local"),
        r"warning: .*replay_cache = local: each worker process lets a token pass once",
    ),
    Fault("too few descriptors", option(max_sessions=4_000_000), r"descriptors are enough for"),
    Fault("page is not built", balancer("unbuilt"), r"says that the page is not built"),
    # what is written
    Fault("option misspelt", option(max_sesions=5), r"unknown option 'max_sesions'; did you mean"),
    Fault(
        "section misspelt",
        lambda site: setattr(site, "text", "[vcentre.dc9]\nhost = x\n"),
        r"\[vcentre\.dc9\]: unknown group; did you mean \[vcenter\.dc9\]",
    ),
    Fault(
        "password in a file that others read",
        lambda site: vars(site).update(text="[nova]\npassword = s3cret\n", mode=0o644),
        r"\[nova\]: holds password, and others can read it \(mode 0644\)",
    ),
    Fault(
        "broker's password in a file that others read",
        both(
            option(audit_transport_url="rabbit://u:s3cret@broker/"),
            lambda site: setattr(site, "mode", 0o644),
        ),
        r"holds audit_transport_url, and others can read it",
    ),
    Fault("trusted_proxies: the world", option(trusted_proxies="0.0.0.0/0"), r"anybody may say in"),
    Fault("metrics_networks: the world", option(metrics_networks="::/0"), r"may read the metrics"),
    Fault(
        "allowed_networks: the world", option(allowed_networks="0.0.0.0/0"), r"may lead anywhere"
    ),
    # one console
    Fault(
        "an instance that is powered off",
        lambda site: setattr(site, "instance", OFF_1),
        r"from here: link .* ms, token .* ms, then it failed \(powered-off\): .*; start it",
    ),
    Fault(
        "an instance whose host refuses its ticket",
        both(
            lambda site: site.vsphere.set_all("host", refuse_tickets=True),
            lambda site: setattr(site, "instance", WEB_1),
        ),
        r"ticket .* TLS .* ms, then it failed \(upstream-refused\): .* answers 403 to its own",
    ),
    Fault(
        "an instance whose host has none of the groups in tls_groups",
        both(
            lambda site: site.vsphere.set_all("host", tls_profile="NIST_2024_TLS_13_ONLY"),
            option(tls_groups="secp384r1"),
            lambda site: setattr(site, "instance", WEB_1),
        ),
        r"connection .* ms, then it failed \(upstream-refused\): .*in tls_groups \(secp384r1\)",
    ),
    Fault(
        "an instance whose host has another certificate",
        both(
            lambda site: site.vsphere.set_all("host", wrong_certificate=True),
            lambda site: setattr(site, "instance", WEB_1),
        ),
        r"connection .* ms, then it failed \(certificate-mismatch\)",
    ),
]


class _Forgetful(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            if line.startswith(b"add "):
                self.rfile.readline()
                self.wfile.write(b"STORED\r\n")


def forgetful() -> int:
    """The port of a memcached that takes everything for new."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Forgetful)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


@pytest.fixture(scope="module")
def running(_vsphere_process: SimulatedVSphere) -> Iterator[tuple[RunningProxy, Balancer]]:
    with (
        start_proxy([_vsphere_process.vcenter_settings()]) as proxy,
        start_balancer(proxy.port) as front,
    ):
        yield proxy, front


@pytest.fixture
def sites(vsphere, running, tmp_path) -> Callable[[pytest.MonkeyPatch], Site]:
    """Makes a site that is well."""

    def make(patch: pytest.MonkeyPatch) -> Site:
        proxy, front = running
        front.fault, front.clock = "", 0
        vsphere.reset()
        return Site(tmp_path, vsphere, proxy, front, patch)

    return make


def test_each_planted_fault_is_found(sites, capsys) -> None:
    found: dict[str, str] = {}
    for fault in FAULTS:
        with pytest.MonkeyPatch.context() as patch:
            site = sites(patch)
            fault.plant(site)
            code = site.check()
        lines = capsys.readouterr().out.splitlines()
        line = next((line for line in lines if re.search(fault.found, line)), "")
        if line and code == (0 if line.startswith("warning: ") else 1):
            found[fault.name] = line
        assert "s3cret" not in "".join(lines)
        assert "wr0ng" not in "".join(lines)
    with capsys.disabled():
        print(f"\nplanted {len(FAULTS)}, found {len(found)}")
        for fault in FAULTS:
            print(f"  {'found ' if fault.name in found else 'MISSED'}  {fault.name}")
    assert len(FAULTS) >= 25
    assert [fault.name for fault in FAULTS if fault.name not in found] == []


def test_what_is_good_is_printed_too(sites, capsys, monkeypatch) -> None:
    site = sites(monkeypatch)
    site.instance = WEB_1
    site.nova = {"token_ttl": 600}
    assert site.check() == 0
    out, err = capsys.readouterr()
    assert out == ""
    good = [line for line in err.splitlines() if line.startswith("good: ")]
    for words in (
        "the filter signs with key",
        "logged in as",
        "clock: ",
        "has the console privilege on all 4 VMs",
        "all 2 console hosts are reached from here",
        "the console page is built",
        "descriptors: room for",
        "no network is open to the world",
        "reached as browsers do: page, WebSocket, Origin, our key and audience are good there",
    ):
        assert any(words in line for line in good), words
    here, through = good[-2:]
    assert re.search(
        r"from here: link .* ms, token .* ms, ticket .* ms, connection .* ms, TLS .* ms, "
        r"handshake .* ms, first bytes .* ms, its console is open",
        here,
    )
    assert re.search(r"through the proxy: link .* ms, 101 .* ms, first bytes .* ms", through)


def test_a_privilege_is_no_error_where_the_machine_is_not_novas(sites, capsys, monkeypatch) -> None:
    from mksfilter.backends.vsphere.client import VSphereClient

    site = sites(monkeypatch)
    read = VSphereClient.properties

    def without_notes(self, kind, moids, paths):
        values = read(self, kind, moids, paths)
        return {moid: {**of, "config.annotation": ""} for moid, of in values.items()}

    monkeypatch.setattr(VSphereClient, "properties", without_notes)
    site.vsphere.set_vm("db-1", permitted=False)
    assert site.check() == 0
    assert "warning: " in (out := capsys.readouterr().out)
    assert "on 1 of 4 VMs, by their notes none of Nova's: db-1" in out


def test_a_machine_without_the_page_is_told(tmp_path, monkeypatch) -> None:
    from mksfilter.checks.node import page

    package = tmp_path / "emptypackage"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = page("emptypackage")
    assert "the console page is not built" in str(finding)
