"""Tickets of every kind and in every form, and where they lead."""

from __future__ import annotations

import configparser
import pkgutil
import socket
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mksfilter.backends.base import Backend, console_host
from mksfilter.backends.mks import mks_endpoint
from mksfilter.backends.registry import automatic, load
from mksfilter.backends.resolver import Consoles
from mksfilter.backends.vcenter import VCenterConsole
from mksfilter.backends.vsphere.client import About, Ticket
from mksfilter.backends.webmks import WebMKS, webmks_endpoint
from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import CertificateMismatch, ConfigurationError, TicketRefused
from mksfilter.simulator.client import OFF_1, WEB_1, SimulatedVSphere
from tests.support.consoles import encrypted
from tests.support.consoles import opened as opened_console

MakeConsoles = Callable[..., Consoles]
SHA1 = CertificateDigest("sha1", bytes(20))
SHA256 = CertificateDigest("sha256", bytes(32))
SOME = About("", (8, 0), "", is_vcenter=True)


def settings(**more: Any) -> VCenterSettings:
    return VCenterSettings("dc1", "vc1.example.com", **more)


def opened(endpoint: Endpoint) -> None:
    """Connect as the proxy would, as far as the WebSocket handshake."""
    with opened_console(endpoint) as console:
        assert console.subprotocol == "binary"


class TestWebMKSTicket:
    @pytest.mark.parametrize(
        ("ticket", "address"),
        [
            (Ticket("T", host="esx1.example.com", port=9443), "esx1.example.com:9443"),
            (Ticket("T", host="esx1.example.com"), "esx1.example.com:443"),
            (Ticket("T", host="esx1"), "esx1:443"),
            (Ticket("T", host="2001:db8::7", port=443), "[2001:db8::7]:443"),
            (Ticket("T", host="[2001:db8::7]", port=443), "[2001:db8::7]:443"),
            (Ticket("T", port=8443), "vc1.example.com:8443"),
            (Ticket("T"), "vc1.example.com:443"),
            (Ticket("T", url="wss://esx2.example.com/ticket/T"), "esx2.example.com:443"),
            (Ticket("T", url="wss://esx2:8443/ticket/T", host="esx1", port=1), "esx2:8443"),
            (Ticket("T", url="wss://[2001:db8::7]:8443/ticket/T"), "[2001:db8::7]:8443"),
            (Ticket("T", url="wss://esx2/ticket/T", port=902), "esx2:902"),
        ],
    )
    def test_names_host_and_port_in_many_ways(self, ticket: Ticket, address: str) -> None:
        endpoint = webmks_endpoint(settings(), ticket)
        assert (endpoint.address, endpoint.resource) == (address, "/ticket/T")
        assert endpoint.tls

    def test_url_says_the_whole_resource(self) -> None:
        ticket = Ticket("T", url="wss://esx1:443/other/T?session=5")
        assert webmks_endpoint(settings(), ticket).resource == "/other/T?session=5"

    @pytest.mark.parametrize("url", ["wss://esx1", "wss://esx1/"])
    def test_url_without_a_resource_gets_the_usual_one(self, url: str) -> None:
        assert webmks_endpoint(settings(), Ticket("T", url=url)).resource == "/ticket/T"

    @pytest.mark.parametrize(
        "url",
        [
            "ws://esx1/ticket/T",
            "http://esx1/ticket/T",
            "wss://esx1/ticket/T\r\nX-Evil: 1",
            "wss://esx1/a b",
            "wss://esx1:99999/ticket/T",
            "wss://[::1/ticket/T",
            "wss:ticket/T",
            "wss://esx1?ticket=T",
            "wss://esx1/ticket/é",
        ],
    )
    def test_url_that_cannot_be_used_is_refused(self, url: str) -> None:
        with pytest.raises(TicketRefused):
            webmks_endpoint(settings(), Ticket("T", url=url))

    @pytest.mark.parametrize("ticket", ["", "a b", "a\r\nHost: evil", "é"])
    def test_ticket_that_cannot_be_sent_is_refused(self, ticket: str) -> None:
        with pytest.raises(TicketRefused):
            webmks_endpoint(settings(), Ticket(ticket))

    @pytest.mark.parametrize(
        "host", ["esx1/..", "esx 1", "u@esx1", "esx1:443", "[esx1", "é", "fe80::1%eth0", "a\0b"]
    )
    def test_host_that_cannot_be_is_refused(self, host: str) -> None:
        with pytest.raises(TicketRefused):
            webmks_endpoint(settings(), Ticket("T", host=host))
        with pytest.raises(TicketRefused):
            mks_endpoint(settings(), Ticket("T", "/x.vmx", host=host))

    @pytest.mark.parametrize("port", [-1, 65536, 1 << 31])
    def test_port_that_cannot_be_is_refused(self, port: int) -> None:
        with pytest.raises(TicketRefused, match=str(port)):
            webmks_endpoint(settings(), Ticket("T", host="esx1", port=port))
        with pytest.raises(TicketRefused, match=str(port)):
            mks_endpoint(settings(), Ticket("T", "/x.vmx", host="esx1", port=port))

    def test_ticket_with_a_slash_stays_one_segment(self) -> None:
        assert webmks_endpoint(settings(), Ticket("a/../b?c")).resource == "/ticket/a%2F..%2Fb%3Fc"

    @pytest.mark.parametrize("digests", [(SHA1,), (SHA256,), (SHA1, SHA256)])
    def test_digests_are_all_handed_on(self, digests: tuple[CertificateDigest, ...]) -> None:
        endpoint = webmks_endpoint(settings(ca_file="/ca"), Ticket("T", digests=digests))
        assert endpoint.digests == digests

    def test_without_digest_the_name_is_verified_by_ca(self) -> None:
        endpoint = webmks_endpoint(settings(ca_file="/ca"), Ticket("T", host="esx1.example.com"))
        assert (endpoint.digests, endpoint.ca_file, endpoint.insecure) == ((), "/ca", False)
        assert endpoint.server_name == "esx1.example.com"

    def test_without_digest_nothing_is_verified_only_if_the_operator_says_so(self) -> None:
        assert not webmks_endpoint(settings(), Ticket("T")).insecure
        assert webmks_endpoint(settings(insecure=True), Ticket("T")).insecure


class TestConsoleHost:
    @pytest.mark.parametrize(
        ("pattern", "named", "host"),
        [
            (None, "esx1", "esx1"),
            (None, "", "vc1.example.com"),
            ("nat.example.com", "esx1", "nat.example.com"),
            ("nat.example.com", "", "nat.example.com"),
            ("{host}.esx.example.com", "esx1", "esx1.esx.example.com"),
            ("{host}.esx.example.com", "esx1.other.example.com", "esx1.other.example.com"),
            ("{host}.esx.example.com", "2001:db8::7", "2001:db8::7"),
            ("{host}.esx.example.com", "192.0.2.7", "192.0.2.7"),
        ],
    )
    def test_replaces_or_completes(self, pattern: str | None, named: str, host: str) -> None:
        assert console_host(settings(console_host=pattern), named) == host

    def test_leaves_the_name_in_the_certificate_alone(self) -> None:
        endpoint = webmks_endpoint(
            settings(console_host="192.0.2.7", console_port=8443),
            Ticket("T", host="esx1.example.com", port=443),
        )
        assert (endpoint.address, endpoint.server_name) == ("192.0.2.7:8443", "esx1.example.com")


class TestMKSTicket:
    def test_leads_to_authd(self) -> None:
        endpoint = mks_endpoint(
            settings(), Ticket("T", "/vmfs/volumes/a b/vm.vmx", host="esx1", digests=(SHA1,))
        )
        assert (endpoint.kind, endpoint.address) == ("authd", "esx1:902")
        assert (endpoint.ticket, endpoint.config_file) == ("T", "/vmfs/volumes/a b/vm.vmx")
        assert endpoint.resource == ""

    @pytest.mark.parametrize("path", ["", "/vmfs/vm.vmx\r\nCONNECT other"])
    def test_configuration_file_has_to_fit_a_line(self, path: str) -> None:
        with pytest.raises(TicketRefused):
            mks_endpoint(settings(), Ticket("T", path))

    @pytest.mark.parametrize("ticket", ["", "T\r\nPASS other"])
    def test_ticket_has_to_fit_a_line(self, ticket: str) -> None:
        with pytest.raises(TicketRefused):
            mks_endpoint(settings(), Ticket(ticket, "/vmfs/vm.vmx"))


class TestKind:
    @pytest.mark.parametrize(
        ("version", "is_vcenter", "kind"),
        [
            ((5, 5), True, "vcenter"),
            ((5, 5), False, "mks"),
            ((6, 0), True, "webmks"),
            ((6, 7, 3), True, "webmks"),
            ((9, 0, 0, 0), False, "webmks"),
        ],
    )
    def test_follows_from_the_version(
        self, version: tuple[int, ...], is_vcenter: bool, kind: str
    ) -> None:
        assert automatic(About("", version, "", is_vcenter)) == kind

    def test_unknown_names_those_that_are_known(self) -> None:
        with pytest.raises(ConfigurationError, match=r"'vnc' is unknown.*auto, mks, vcenter"):
            load(settings(backend="vnc"))

    def test_a_site_adds_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = FakeEntryPoint(lambda: WebMKS)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry])
        backend = load(settings(backend="ours"))(SOME)
        assert isinstance(backend, WebMKS)

    def test_that_cannot_be_imported_names_its_package(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> None:
            raise ImportError("no module named ours")

        monkeypatch.setattr(
            "importlib.metadata.entry_points", lambda group: [FakeEntryPoint(broken)]
        )
        with pytest.raises(ConfigurationError, match=r"\[vcenter\.dc1\].*ours:Backend.*no module"):
            load(settings(backend="ours"))

    def test_ours_are_entry_points_too(self) -> None:
        # As declared, for the installed metadata may be older than the checkout.
        setup = configparser.ConfigParser()
        setup.read(Path(__file__).parents[2] / "setup.cfg")
        declared = setup["options.entry_points"]["mksfilter.backends"].strip().splitlines()
        kinds = dict(line.replace(" ", "").split("=") for line in declared)
        assert set(kinds) == {"webmks", "vcenter", "mks"}
        for name, value in kinds.items():
            assert issubclass(pkgutil.resolve_name(value), Backend)
            assert isinstance(load(settings(backend=name))(SOME), pkgutil.resolve_name(value))


class FakeEntryPoint:
    name = "ours"
    value = "ours:Backend"

    def __init__(self, load: Callable[[], Any]) -> None:
        self.load = load


class TestWebMKSAgainstTheSimulator:
    @pytest.mark.parametrize("host", ["address", "ipv6"])
    @pytest.mark.parametrize("digests", ["sha1", "list", "both", "none"])
    @pytest.mark.parametrize("url", ["present", "absent"])
    def test_every_combination_of_fields_opens_a_console(
        self,
        vsphere: SimulatedVSphere,
        consoles_of: MakeConsoles,
        host: str,
        digests: str,
        url: str,
    ) -> None:
        vsphere.set_vcenter(
            api_version="8.0.3.0", ticket_host=host, ticket_digests=digests, ticket_url=url
        )
        opened(consoles_of(vsphere.vcenter_settings()).connect(WEB_1))

    @pytest.mark.parametrize("host", ["name", "short", "absent", "unresolvable"])
    @pytest.mark.parametrize("port", ["present", "absent"])
    def test_what_cannot_be_reached_from_here_is_replaced(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles, host: str, port: str
    ) -> None:
        esxi = vsphere.host_of("web-1")
        vsphere.set_vcenter(
            api_version="8.0.3.0", ticket_host=host, ticket_port=port, ticket_url="absent"
        )
        consoles = consoles_of(
            vsphere.vcenter_settings(console_host=esxi["address"], console_port=esxi["port"])
        )
        opened(consoles.connect(WEB_1))

    @pytest.mark.parametrize("version", ["6.0", "6.5", "6.7", "7.0", "7.0.3.1", "8.0.3.0", "9.0"])
    def test_every_version_opens_a_console(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles, version: str
    ) -> None:
        vsphere.set_vcenter(api_version=version)
        opened(consoles_of(vsphere.vcenter_settings(backend="auto")).connect(WEB_1))

    @pytest.mark.parametrize(
        ("version", "strongest"), [("7.0", "sha1"), ("7.0.3.1", "sha256"), ("9.0", "sha256")]
    )
    def test_the_strongest_digest_of_the_version_is_asked_for(
        self,
        vsphere: SimulatedVSphere,
        consoles_of: MakeConsoles,
        version: str,
        strongest: str,
    ) -> None:
        vsphere.set_vcenter(api_version=version)
        endpoint = consoles_of(vsphere.vcenter_settings()).connect(WEB_1)
        assert max(endpoint.digests, key=lambda one: one.strength).algorithm == strongest

    def test_a_host_with_another_certificate_is_not_talked_to(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        endpoint = consoles_of(vsphere.vcenter_settings()).connect(WEB_1)
        vsphere.set_host(vsphere.host_of("web-1")["name"], wrong_certificate=True)
        for _attempt in range(2):
            with pytest.raises(CertificateMismatch, match=r"vcenter vc1"):
                opened(endpoint)

    def test_5_5_has_none(self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles) -> None:
        vsphere.set_vcenter(api_version="5.5")
        with pytest.raises(TicketRefused, match="backend = auto"):
            consoles_of(vsphere.vcenter_settings()).connect(WEB_1)


class TestVCenterAgainstTheSimulator:
    @pytest.mark.parametrize(("version", "port"), [("5.5", "wss"), ("6.0", "web_client")])
    def test_the_console_proxy_opens_a_console(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles, version: str, port: str
    ) -> None:
        vsphere.set_vcenter(api_version=version)
        consoles = consoles_of(
            vsphere.vcenter_settings(
                backend="vcenter", console_port=vsphere.vcenter["console_ports"][port]
            )
        )
        endpoint = consoles.connect(WEB_1)
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(endpoint.resource).query)
        assert query["vmName"] == ["web-1"]
        assert query["host"] == [f"{vsphere.vcenter['fqdn']}:443"]
        assert query["thumbprint"] == [vsphere.vcenter["digests"]["sha1"]]
        assert ("serverGuid" in query) == (version == "6.0")
        assert "sessionTicket" not in repr(endpoint)
        opened(endpoint)

    def test_usual_ports(self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles) -> None:
        for version, port in (("5.5", 7343), ("6.0", 9443)):
            vsphere.set_vcenter(api_version=version)
            endpoint = consoles_of(vsphere.vcenter_settings(backend="vcenter")).connect(WEB_1)
            assert (endpoint.host, endpoint.port) == (vsphere.vcenter["host"], port)

    def test_a_vm_that_does_not_run_is_refused_before_a_ticket_is_taken(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        vsphere.set_vcenter(api_version="5.5")
        consoles = consoles_of(vsphere.vcenter_settings(backend="auto"))
        consoles.connect(WEB_1)
        vsphere.power_off("web-1")
        before = vsphere.calls()["calls"]["AcquireCloneTicket"]
        for instance in (WEB_1, OFF_1):
            with pytest.raises(Exception, match="powered off"):
                consoles.connect(instance)
        assert vsphere.calls()["calls"]["AcquireCloneTicket"] == before

    def test_6_5_and_later_have_none(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        vsphere.set_vcenter(api_version="6.5")
        with pytest.raises(TicketRefused, match="backend = webmks or auto"):
            consoles_of(vsphere.vcenter_settings(backend="vcenter")).connect(WEB_1)

    def test_the_plain_port_is_not_used_unless_the_operator_says_so(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        """Who has a clone ticket has all rights of our vCenter user."""
        vsphere.set_vcenter(api_version="5.5")
        plain = vsphere.vcenter_settings(backend="vcenter", console_port=7331)
        with pytest.raises(TicketRefused, match="not encrypted"):
            consoles_of(plain).connect(WEB_1)
        insecure = vsphere.vcenter_settings(
            backend="vcenter", console_port=7331, ca_file=None, insecure=True
        )
        assert not consoles_of(insecure).connect(WEB_1).tls

    def test_a_name_with_an_ampersand_stays_a_name(self) -> None:
        from mksfilter.backends.vsphere.client import VM

        class Session:
            certificate = b"der"

            def connect(self) -> About:
                return About("", (5, 5), "", True)

            def fqdn(self) -> str:
                return ""

        vm = VM("vm-7", "u", "a&sessionTicket=b#c d", "poweredOn", "connected")
        endpoint = VCenterConsole(settings()).endpoint(Session(), vm, Ticket("T"))  # type: ignore[arg-type]
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(endpoint.resource).query)
        assert query["vmName"] == ["a&sessionTicket=b#c d"]
        assert query["sessionTicket"] == ["T"]


class TestMKSAgainstTheSimulator:
    @pytest.mark.parametrize("version", ["5.5", "6.7", "8.0"])
    def test_authd_takes_the_ticket(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles, version: str
    ) -> None:
        vsphere.set_vcenter(api_version=version)
        endpoint = consoles_of(vsphere.vcenter_settings(backend="mks")).connect(WEB_1)
        with socket.create_connection((endpoint.host, endpoint.port), 5) as raw:
            assert b"SSL Required" in raw.recv(4096)
            with encrypted(raw, endpoint) as tls:
                tls.sendall(f"USER {endpoint.ticket}\r\n".encode())
                assert tls.recv(4096).startswith(b"331")
                tls.sendall(f"PASS {endpoint.ticket}\r\n".encode())
                assert tls.recv(4096).startswith(b"230")
