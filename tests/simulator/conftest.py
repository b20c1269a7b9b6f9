"""Clients of the simulated vSphere that are not ours: pyvmomi and websockets."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from pyVim.connect import Connect, Disconnect
from websockets.sync.client import connect

from mksfilter.simulator.client import WEB_1


class Client:
    """A pyvmomi login, and WebSockets to where its tickets lead."""

    def __init__(self, vsphere, stack, vcenter=0):
        self.vsphere = vsphere
        self._stack = stack
        self._ready = vsphere.vcenters[vcenter]
        self.tls = ssl.create_default_context(cafile=self._ready["ca_file"])

    def login(self, version="vim.version.v8_0_0_0", **overrides):
        values = {
            "host": self._ready["host"],
            "port": self._ready["port"],
            "user": self._ready["username"],
            "pwd": self._ready["password"],
            "version": version,
            "sslContext": self.tls,
            **overrides,
        }
        service = Connect(**values)
        self._stack.callback(Disconnect, service)
        return service

    def vm(self, uuid=WEB_1, **login):
        return self.login(**login).content.searchIndex.FindByUuid(None, uuid, True, True)

    def ticket(self, uuid=WEB_1, kind="webmks", **login):
        return self.vm(uuid, **login).AcquireTicket(kind)

    def dial(self, url, subprotocols=("binary",), **options):
        """A WebSocket, closed at the end of the test."""
        options = {"close_timeout": 1, "proxy": None, **options}
        if url.startswith("wss:"):
            options["ssl"] = self.tls
        return self._stack.enter_context(connect(url, subprotocols=subprotocols or None, **options))

    def console(self, uuid=WEB_1):
        return self.dial(self.ticket(uuid).url)


@pytest.fixture
def client_of():
    """Makes clients of simulators that were started with flags of their own."""
    with contextlib.ExitStack() as stack:
        yield lambda vsphere, vcenter=0: Client(vsphere, stack, vcenter)


@pytest.fixture
def client(vsphere, client_of):
    return client_of(vsphere)
