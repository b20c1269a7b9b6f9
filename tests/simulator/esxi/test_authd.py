"""The simulated authd, by the steps of nova-mksproxy 0.0.2 and against them."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl

import pytest

from mksfilter.simulator.client import DB_1, WEB_1
from tests.simulator.viewing import Viewer


class AuthdClient:
    """Both TLS layers of authd, one after the other on the same socket."""

    def __init__(self, host, port):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        raw = socket.create_connection((host, port), timeout=5)
        assert raw.recv(1024).startswith(b"220 ")
        self.tls = self.context.wrap_socket(raw)

    @property
    def digest(self):
        return hashlib.sha1(self.tls.getpeercert(binary_form=True)).hexdigest()

    def say(self, line):
        self.tls.sendall(f"{line}\r\n".encode())
        return self.tls.recv(1024).decode()

    def log_in(self, ticket):
        assert self.say(f"USER {ticket}").startswith("331 ")
        return self.say(f"PASS {ticket}")

    def connect(self, config_file):
        """``THUMBPRINT`` and ``CONNECT``; returns what the second TLS's digest should be."""
        word = base64.b64encode(os.urandom(12)).decode()
        code, digest, *_ = self.say(f"THUMBPRINT {word}").split()
        assert code == "200"
        answer = self.say(f"CONNECT {config_file} mks")
        if answer.startswith("200 "):
            raw = socket.socket(fileno=self.tls.detach())
            raw.settimeout(5)
            self.tls = self.context.wrap_socket(raw)
            self.tls.sendall(word.encode())
        return answer, digest.replace(":", "").lower()


@pytest.fixture
def authd():
    clients = []

    def open_(host, port):
        clients.append(AuthdClient(host, port))
        return clients[-1]

    yield open_
    for client in clients:
        client.tls.close()


def test_display_stream_starts_at_server_init(client, authd):
    ticket = client.ticket(kind="mks")
    console = authd(ticket.host, ticket.port)
    assert console.digest == ticket.sslThumbprint.replace(":", "").lower()

    assert console.log_in(ticket.ticket).startswith("230 ")
    answer, digest = console.connect(ticket.cfgFile)
    assert answer.startswith("200 ")
    assert console.digest == digest

    viewer = Viewer(lambda: console.tls.recv(65536), console.tls.sendall)
    assert viewer.name == "web-1"
    viewer.request()
    assert viewer.update()[0] == (0, 0, viewer.width, viewer.height)


def test_full_handshake_when_told_so(client, authd, vsphere):
    vsphere.set_all("host", handshake="full")
    ticket = client.ticket(kind="mks")
    console = authd(ticket.host, ticket.port)
    console.log_in(ticket.ticket)
    console.connect(ticket.cfgFile)

    assert console.tls.recv(1024) == b"RFB 003.008\n"


def test_unknown_ticket_cannot_log_in(authd, vsphere):
    host = vsphere.hosts[0]
    assert authd(host["address"], host["authd_port"]).log_in("0000").startswith("530 ")


def test_ticket_is_good_once(client, authd):
    ticket = client.ticket(kind="mks")
    assert authd(ticket.host, ticket.port).log_in(ticket.ticket).startswith("230 ")
    assert authd(ticket.host, ticket.port).log_in(ticket.ticket).startswith("530 ")


def test_webmks_ticket_is_no_authd_ticket(client, authd, vsphere):
    ticket = client.ticket(kind="webmks")
    host = vsphere.host_of(WEB_1)
    assert authd(ticket.host, host["authd_port"]).log_in(ticket.ticket).startswith("530 ")


def test_ticket_opens_no_other_vm(client, authd):
    ticket = client.ticket(kind="mks")
    console = authd(ticket.host, ticket.port)
    console.log_in(ticket.ticket)

    answer, _ = console.connect(client.ticket(DB_1, kind="mks").cfgFile)
    assert answer.startswith("553 ")


def test_second_certificate_other_than_announced(client, authd, vsphere):
    vsphere.set_all("host", wrong_display_certificate=True)
    ticket = client.ticket(kind="mks")
    console = authd(ticket.host, ticket.port)
    console.log_in(ticket.ticket)

    _, digest = console.connect(ticket.cfgFile)
    assert console.digest != digest
