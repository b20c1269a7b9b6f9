"""The simulated ESXi host, as a WebSocket client sees it."""

from __future__ import annotations

import ssl

import pytest
from pyVim.connect import Connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from mksfilter.simulator.client import WEB_1


@pytest.fixture
def tls(vsphere):
    return ssl.create_default_context(cafile=vsphere.vcenter["ca_file"])


@pytest.fixture
def ticket_url(vsphere, tls):
    ready = vsphere.vcenter
    service = Connect(
        host=ready["host"],
        port=ready["port"],
        user=ready["username"],
        pwd=ready["password"],
        version="vim.version.v8_0_0_0",
        sslContext=tls,
    )

    def take(uuid=WEB_1):
        vm = service.content.searchIndex.FindByUuid(None, uuid, True, True)
        return vm.AcquireTicket("webmks").url

    return take


def handshake(console):
    """Play RFB 3.8 up to ServerInit and return the desktop's name."""
    assert console.recv(timeout=5) == b"RFB 003.008\n"
    console.send(b"RFB 003.008\n")
    assert console.recv(timeout=5) == b"\x01\x01"
    console.send(b"\x01")
    assert console.recv(timeout=5) == bytes(4)
    console.send(b"\x01")
    init = console.recv(timeout=5)
    return init[24:].decode()


def test_ticket_opens_the_machines_console(ticket_url, tls):
    with connect(ticket_url(), ssl=tls, subprotocols=["binary"]) as console:
        assert console.subprotocol == "binary"
        assert handshake(console) == "web-1"


def test_ticket_is_good_once(ticket_url, tls):
    url = ticket_url()
    with connect(url, ssl=tls, subprotocols=["binary"]):
        with pytest.raises(InvalidStatus) as caught:
            connect(url, ssl=tls, subprotocols=["binary"])
        assert caught.value.response.status_code == 403


def test_client_without_subprotocol_is_dropped(ticket_url, tls):
    with pytest.raises((InvalidHandshake, OSError, EOFError)):
        connect(ticket_url(), ssl=tls)


def test_typed_text_is_echoed(ticket_url, tls, vsphere):
    with connect(ticket_url(), ssl=tls, subprotocols=["binary"]) as console:
        handshake(console)
        for character in b"hello":
            console.send(bytes([4, 1, 0, 0, 0, 0, 0, character]))
        assert vsphere.screen(WEB_1, text="hello")[-1] == "web-1 login: hello"
