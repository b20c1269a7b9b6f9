"""The simulated ESXi hosts, as a WebSocket client sees them."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct

import pytest
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
)

from mksfilter.simulator.client import DB_1, WEB_1
from tests.simulator.viewing import Viewer, handshake


class TestTickets:
    def test_ticket_opens_the_vms_console(self, client):
        console = client.console(WEB_1)
        assert console.subprotocol == "binary"
        assert Viewer.of(console).name == "web-1"

    def test_consoles_of_two_vms_are_two_screens(self, client):
        assert Viewer.of(client.console(WEB_1)).name == "web-1"
        assert Viewer.of(client.console(DB_1)).name == "db-1"

    def test_ticket_is_good_once(self, client):
        url = client.ticket().url
        client.dial(url)
        with pytest.raises(InvalidStatus, match="403"):
            client.dial(url)

    def test_ticket_expires(self, client, vsphere):
        vsphere.set_vcenter(ticket_lifetime=0)
        url = client.ticket().url
        with pytest.raises(InvalidStatus, match="403"):
            client.dial(url)

    def test_ticket_is_good_at_its_host_alone(self, client, vsphere):
        url = client.ticket(WEB_1).url
        vsphere.vmotion(WEB_1)
        with pytest.raises(InvalidStatus, match="403"):
            client.dial(url)

    def test_ticket_of_a_vm_that_was_switched_off_since(self, client, vsphere):
        url = client.ticket(WEB_1).url
        vsphere.power_off(WEB_1)
        with pytest.raises(InvalidStatus, match="403"):
            client.dial(url)

    @pytest.mark.parametrize(("path", "status"), [("/ticket/0000", "403"), ("/", "404")])
    def test_what_is_no_ticket_is_refused(self, client, vsphere, path, status):
        host = vsphere.hosts[0]
        with pytest.raises(InvalidStatus, match=status):
            client.dial(f"wss://{host['address']}:{host['port']}{path}")

    def test_host_that_refuses_tickets(self, client, vsphere):
        vsphere.set_host(0, refuse_tickets=True)
        with pytest.raises(InvalidStatus, match="403"):
            client.console()

    def test_limit_holds_at_the_host_too(self, client, vsphere):
        vsphere.set_vm(WEB_1, max_connections=1)
        first, second = client.ticket().url, client.ticket().url
        client.dial(first)
        with pytest.raises(InvalidStatus, match="403"):
            client.dial(second)

    def test_hosts_listen_on_ipv6_under_the_same_port(self, client, vsphere):
        if not vsphere.hosts[0]["address6"]:
            pytest.skip("no IPv6 on this system")
        vsphere.set_vcenter(ticket_host="ipv6")
        assert Viewer.of(client.console()).name == "web-1"


class TestSubprotocol:
    @pytest.mark.parametrize("offered", [(), ("vmware-vvc",)])
    def test_client_that_does_not_offer_binary_is_dropped(self, client, offered):
        with pytest.raises((InvalidHandshake, OSError, EOFError)) as caught:
            client.dial(client.ticket().url, subprotocols=offered)
        assert not isinstance(caught.value, InvalidStatus)

    def test_binary_is_chosen_among_others(self, client):
        console = client.dial(client.ticket().url, subprotocols=("vmware-vvc", "binary"))
        assert console.subprotocol == "binary"


class TestCertificates:
    def presented(self, host):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((host["address"], host["port"]), timeout=5) as raw,
            context.wrap_socket(raw) as tls,
        ):
            return tls.getpeercert(binary_form=True)

    def test_each_host_has_its_own(self, vsphere):
        for host in vsphere.hosts:
            digest = hashlib.sha256(self.presented(host)).hexdigest()
            assert digest == host["thumbprint"].replace(":", "").lower()
        assert vsphere.hosts[0]["thumbprint"] != vsphere.hosts[1]["thumbprint"]

    def test_wrong_certificate(self, vsphere):
        host = vsphere.hosts[0]
        vsphere.set_host(0, wrong_certificate=True)
        digest = hashlib.sha256(self.presented(host)).hexdigest()
        assert digest != host["thumbprint"].replace(":", "").lower()


class TestConsolesThatEnd:
    @pytest.mark.parametrize(
        "end",
        [
            lambda vsphere: vsphere.power_off(WEB_1),
            lambda vsphere: vsphere.suspend(WEB_1),
            lambda vsphere: vsphere.vmotion(WEB_1),
            lambda vsphere: vsphere.delete(WEB_1),
            lambda vsphere: vsphere.drop(WEB_1),
            lambda vsphere: vsphere.reset(),
        ],
        ids=["power-off", "suspend", "vmotion", "delete", "drop", "reset"],
    )
    def test_console_is_cut_off_without_a_word(self, client, vsphere, end):
        console = client.console()
        Viewer.of(console)
        end(vsphere)

        with pytest.raises(ConnectionClosed) as caught:
            console.recv(timeout=5)
        assert caught.value.rcvd is None
        assert vsphere.connections(WEB_1) == []

    def test_console_that_ends_in_good_order(self, client, vsphere):
        console = client.console()
        vsphere.close(WEB_1)
        with pytest.raises(ConnectionClosedOK):
            list(iter(lambda: console.recv(timeout=5), None))
        assert vsphere.connections(WEB_1, count=0) == []

    def test_consoles_of_other_vms_stay(self, client, vsphere):
        viewer = Viewer.of(client.console(DB_1))
        vsphere.power_off(WEB_1)
        viewer.request()
        assert viewer.update()

    def test_client_that_leaves_is_forgotten(self, client, vsphere):
        console = client.console()
        assert len(vsphere.connections(WEB_1)) == 1
        console.close()
        assert vsphere.connections(WEB_1, count=0) == []


def test_silent_host_accepts_and_says_nothing(client, vsphere):
    vsphere.set_host(0, silent=True)
    with pytest.raises(TimeoutError):
        client.dial(client.ticket().url, open_timeout=0.5)


def test_silent_host_drops_who_waits_when_it_is_silent_no_more(vsphere):
    host = vsphere.hosts[0]
    vsphere.set_host(0, silent=True)
    with socket.create_connection((host["address"], host["port"]), timeout=5) as waiting:
        waiting.sendall(b"anyone?")
        waiting.settimeout(0.1)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        waiting.settimeout(5)
        vsphere.set_host(0, silent=False)
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)


class TestHostileConsoles:
    """What ``websockets``, which keeps to RFC 6455, makes of them."""

    @pytest.mark.parametrize(
        ("kind", "complaint"),
        [
            ("masked", "incorrect masking"),
            ("rsv", "reserved bits"),
            ("huge", "over size limit|too big"),
            ("long-control", "control frame too long"),
        ],
    )
    def test_frames_that_break_rfc_6455(self, client, vsphere, kind, complaint):
        vsphere.set_vm(WEB_1, hostile=kind)
        console = client.console()
        with pytest.raises(ConnectionClosed, match=complaint):
            list(console)

    def test_text_among_binary(self, client, vsphere):
        vsphere.set_vm(WEB_1, hostile="text")
        console = client.console()
        assert [console.recv(timeout=5) for _ in range(2)] == [b"RFB 003.008\n", "hello"]

    def test_reason_of_4_gib(self, client, vsphere):
        vsphere.set_vm(WEB_1, hostile="reason")
        console = client.console()
        assert console.recv(timeout=5) == b"RFB 003.008\n"
        console.send(b"RFB 003.008\n")
        assert console.recv(timeout=5) == b"\x00\xff\xff\xff\xff"
        assert all(console.recv(timeout=5) for _ in range(16))

    def test_console_that_never_reads(self, client, vsphere):
        vsphere.set_vm(WEB_1, hostile="deaf")
        console = client.console()
        assert console.recv(timeout=5) == b"RFB 003.008\n"
        console.socket.settimeout(0.3)
        with pytest.raises(ConnectionClosed) as caught:
            console.send(bytes(1 << 20) for _ in range(1000))
        assert caught.value.rcvd is None, "it said goodbye"

    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("redirect", (InvalidURI, InvalidStatus)),
            ("bad-accept", InvalidHandshake),
            ("other-subprotocol", NegotiationError),
        ],
    )
    def test_handshakes_gone_wrong(self, client, vsphere, kind, error):
        vsphere.set_vm(WEB_1, hostile=kind)
        with pytest.raises(error):
            client.dial(client.ticket().url)


class TestScreensForBenchmarks:
    def test_echo(self, client, vsphere):
        vsphere.set_vm(WEB_1, screen="echo")
        console = client.console()
        console.send(b"hello")
        assert console.recv(timeout=5) == b"hello"

    def test_stream_of_16_kib_messages(self, client, vsphere):
        vsphere.set_vm(WEB_1, screen="stream")
        console = client.console()
        assert {len(console.recv(timeout=5)) for _ in range(100)} == {16384}


class VNCServer:
    """One connection of a VNC server, which stands here for QEMU or Xvnc."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self):
        connection, _ = self.listener.accept()
        connection.settimeout(5)
        return connection


@pytest.fixture
def vnc():
    server = VNCServer()
    yield server
    server.listener.close()


class TestRealVNCServer:
    def test_bytes_pass_both_ways_and_the_version_comes_alone(self, client, vsphere, vnc):
        vsphere.set_vm(WEB_1, screen=vnc.address)
        console = client.console()
        with vnc.accept() as server:
            server.sendall(b"RFB 003.008\n\x01\x01")
            assert console.recv(timeout=5) == b"RFB 003.008\n"
            assert console.recv(timeout=5) == b"\x01\x01"
            console.send(b"RFB 003.008\n")
            assert server.recv(100) == b"RFB 003.008\n"

    def test_console_ends_with_the_server(self, client, vsphere, vnc):
        vsphere.set_vm(WEB_1, screen=vnc.address)
        console = client.console()
        with vnc.accept() as server:
            server.sendall(b"RFB 003.008\n")
            console.recv(timeout=5)
        with pytest.raises(ConnectionClosed):
            console.recv(timeout=5)

    def test_server_sees_the_client_leave(self, client, vsphere, vnc):
        vsphere.set_vm(WEB_1, screen=vnc.address)
        console = client.console()
        with vnc.accept() as server:
            server.sendall(b"RFB 003.008\n")
            console.recv(timeout=5)
            console.close()
            assert server.recv(1) == b""

    def test_handshake_is_played_where_the_stream_starts_later(self, client, vsphere, vnc):
        vsphere.set_vm(WEB_1, screen=vnc.address)
        vsphere.set_vcenter(api_version="6.0", handshake="missing")
        ready = vsphere.vcenter
        service = client.login(version="vim.version.version10")
        console = client.dial(
            f"ws://{ready['host']}:{ready['console_ports']['ws']}/console/authd"
            f"?vmId={vsphere.vm(WEB_1)['moid']}&vmName=web-1&host={ready['fqdn']}:443"
            f"&sessionTicket={service.content.sessionManager.AcquireCloneTicket()}"
            f"&thumbprint={ready['digests']['sha1']}"
        )
        init = struct.pack(">HH16xI", 640, 480, 3) + b"vnc"
        with vnc.accept() as server:
            server.sendall(b"RFB 003.008\n")
            assert server.recv(12) == b"RFB 003.008\n"
            server.sendall(b"\x01\x01")
            assert server.recv(1) == b"\x01"
            server.sendall(bytes(4))
            assert server.recv(1) == b"\x01"
            server.sendall(init)
            assert console.recv(timeout=5) == init


def test_many_consoles_at_once(client, vsphere):
    consoles = [client.dial(client.vm().AcquireTicket("webmks").url) for _ in range(20)]
    for console in consoles:
        handshake(console)
    assert len(vsphere.connections(WEB_1, count=20)) == 20
