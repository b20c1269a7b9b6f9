"""The simulated vCenter, as pyvmomi 9 sees it."""

from __future__ import annotations

import http.client
import time

import pytest
from pyVim.connect import SmartConnect
from pyVmomi import vim, vmodl

from mksfilter.simulator.client import DB_1, OFF_1, WEB_1

VERSIONS = {
    "5.5": "vim.version.version9",
    "6.0": "vim.version.version10",
    "7.0": "vim.version.v7_0",
    "7.0.3.1": "vim.version.v7_0_3_1",
    "8.0": "vim.version.v8_0_0_0",
    "9.0": "vim.version.v9_0_0_0",
}


class TestSessions:
    def test_login_says_who_is_logged_in(self, client, vsphere):
        manager = client.login().content.sessionManager
        assert manager.currentSession.userName == vsphere.vcenter["username"]

    @pytest.mark.parametrize("wrong", [{"pwd": "wrong"}, {"user": "nobody"}])
    def test_wrong_credentials_are_an_invalid_login(self, client, wrong):
        with pytest.raises(vim.fault.InvalidLogin):
            client.login(**wrong)

    def test_second_login_in_a_session_is_an_invalid_login(self, client, vsphere):
        manager = client.login().content.sessionManager
        with pytest.raises(vim.fault.InvalidLogin):
            manager.Login(vsphere.vcenter["username"], vsphere.vcenter["password"], None)

    def test_refused_logins(self, client, vsphere):
        vsphere.set_vcenter(refuse_logins=True)
        with pytest.raises(vim.fault.InvalidLogin):
            client.login()

    def test_logout_ends_the_session(self, client, vsphere):
        content = client.login().content
        content.sessionManager.Logout()

        assert vsphere.calls()["sessions"] == 0
        with pytest.raises(vim.fault.NotAuthenticated):
            content.searchIndex.FindByUuid(None, WEB_1, True, True)

    def test_expired_session_is_not_authenticated_and_can_log_in_again(self, client, vsphere):
        content = client.login().content
        vsphere.expire_sessions()

        with pytest.raises(vim.fault.NotAuthenticated):
            content.searchIndex.FindByUuid(None, WEB_1, True, True)
        content.sessionManager.Login(vsphere.vcenter["username"], vsphere.vcenter["password"])
        assert content.searchIndex.FindByUuid(None, WEB_1, True, True).name == "web-1"

    def test_session_that_lives_for_no_time_at_all(self, client, vsphere):
        vsphere.set_vcenter(session_lifetime=0)
        content = client.login().content
        with pytest.raises(vim.fault.NotAuthenticated):
            content.searchIndex.FindByUuid(None, WEB_1, True, True)


class TestVersions:
    @pytest.mark.parametrize(
        ("api_version", "shown"), [("5.5", "5.5"), ("7.0.3.1", "7.0.3.1"), ("9.0", "9.0.0.0")]
    )
    def test_smart_connect_finds_the_version(self, client, vsphere, api_version, shown):
        vsphere.set_vcenter(api_version=api_version)
        ready = vsphere.vcenter
        service = SmartConnect(
            host=ready["host"],
            port=ready["port"],
            user=ready["username"],
            pwd=ready["password"],
            sslContext=client.tls,
        )
        assert service.content.about.apiVersion == shown
        assert service.content.about.instanceUuid == ready["instance_uuid"]
        assert service._stub.version == VERSIONS[api_version]

    def test_version_that_the_server_does_not_speak(self, client, vsphere):
        vsphere.set_vcenter(api_version="6.0")
        with pytest.raises(vmodl.fault.InvalidRequest, match="Unsupported version"):
            client.login(version=VERSIONS["8.0"])

    @pytest.mark.parametrize(
        ("api_version", "fields"),
        [
            ("6.0", {"sslThumbprint"}),
            ("7.0", {"sslThumbprint", "url"}),
            ("7.0.3.1", {"sslThumbprint", "url", "certThumbprintList"}),
            ("9.0", {"sslThumbprint", "url", "certThumbprintList", "sslCertificate"}),
        ],
    )
    def test_ticket_has_the_fields_of_its_version(self, client, vsphere, api_version, fields):
        vsphere.set_vcenter(api_version=api_version)
        ticket = client.ticket(version=VERSIONS[api_version])

        optional = {"sslThumbprint", "url", "certThumbprintList", "sslCertificate"}
        assert {name for name in optional if getattr(ticket, name)} == fields

    def test_old_client_of_a_new_server_gets_an_old_ticket(self, client):
        assert not client.ticket(version=VERSIONS["6.0"]).url

    def test_webmks_came_with_6_0(self, client, vsphere):
        vsphere.set_vcenter(api_version="5.5")
        vm = client.vm(version=VERSIONS["5.5"])

        assert vm.AcquireTicket("mks").ticket
        with pytest.raises(vmodl.fault.InvalidArgument):
            vm.AcquireTicket("webmks")

    @pytest.mark.parametrize("api_version", ["7.0", "8.0"])
    def test_connections_came_with_7_0_1(self, client, vsphere, api_version):
        vm = client.vm()
        vsphere.set_vcenter(api_version=api_version)
        vm._stub.versionId = '"urn:vim25/7.0.0.0"'  # pyvmomi itself would not ask
        with pytest.raises(vmodl.fault.MethodNotFound):
            vm.QueryConnections()


class TestInventory:
    def test_vm_is_found_by_instance_uuid(self, client):
        vm = client.vm(WEB_1)
        assert (vm.name, vm.config.instanceUuid) == ("web-1", WEB_1)

    def test_instance_uuid_is_not_the_bios_uuid(self, client):
        index = client.login().content.searchIndex
        assert index.FindByUuid(None, WEB_1, True, False) is None

        bios = index.FindByUuid(None, WEB_1, True, True).config.uuid
        assert index.FindByUuid(None, bios, True, False).name == "web-1"

    def test_find_all(self, client):
        index = client.login().content.searchIndex
        assert [vm.name for vm in index.FindAllByUuid(None, WEB_1, True, True)] == ["web-1"]
        assert index.FindAllByUuid(None, "no such", True, True) == []

    def test_deleted_vm_is_gone(self, client, vsphere):
        vm = client.vm()
        vsphere.delete(WEB_1)

        assert client.vm() is None
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            vm.AcquireTicket("webmks")

    def test_reregistered_vm_has_another_id(self, client, vsphere):
        before = client.vm()
        assert before.AcquireTicket("webmks")
        vsphere.reregister(WEB_1)

        assert client.vm()._moId != before._moId
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            before.AcquireTicket("webmks")

    def test_vm_found_may_bear_another_uuid(self, client, vsphere):
        vsphere.set_vm(WEB_1, reported_uuid=DB_1)
        assert client.vm(WEB_1).config.instanceUuid == DB_1

    def test_states_by_single_properties(self, client, vsphere):
        vm = client.vm(OFF_1)
        vsphere.set_host(0, connected=False, maintenance=True)

        assert vm.runtime.powerState == "poweredOff"
        assert vm.runtime.connectionState == "disconnected"
        assert vm.runtime.host.name == "esxi-1.vsphere.test"
        assert vm.runtime.host.runtime.inMaintenanceMode is True

    def test_properties_of_several_vms_in_one_call(self, client, vsphere):
        content = client.login().content
        found = [content.searchIndex.FindByUuid(None, uuid, True, True) for uuid in (WEB_1, OFF_1)]
        query = vmodl.query.PropertyCollector
        spec = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=vm) for vm in found],
            propSet=[
                query.PropertySpec(
                    type=vim.VirtualMachine,
                    pathSet=["config.instanceUuid", "runtime.powerState", "runtime.host"],
                )
            ],
        )
        before = vsphere.calls()["total"]
        answer = content.propertyCollector.RetrieveContents([spec])

        assert vsphere.calls()["total"] == before + 1
        values = [{prop.name: prop.val for prop in item.propSet} for item in answer]
        assert [v["config.instanceUuid"] for v in values] == [WEB_1, OFF_1]
        assert [v["runtime.powerState"] for v in values] == ["poweredOn", "poweredOff"]
        result = content.propertyCollector.RetrievePropertiesEx([spec], query.RetrieveOptions())
        assert [item.obj for item in result.objects] == found

    def test_unknown_property(self, client):
        content = client.login().content
        query = vmodl.query.PropertyCollector
        spec = query.FilterSpec(
            objectSet=[
                query.ObjectSpec(obj=content.searchIndex.FindByUuid(None, WEB_1, True, True))
            ],
            propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["config.nonsense"])],
        )
        with pytest.raises(vmodl.query.InvalidProperty):
            content.propertyCollector.RetrieveContents([spec])

    def test_options(self, client, vsphere):
        setting = client.login().content.setting
        assert setting.QueryOptions("VirtualCenter.FQDN")[0].value == vsphere.vcenter["fqdn"]
        with pytest.raises(vim.fault.InvalidName):
            setting.QueryOptions("No.Such")

    def test_privileges(self, client, vsphere):
        content = client.login().content
        wanted = ["System.View", "VirtualMachine.Interact.ConsoleInteract", "VirtualMachine.Delete"]

        def has():
            return content.authorizationManager.HasPrivilegeOnEntity(
                content.rootFolder, content.sessionManager.currentSession.key, wanted
            )

        assert has() == [True, True, False]
        vsphere.set_vcenter(permitted=False)
        assert has() == [True, False, False]


class TestTickets:
    def test_ticket_names_the_host(self, client, vsphere):
        ticket = client.ticket()

        host = vsphere.host_of(WEB_1)
        assert (ticket.host, ticket.port) == (host["address"], host["port"])
        assert ticket.url == f"wss://{ticket.host}:{ticket.port}/ticket/{ticket.ticket}"
        assert ticket.sslThumbprint == host["digests"]["sha1"]
        assert ticket.certThumbprintList[0].thumbprint == host["digests"]["sha256"]
        assert ticket.certThumbprintList[0].hashAlgorithm == "sha256"

    def test_ticket_after_vmotion_names_the_new_host(self, client, vsphere):
        before = client.ticket().port
        vsphere.vmotion(WEB_1)

        assert client.ticket().port == vsphere.host_of(WEB_1)["port"] != before

    @pytest.mark.parametrize(
        ("how", "host"),
        [
            ("absent", None),
            ("name", "esxi-1.vsphere.test"),
            ("short", "esxi-1"),
            ("ipv6", "::1"),
            ("unresolvable", "esxi-1.invalid"),
        ],
    )
    def test_ways_to_name_the_host(self, client, vsphere, how, host):
        vsphere.set_vcenter(ticket_host=how)
        ticket = client.ticket()

        assert ticket.host == host
        if how == "ipv6":
            assert ticket.url.startswith(f"wss://[::1]:{ticket.port}/")

    def test_port_and_url_may_be_absent(self, client, vsphere):
        vsphere.set_vcenter(ticket_port="absent", ticket_url="absent")
        ticket = client.ticket()
        assert (ticket.port, ticket.url) == (None, None)

    @pytest.mark.parametrize(
        ("how", "sha1", "sha256"),
        [
            ("sha1", True, False),
            ("list", False, True),
            ("both", True, True),
            ("none", False, False),
        ],
    )
    def test_digests_that_a_ticket_carries(self, client, vsphere, how, sha1, sha256):
        vsphere.set_vcenter(ticket_digests=how)
        ticket = client.ticket()
        assert (bool(ticket.sslThumbprint), bool(ticket.certThumbprintList)) == (sha1, sha256)

    def test_wrong_digests(self, client, vsphere):
        vsphere.set_vcenter(ticket_digests="wrong")
        ticket = client.ticket()
        digests = vsphere.host_of(WEB_1)["digests"]
        assert ticket.sslThumbprint != digests["sha1"]
        assert ticket.certThumbprintList[0].thumbprint != digests["sha256"]

    def test_mks_ticket_leads_to_authd(self, client, vsphere):
        host = vsphere.host_of(WEB_1)
        ticket = client.ticket(kind="mks")
        assert (ticket.port, ticket.url) == (host["authd_port"], None)
        assert client.vm().AcquireMksTicket().port == host["authd_port"]


class TestFaults:
    def test_powered_off(self, client):
        with pytest.raises(vim.fault.InvalidPowerState) as caught:
            client.ticket(OFF_1)
        assert caught.value.existingState == "poweredOff"

    def test_suspended(self, client, vsphere):
        vsphere.suspend(WEB_1)
        with pytest.raises(vim.fault.InvalidPowerState) as caught:
            client.ticket()
        assert caught.value.existingState == "suspended"

    @pytest.mark.parametrize("scope", ["vm", "vcenter"])
    def test_missing_privilege_is_named(self, client, vsphere, scope):
        vsphere.set_all(scope, permitted=False)
        with pytest.raises(vim.fault.NoPermission) as caught:
            client.ticket()
        assert not isinstance(caught.value, vim.fault.NotAuthenticated)
        assert caught.value.privilegeId == "VirtualMachine.Interact.ConsoleInteract"
        assert caught.value.object == client.vm()

    def test_connection_limit(self, client, vsphere):
        vsphere.set_vm(WEB_1, max_connections=1)
        console = client.console()

        with pytest.raises(vim.fault.MksConnectionLimitReached) as caught:
            client.ticket()
        assert caught.value.connectionLimit == 1
        console.close()
        vsphere.connections(WEB_1, count=0)
        assert client.ticket().ticket

    def test_disconnected_host(self, client, vsphere):
        vsphere.set_host(0, connected=False)
        with pytest.raises(vmodl.fault.HostNotConnected):
            client.ticket()

    def test_refused_ticket(self, client, vsphere):
        vsphere.set_vcenter(refuse_tickets=True)
        with pytest.raises(vim.fault.InvalidState):
            client.ticket()

    def test_slow_vcenter(self, client, vsphere):
        service = client.login()
        vsphere.set_vcenter(delay=0.2)

        started = time.monotonic()
        service.CurrentTime()
        assert time.monotonic() - started >= 0.2

    def test_silent_vcenter_says_nothing_on_connections_old_and_new(self, client, vsphere):
        service = client.login(httpConnectionTimeout=0.3)
        vsphere.set_vcenter(silent=True)

        with pytest.raises(TimeoutError):
            service.CurrentTime()
        with pytest.raises(vim.fault.HostConnectFault, match="timed out"):
            client.login(httpConnectionTimeout=0.3)

    def test_vcenter_that_found_its_voice(self, client, vsphere):
        vsphere.set_vcenter(silent=True)
        vsphere.set_vcenter(silent=False)
        assert client.ticket().ticket


class TestConnections:
    def test_open_consoles_are_listed(self, client, vsphere):
        vm = client.vm()
        assert vm.QueryConnections() == []

        client.console()
        (connection,) = vm.QueryConnections()
        assert isinstance(connection, vim.VirtualMachine.MksConnection)
        assert connection.userName == vsphere.vcenter["username"]
        assert connection.client == "127.0.0.1"

    def test_the_ones_named_are_dropped(self, client, vsphere):
        vm = client.vm()
        client.console()
        client.console()
        first, second = vm.QueryConnections()

        assert vm.DropConnections([first]) is True
        assert [c.label for c in vm.QueryConnections()] == [second.label]
        assert vm.DropConnections([first]) is False

    def test_it_takes_the_privilege(self, client, vsphere):
        vsphere.set_vm(WEB_1, permitted=False)
        with pytest.raises(vim.fault.NoPermission):
            client.vm().QueryConnections()


class TestCounting:
    def test_calls_are_counted_by_method(self, client, vsphere):
        client.ticket()
        calls = vsphere.calls()
        assert calls["calls"]["FindByUuid"] == calls["calls"]["AcquireTicket"] == 1
        assert (calls["max_in_flight"], calls["in_flight"], calls["sessions"]) == (1, 0, 1)

    def test_connections_are_kept_alive(self, client, vsphere):
        client.ticket()
        assert vsphere.calls()["connections"] == 1


def test_what_is_not_soap_is_an_error_and_the_connection_lives_on(client, vsphere):
    ready = vsphere.vcenter
    connection = http.client.HTTPSConnection(ready["host"], ready["port"], context=client.tls)
    for path, body, status in (("/sdk", b"<no", 500), ("/sdk", b"<a/>", 500), ("/ui", b"", 404)):
        connection.request("POST", path, body)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()
