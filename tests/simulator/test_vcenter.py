"""The simulated vCenter, as pyvmomi sees it."""

from __future__ import annotations

import ssl

import pytest
from pyVim.connect import Connect
from pyVmomi import vim

from mksfilter.simulator.client import OFF_1, WEB_1


@pytest.fixture
def login(vsphere):
    def connect(vsphere=vsphere, version="vim.version.v8_0_0_0", **overrides):
        ready = vsphere.vcenter
        values = {"user": ready["username"], "pwd": ready["password"], **overrides}
        context = ssl.create_default_context(cafile=ready["ca_file"])
        return Connect(
            host=ready["host"], port=ready["port"], version=version, sslContext=context, **values
        )

    return connect


def test_login_and_about(login):
    about = login().content.about

    assert about.apiType == "VirtualCenter"
    assert about.apiVersion == "8.0.0.0"


def test_wrong_password_is_invalid_login(login):
    with pytest.raises(vim.fault.InvalidLogin):
        login(pwd="wrong")


def test_machine_is_found_by_instance_uuid(login):
    vm = login().content.searchIndex.FindByUuid(None, WEB_1, True, True)

    assert vm.name == "web-1"
    assert vm.config.instanceUuid == WEB_1
    assert vm.runtime.powerState == "poweredOn"
    assert vm.runtime.host.name == "esxi-1.vsphere.test"


def test_instance_uuid_is_not_the_bios_uuid(login):
    assert login().content.searchIndex.FindByUuid(None, WEB_1, True, False) is None


def test_webmks_ticket(login, vsphere):
    vm = login().content.searchIndex.FindByUuid(None, WEB_1, True, True)
    ticket = vm.AcquireTicket("webmks")

    host = vsphere.host_of(WEB_1)
    assert (ticket.host, ticket.port) == (host["address"], host["port"])
    assert ticket.url == f"wss://{ticket.host}:{ticket.port}/ticket/{ticket.ticket}"
    assert ticket.sslThumbprint == host["digests"]["sha1"]
    assert ticket.certThumbprintList[0].thumbprint == host["digests"]["sha256"]


def test_powered_off_machine_has_no_ticket(login):
    vm = login().content.searchIndex.FindByUuid(None, OFF_1, True, True)
    with pytest.raises(vim.fault.InvalidPowerState) as caught:
        vm.AcquireTicket("webmks")

    assert caught.value.existingState == "poweredOff"


def test_expired_session_is_not_authenticated(login, vsphere):
    content = login().content
    vsphere.expire_sessions()

    with pytest.raises(vim.fault.NotAuthenticated):
        content.searchIndex.FindByUuid(None, WEB_1, True, True)
