"""Every kind of console, and tickets in every form, from token to pixels and keys."""

from __future__ import annotations

import pytest

from tests.support.deployment import AUTOMATIC, KINDS, Deployment


def watch(deployment: Deployment, kind: str) -> str:
    """Open the console of that kind, look and type; returns where it was."""
    machine = deployment.machine(kind)
    token = deployment.token(kind)
    with deployment.proxy.viewer(token) as viewer:
        assert viewer.name == machine
        assert viewer.framebuffer().getextrema() != ((0, 0), (0, 0), (0, 0))
        viewer.type("seen ")
        deployment.vsphere.screen(machine, text="seen", timeout=20)
        assert len(deployment.vsphere.connections(machine)) == 1
    assert deployment.vsphere.connections(machine, count=0) == []
    return deployment.console_of(token)


def esxi(deployment: Deployment, kind: str, port: str = "port", address: str = "address") -> str:
    """Where that kind's machine has its console, on its host."""
    host = deployment.vsphere.host_of(deployment.machine(kind))
    return f"[{host[address]}]:{host[port]}" if "6" in address else f"{host[address]}:{host[port]}"


def vcenter(deployment: Deployment, kind: str, port: str) -> str:
    """A console proxy of that kind's own vCenter."""
    name = deployment.vsphere.vm(deployment.machine(kind))["vcenter"]
    ready = next(one for one in deployment.vsphere.vcenters if one["name"] == name)
    return f"{ready['host']}:{ready['console_ports'][port]}"


class TestKind:
    def test_webmks_is_on_the_host(self, deployment):
        assert watch(deployment, "webmks") == esxi(deployment, "webmks")

    def test_5_5s_console_proxy_is_on_the_vcenter(self, deployment):
        assert watch(deployment, "vcenter-55") == vcenter(deployment, "vcenter-55", "wss")

    def test_6_0s_console_proxy_is_on_the_vcenters_web_client(self, deployment):
        assert watch(deployment, "vcenter-60") == vcenter(deployment, "vcenter-60", "web_client")

    def test_mks_is_the_hosts_authd(self, deployment):
        assert watch(deployment, "mks") == esxi(deployment, "mks", "authd_port")

    @pytest.mark.parametrize("kind", ["vcenter-55", "vcenter-60", "mks"])
    def test_a_handshake_that_is_there_after_all_is_not_played_twice(self, deployment, kind):
        change = deployment.set_host if kind == "mks" else deployment.set_vcenter
        change(kind, handshake="full")
        watch(deployment, kind)

    @pytest.mark.parametrize("kind", KINDS)
    def test_view_only_shows_and_does_not_type(self, deployment, kind):
        machine = deployment.machine(kind)
        with (
            deployment.proxy.viewer(deployment.token(kind, mode="view")) as watcher,
            deployment.proxy.viewer(deployment.token(kind)) as writer,
        ):
            watcher.type("rm ")
            watcher.framebuffer()
            writer.type("done ")
            lines = deployment.vsphere.screen(machine, text="done", timeout=20)
            assert not any("rm" in line for line in lines)


class TestTicket:
    @pytest.mark.parametrize("digests", ["sha1", "list", "both", "none"])
    @pytest.mark.parametrize(
        ("url", "host", "port"),
        [
            ("present", "address", "present"),
            ("present", "ipv6", "absent"),
            ("present", "absent", "absent"),
            ("absent", "address", "present"),
            ("absent", "ipv6", "present"),
        ],
    )
    def test_of_webmks_in_every_form(self, deployment, url, host, port, digests):
        deployment.set_vcenter(
            "webmks",
            api_version="8.0.3.0",
            expire_sessions=True,
            ticket_url=url,
            ticket_host=host,
            ticket_port=port,
            ticket_digests=digests,
        )
        address = "address6" if host == "ipv6" else "address"
        assert watch(deployment, "webmks") == esxi(deployment, "webmks", address=address)

    @pytest.mark.parametrize("digests", ["sha1", "list", "both", "none"])
    @pytest.mark.parametrize("host", ["address", "ipv6"])
    def test_of_mks_in_every_form(self, deployment, host, digests):
        deployment.set_vcenter(
            "mks",
            api_version="8.0.3.0",
            expire_sessions=True,
            ticket_host=host,
            ticket_digests=digests,
        )
        address = "address6" if host == "ipv6" else "address"
        assert watch(deployment, "mks") == esxi(deployment, "mks", "authd_port", address)

    @pytest.mark.parametrize("api_version", ["8.0.3.0", "9.0"])
    @pytest.mark.parametrize("digests", ["auto", "list", "none"])
    @pytest.mark.parametrize("kind", ["webmks", "mks"])
    def test_of_a_host_with_tls_1_3_alone_and_no_sha_1(
        self, deployment, kind, digests, api_version
    ):
        """Of the profile that VMware's hardening guide suggests; two consoles, the second of which
        resumes the TLS session where the host gives tickets for that."""
        deployment.set_vcenter(
            kind, api_version=api_version, expire_sessions=True, ticket_digests=digests
        )
        deployment.set_host(kind, tls_profile="NIST_2024_TLS_13_ONLY")
        port = "authd_port" if kind == "mks" else "port"
        for _ in range(2):
            assert watch(deployment, kind) == esxi(deployment, kind, port)

    @pytest.mark.parametrize("port", ["present", "absent"])
    @pytest.mark.parametrize("host", ["absent", "short", "name", "unresolvable"])
    @pytest.mark.parametrize("kind", ["webmks-fixed", "mks-fixed"])
    def test_that_leads_nowhere_from_here_is_put_right_by_configuration(
        self, deployment, kind, host, port
    ):
        deployment.set_vcenter(kind, ticket_url="absent", ticket_host=host, ticket_port=port)
        settings = deployment.settings[kind]
        assert watch(deployment, kind) == f"{settings.console_host}:{settings.console_port}"

    @pytest.mark.parametrize("kind", ["webmks", "mks"])
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"ticket_host": "unresolvable", "ticket_url": "absent"}, "host-unresolvable"),
            ({"ticket_digests": "wrong"}, "certificate-mismatch"),
        ],
    )
    def test_that_leads_nowhere_or_to_a_stranger_is_not_followed(
        self, deployment, kind, fields, reason
    ):
        deployment.set_vcenter(kind, **fields)
        token = deployment.token(kind)
        assert deployment.proxy.upgrade(token).status == 502
        jti = deployment.proxy.codec.verify(token).jti
        assert f"reason={reason}" in deployment.proxy.wait_for_log(f"jti={jti}")

    def test_without_any_digest_a_host_that_no_ca_vouches_for_is_refused(self, deployment):
        # "esxi-1" is in no certificate, and the connection itself would succeed.
        deployment.set_vcenter(
            "webmks-fixed", ticket_url="absent", ticket_host="short", ticket_digests="none"
        )
        token = deployment.token("webmks-fixed")
        assert deployment.proxy.upgrade(token).status == 502
        assert "reason=certificate-mismatch" in deployment.proxy.wait_for_log(
            f"jti={deployment.proxy.codec.verify(token).jti}"
        )


class TestAutomatic:
    @pytest.mark.parametrize("version", AUTOMATIC)
    def test_the_kind_follows_from_the_version(self, deployment, version):
        kind = f"auto-{version}"
        expected = vcenter(deployment, kind, "wss") if version == "5.5" else esxi(deployment, kind)
        assert watch(deployment, kind) == expected

    def test_a_vcenter_that_was_upgraded_is_noticed(self, deployment):
        assert watch(deployment, "auto-5.5") == vcenter(deployment, "auto-5.5", "wss")
        deployment.set_vcenter("auto-5.5", api_version="7.0", expire_sessions=True)
        token = deployment.token("auto-5.5")
        # console_port was for the old one; what counts is that a webmks ticket is asked for.
        deployment.proxy.upgrade(token)
        name = deployment.vsphere.vm(deployment.machine("auto-5.5"))["vcenter"]
        assert deployment.vsphere.calls(name)["calls"]["AcquireTicket"] == 1
