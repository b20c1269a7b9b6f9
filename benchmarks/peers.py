"""The relays that are compared, each started as its documentation says."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.processes import spawn, stop, wait_for_port
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import WEB_1, SimulatedVSphere
from mksfilter.simulator.client import start as simulated_vsphere
from tests.support.ports import free_port

__all__ = [
    "PEERS",
    "Direct",
    "HAProxy",
    "Host",
    "Mksfilter",
    "Naive",
    "Nginx",
    "Peer",
    "TicketPeer",
    "Websockify",
    "websockify",
]

_INSTANCE = "00000000-0000-4000-8000-000000000001"


class Host:
    """The console host that all relays talk to."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "host.pem"
        self.der = _self_signed(self.certificate)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.console_host", str(self.certificate)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.ports: dict[str, int] = json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        stop(self.process)


class Peer:
    """One relay between the load and the host.

    :param link: ``tls`` or ``plain``, between relay and host; ``both``: TLS there and towards the
        browser too.
    """

    name = ""
    links = ("tls", "plain", "both")

    def __init__(self, host: Host, link: str, directory: Path) -> None:
        self.host = host
        self.link = link
        self.directory = directory / f"{self.name}-{link}"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = self.directory / "log"
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.host_tls = link != "plain"
        self.host_port = host.ports["tls" if self.host_tls else "plain"]
        self.browser_tls = link == "both"

    @classmethod
    def available(cls) -> bool:
        """Whether its program is installed, or can be."""
        return True

    @classmethod
    def link_for(cls, link: str) -> str:
        """What this relay speaks to its host when *link* is asked for; empty when it cannot."""
        return link if link in cls.links else ""

    def start(self) -> None:
        """Start listening."""
        raise NotImplementedError

    def target(self, path: str) -> dict[str, Any]:
        return {"port": self.port, "path": path, "tls": self.browser_tls}

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return bool(self.processes) and all(each.poll() is None for each in self.processes)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    @property
    def hosts(self) -> list[int]:
        """Processes of its own that it talks to."""
        return []

    def stop(self) -> None:
        for process in self.processes:
            stop(process)
        self.processes = []

    def restart(self) -> None:
        """Start anew, on another port: the old one may not be free yet."""
        self.stop()
        self.port = free_port()
        self.start()

    def _run(self, command: list[str], port: int = 0, **options: object) -> None:
        process = spawn(command, self.log, **options)
        self.processes.append(process)
        wait_for_port(port or self.port, process, self.log)


class Direct(Peer):
    """No relay: what the load and the host cost by themselves."""

    name = "direct"

    def start(self) -> None:
        self.port = self.host.ports["tls" if self.browser_tls else "plain"]


class HAProxy(Peer):
    """Debian's HAProxy with one thread, its defaults otherwise."""

    name = "HAProxy"

    @classmethod
    def available(cls) -> bool:
        return shutil.which("haproxy", path="/usr/sbin:/usr/bin") is not None

    def start(self) -> None:
        tls = " ssl verify none" if self.host_tls else ""
        crt = f" ssl crt {self.host.certificate}" if self.browser_tls else ""
        path = self.directory / "haproxy.cfg"
        path.write_text(
            f"global\n  nbthread 1\n  maxconn 9900\n"
            f"defaults\n  mode http\n  timeout client 1h\n  timeout server 1h\n"
            f"  timeout connect 10s\n  timeout tunnel 1h\n"
            f"frontend console\n  bind 127.0.0.1:{self.port}{crt}\n  default_backend host\n"
            f"backend host\n  server host 127.0.0.1:{self.host_port}{tls}\n"
        )
        self._run([shutil.which("haproxy", path="/usr/sbin:/usr/bin") or "", "-f", str(path)])


class Nginx(Peer):
    """Debian's nginx with one worker."""

    name = "nginx"

    @classmethod
    def available(cls) -> bool:
        return shutil.which("nginx", path="/usr/sbin:/usr/bin") is not None

    def start(self) -> None:
        scheme = "https" if self.host_tls else "http"
        pem = self.host.certificate
        crt = f" ssl; ssl_certificate {pem}; ssl_certificate_key {pem}" if self.browser_tls else ""
        path = self.directory / "nginx.conf"
        path.write_text(
            f"daemon off; worker_processes 1; pid {self.directory}/pid;\n"
            f"error_log {self.directory}/error.log;\n"
            f"worker_rlimit_nofile 20000;\nevents {{ worker_connections 20000; }}\n"
            f"http {{ access_log off;\n"
            + "".join(
                f"{kind}_temp_path {self.directory}/{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + f"server {{ listen 127.0.0.1:{self.port}{crt};\n location / {{\n"
            f"proxy_pass {scheme}://127.0.0.1:{self.host_port};\n"
            f"proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n"
            f"proxy_set_header Connection upgrade; proxy_read_timeout 1h;\n"
            f"}} }} }}\n"
        )
        self._run([shutil.which("nginx", path="/usr/sbin:/usr/bin") or "", "-c", str(path)])


class Websockify(Peer):
    """What Nova's own consoles run on: WebSocket to TCP or TLS, a process for each session."""

    name = "websockify"

    def start(self) -> None:
        program = websockify(self.directory.parent.parent / "websockify")
        suffix = "-tls" if self.host_tls else ""
        # It has no option for a CA of its own; this is OpenSSL's.
        trust = {"SSL_CERT_FILE": str(self.host.certificate)}
        options = ["--ssl-target"] if self.host_tls else []
        if self.browser_tls:
            options += ["--cert", str(self.host.certificate), "--ssl-only"]
        self._stream_port = free_port()
        for port, kind in ((self.port, "raw-echo"), (self._stream_port, "raw-stream")):
            host = f"127.0.0.1:{self.host.ports[kind + suffix]}"
            command = [str(program), *options, f"127.0.0.1:{port}", host]
            self._run(command, port, env={**os.environ, **trust})

    def target(self, path: str) -> dict[str, Any]:
        port = self._stream_port if path == "/stream" else self.port
        return {"port": port, "path": "/", "tls": self.browser_tls}


class Naive(Peer):
    """benchmarks/naive.py."""

    name = "naive"
    links = ("tls", "plain")

    def start(self) -> None:
        command = [sys.executable, "-m", "benchmarks.naive", str(self.port), self.link]
        self._run([*command, str(self.host_port)])


class Mksfilter(Peer):
    """This project: gunicorn with one worker, a token that holds a sealed ticket."""

    name = "mksfilter"
    audience = "benchmarks"
    workers = 1

    def start(self) -> None:
        keys = self.directory / "keys"
        repository = KeyRepository(str(keys))
        if not keys.exists():
            repository.setup()
        self._codec = TokenCodec(repository, self.audience)
        config = self.directory / "mksfilter.conf"
        config.write_text(
            f"[mksfilter]\nkey_repository = {keys}\naudience = {self.audience}\n"
            f"allowed_networks = 127.0.0.0/8\nmanagement_bind =\nmax_sessions = 12000\n"
            f"max_sessions_per_instance = 0\nmax_sessions_per_user = 0\nconnection_rate = 0\n"
            f"max_openings_per_user = 0\nmax_openings_per_address = 0\n"
            f"log_level = WARNING\n{self._settings()}"
        )
        paste = self.directory / "paste.ini"
        paste.write_text(f"[app:main]\nuse = egg:mksfilter#mksproxy\nconfig_file = {config}\n")
        command = [sys.executable, "-m", "gunicorn", "-k", "mksfilter.proxy.worker.ConsoleWorker"]
        command += ["--bind", f"127.0.0.1:{self.port}", "--paste", str(paste)]
        if self.browser_tls:
            command += ["--certfile", str(self.host.certificate)]
        self._run([*command, "--workers", str(self.workers)])

    def _settings(self) -> str:
        return "ticket_at = issue\n"

    def target(self, path: str) -> dict[str, Any]:
        endpoint = Endpoint(
            kind="websocket",
            host="127.0.0.1",
            port=self.host_port,
            resource=path,
            tls=self.host_tls,
            digests=(CertificateDigest.of(self.host.der),) if self.host_tls else (),
            rfb_handshake="full",
        )
        token = self._codec.issue(
            ConsoleRequest(_INSTANCE, mode="full"), ttl=86400, connect_info=endpoint.to_mapping()
        ).token
        return super().target(f"/websockify?token={token}")


class TicketPeer(Mksfilter):
    """The same, with a vCenter to ask for each ticket."""

    name = "mksfilter-vcenter"

    def __init__(self, host: Host, directory: Path, vsphere: SimulatedVSphere) -> None:
        super().__init__(host, "tls", directory)
        self._vsphere = vsphere

    @classmethod
    @contextlib.contextmanager
    def running(cls, host: Host, directory: Path) -> Iterator[TicketPeer]:
        """A started one, with a simulated vSphere of its own."""
        with simulated_vsphere() as vsphere:
            peer = cls(host, directory, vsphere)
            try:
                peer.start()
                yield peer
            finally:
                peer.stop()

    @property
    def hosts(self) -> list[int]:
        """The simulated vSphere."""
        return [] if self._vsphere.pid is None else [self._vsphere.pid]

    def _settings(self) -> str:
        vcenter = self._vsphere.vcenter_settings()
        return (
            f"vcenters = one\n[vcenter.one]\nhost = {vcenter.host}\nport = {vcenter.port}\n"
            f"username = {vcenter.username}\npassword = {vcenter.password}\n"
            f"ca_file = {vcenter.ca_file}\n"
        )

    def target(self, path: str) -> dict[str, Any]:
        token = self._codec.issue(ConsoleRequest(WEB_1, mode="full"), ttl=86400).token
        return Peer.target(self, f"/websockify?token={token}")


PEERS: list[type[Peer]] = [HAProxy, Nginx, Websockify, Naive, Mksfilter]


def websockify(directory: Path) -> Path:
    """The program, which is installed in *directory* if it is not there."""
    program = directory / "bin" / "websockify"
    if not program.exists():
        venv.create(directory, with_pip=True)
        subprocess.run(
            [directory / "bin" / "pip", "install", "-q", "websockify==0.13.0"], check=True
        )
    return program


def _self_signed(path: Path) -> bytes:
    # As ESXi has: its hosts present RSA keys of 2048 bits.
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "console host")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return certificate.public_bytes(serialization.Encoding.DER)
