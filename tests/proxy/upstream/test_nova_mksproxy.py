"""A second opinion on authd, from nova-mksproxy 0.0.2, the older proxy for such consoles.

Its own ``handshake()`` was run under Python 2.7.18 against the simulated authd: it came through to
ServerInit, and noticed a wrong first and a wrong second certificate. Its steps stand below, and our
side has to take the same ones. Where both are at hand it is run itself: ``MKSFILTER_PYTHON2`` names
the interpreter, ``MKSFILTER_NOVA_MKSPROXY`` the directory with its unpacked source.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import threading

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.proxy.upstream.dial import dial
from mksfilter.simulator.client import WEB_1
from mksfilter.simulator.net.certificates import Authority

TICKET, CONFIG_FILE = "52ab-ticket", "/vmfs/volumes/datastore 1/web-1/web-1.vmx"

# Who does what, in this order; nobody says a word more. The answer to THUMBPRINT has the SHA-1 of
# the certificate that the second TLS presents as its second word. That TLS runs on the TCP
# connection, in place of the first and not within it, and begins with the client's random word.
STEPS = (
    ("host says", "220 ready"),
    ("TLS with", "first"),
    ("client says", "USER {ticket}"),
    ("host says", "331 password"),
    ("client says", "PASS {ticket}"),
    ("host says", "230 welcome"),
    ("client says", "THUMBPRINT {word}"),
    ("host says", "200 {second}"),
    ("client says", "CONNECT {config_file} mks"),
    ("host says", "200 connect"),
    ("TLS with", "second"),
    ("client sends", "{word}"),
)


class Host(threading.Thread):
    """Takes one client through the steps and tells on it."""

    def __init__(self):
        super().__init__(daemon=True)
        authority = Authority()
        self.certificates = {
            name: authority.issue(f"{name}.test", ["127.0.0.1"]) for name in ("first", "second")
        }
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.port = self._listener.getsockname()[1]
        self.heard: list[tuple[str, bool]] = []
        self.more = b""
        self._facts = {
            "ticket": TICKET,
            "config_file": CONFIG_FILE,
            "second": self.certificates["second"].digests()["sha1"],
        }

    def run(self):
        sock, _ = self._listener.accept()
        sock.settimeout(20)
        for action, what in STEPS:
            if action == "host says":
                sock.sendall(what.format(**self._facts).encode() + b"\r\n")
            elif action == "TLS with":
                raw = socket.socket(fileno=sock.detach())
                raw.settimeout(20)
                sock = self.certificates[what].context.wrap_socket(raw, server_side=True)
            else:
                self._hear(sock, action, what)
        sock.sendall(b"display")
        with contextlib.suppress(OSError):
            self.more = sock.recv(100)
        sock.close()

    def _hear(self, sock, action, what):
        end = b"\r\n" if action == "client says" else b""
        if "word" not in self._facts and "{word}" in what:
            line = receive(sock, lambda data: data.endswith(end))
            self._facts["word"] = line.split()[-1].decode()
        else:
            wanted = what.format(**self._facts).encode() + end
            line = receive(sock, lambda data: len(data) >= len(wanted))
        self.heard.append((what, line == what.format(**self._facts).encode() + end))

    @property
    def word(self):
        return base64.b64decode(self._facts["word"], validate=True)


def receive(sock, enough):
    data = b""
    while not enough(data):
        data += sock.recv(1) or pytest.fail(f"the client left after {data!r}")
    return data


def test_our_steps_are_the_same():
    host = Host()
    host.start()
    upstream = dial(
        Endpoint(
            kind="authd",
            host="127.0.0.1",
            port=host.port,
            resource="",
            server_name="first.test",
            digests=(CertificateDigest.parse(host.certificates["first"].digests()["sha1"]),),
            ticket=TICKET,
            config_file=CONFIG_FILE,
        ),
        timeout=20,
        allowed_networks=["127.0.0.0/8"],
    )
    assert upstream.framing == "bytes"
    upstream.close()
    host.join(20)
    assert host.heard == [(what, True) for action, what in STEPS if action.startswith("client")]
    assert len(host.word) == 12
    assert host.more == b""


PROGRAM = """
import struct, sys, types
module = types.ModuleType("websockify")
module.ProxyRequestHandler = object
sys.modules["websockify"] = module
from novaproxy import authd
host, port, ticket, config_file, digest = sys.argv[1:]
console = authd.handshake(host, int(port), ticket, config_file, digest)
start = console.read(24)
sys.stdout.write(console.read(struct.unpack("!I", start[20:])[0]))
"""


@pytest.mark.skipif(
    not {"MKSFILTER_PYTHON2", "MKSFILTER_NOVA_MKSPROXY"} <= os.environ.keys(),
    reason="optional: MKSFILTER_PYTHON2 and MKSFILTER_NOVA_MKSPROXY are not set",
)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({}, ""),
        ({"wrong_certificate": True}, "Server thumbprint doesn't match"),
        ({"wrong_display_certificate": True}, "Second thumbprint doesn't match"),
        ({"refuse_tickets": True}, "Expected 230 but received 530"),
    ],
)
def test_it_comes_through_the_simulated_authd_itself(vsphere, fault, words):
    consoles = Consoles([vsphere.vcenter_settings(backend="mks")])
    endpoint = consoles.connect(WEB_1)
    consoles.close()
    host = vsphere.host_of("web-1")
    vsphere.set_host(host["name"], **fault)
    digest = host["digests"]["sha1"].replace(":", "").lower()
    arguments = [endpoint.host, str(endpoint.port), endpoint.ticket, endpoint.config_file, digest]
    done = subprocess.run(
        [os.environ["MKSFILTER_PYTHON2"], "-c", PROGRAM, *arguments],
        cwd=os.environ["MKSFILTER_NOVA_MKSPROXY"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ("" if fault else "web-1")
    assert words in done.stderr
