"""A running proxy: the real command in a process of its own, as an operator starts it."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.config import VCenterSettings
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.viewer import Viewer

__all__ = ["Answer", "RunningProxy", "configuration", "fetch", "start_proxy"]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def fetch(port: int, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """A plain request to a port of 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        body = response.read()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body)


def configuration(
    directory: Path, vcenters: Iterable[VCenterSettings] = (), **options: object
) -> Path:
    """Write ``mksfilter.conf``, a key repository and password files into *directory*.

    :param options: of ``[mksfilter]``; lists are joined with commas.
    """
    keys = directory / "keys"
    if "key_repository" not in options and not keys.exists():
        KeyRepository(str(keys)).setup()
    vcenters = list(vcenters)
    values: dict[str, object] = {
        "key_repository": keys,
        "audience": "tests",
        "vcenters": [vcenter.name for vcenter in vcenters],
        # The simulated ESXi hosts are on this machine.
        "allowed_networks": "127.0.0.0/8",
        "management_bind": "127.0.0.1:0",
        "runtime_directory": directory / "run",
        **options,
    }
    lines = ["[mksfilter]"]
    for name, value in values.items():
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        lines.append(f"{name} = {text}")
    for vcenter in vcenters:
        lines += ["", f"[vcenter.{vcenter.name}]"]
        fields = dataclasses.asdict(vcenter)
        password_file = directory / f"password-{vcenter.name}"
        password_file.touch(0o600)
        password_file.write_text(fields.pop("password"))
        fields.update(password_file=password_file, name=None)
        lines += [f"{name} = {value}" for name, value in fields.items() if value is not None]
    path = directory / "mksfilter.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


class RunningProxy:
    """A proxy under gunicorn, and what a client or an operator would do to it.

    :ivar host: where it listens, 127.0.0.1 as a rule, and ``port``.
    :ivar management: the port of its management listener, on 127.0.0.1.
    :ivar base_url: ``http://HOST:PORT/``.
    :ivar codec: mints tokens that it accepts.
    :ivar directory: where its configuration is.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        address: tuple[str, int],
        codec: TokenCodec,
        tls: bool,
    ) -> None:
        self.process = process
        self.host, self.port = address
        found = re.search(r"management on http://127\.0\.0\.1:(\d+)", log.read_text())
        self.management = int(found[1]) if found else 0
        self.codec = codec
        self.base_url = f"{'https' if tls else 'http'}://{self.host}:{self.port}/"
        self.directory = log.parent
        self._log = log

    def wait_until_ready(self) -> None:
        """A worker accepts; before that, its parent's signals would not reach it."""
        with self.connect() as sock:
            sock.sendall(b"?" * 16)
            read_to_end(sock)

    def token(self, instance: str, **claims: Any) -> str:
        """A token for *instance*, good for a minute."""
        names = {field.name for field in dataclasses.fields(ConsoleRequest)}
        facts = {name: claims.pop(name) for name in names & set(claims)}
        request = ConsoleRequest(instance, **{"mode": "full", **facts})
        return self.codec.issue(request, **{"ttl": 60, **claims}).token

    def page_url(self, token: str) -> str:
        """What Nova's answer holds."""
        return f"{self.base_url}?token={token}"

    def log(self) -> str:
        """All that it has written so far, the access log included."""
        return self._log.read_text(errors="replace")

    def wait_for_log(self, text: str, *, timeout: float = 10.0) -> str:
        """The first line of the log with *text* in it, as soon as it is there."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in self.log().splitlines():
                if text in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"{text!r} is not in the log:\n{self.log()}")

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """A plain request; ``user_agent="x"`` sends ``User-Agent: x``."""
        return fetch(self.port, path, host=self.host, method=method, **headers)

    def manage(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """The same, of the management listener."""
        return fetch(self.management, path, method=method, **headers)

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection((self.host, self.port), timeout=20)

    def exchange(self, request: bytes) -> bytes:
        """Send *request* and read until the proxy closes."""
        with self.connect() as sock:
            sock.sendall(request)
            return read_to_end(sock)

    def handshake(
        self,
        token: str = "",
        *,
        path: str = "/websockify",
        headers: Mapping[str, str | None] | None = None,
        subprotocols: Sequence[str] = ("binary",),
    ) -> bytes:
        """A good opening handshake; *headers* add to it, replace, or (None) remove."""
        fields: dict[str, str | None] = {
            "Host": f"{self.host}:{self.port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Protocol": ", ".join(subprotocols) or None,
            **(headers or {}),
        }
        target = f"{path}?token={token}" if token else path
        lines = [f"GET {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def upgrade(self, token: str = "", **changes: Any) -> Answer:
        """The answer to an opening handshake; a refusal's body is read to its end."""
        with self.connect() as sock:
            sock.sendall(self.handshake(token, **changes))
            head = read_head(sock)
            answer = parse_head(head)
            if answer.status != 101:
                answer = dataclasses.replace(answer, body=read_to_end(sock))
            return answer

    def viewer(self, token: str, **options: Any) -> Viewer:
        """An RFB client behind a WebSocket to us, as a context manager."""
        scheme = self.base_url.partition(":")[0].replace("http", "ws")
        url = f"{scheme}://{self.host}:{self.port}/websockify?token={token}"
        return Viewer(url, **options)

    def metric(self, name: str, **labels: str) -> float:
        """A value of ``/metrics``; 0 when it is not there (yet)."""
        wanted = "".join(f'.*{key}="{value}"' for key, value in sorted(labels.items()))
        pattern = re.compile(rf"^{name}(?:\{{{wanted}.*\}})? (\S+)$", re.MULTILINE)
        match = pattern.search(self.manage("/metrics").body.decode())
        return float(match[1]) if match else 0.0

    def wait_for_metric(
        self, name: str, value: float, timeout: float = 10.0, **labels: str
    ) -> None:
        """Wait until a metric has a value."""
        deadline = time.monotonic() + timeout
        while (seen := self.metric(name, **labels)) != value:
            assert time.monotonic() < deadline, f"{name} is {seen}, not {value}"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM, *, timeout: float = 20.0) -> int:
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise


@contextlib.contextmanager
def start_proxy(
    vcenters: Iterable[VCenterSettings] = (),
    *arguments: str,
    env: Mapping[str, str] | None = None,
    tls: bool = False,
    descriptors: int | None = None,
    host: str = "127.0.0.1",
    **options: object,
) -> Iterator[RunningProxy]:
    """Run ``mksfilter serve`` with a configuration of its own for as long as the context lasts.

    :param arguments: more of its command line.
    :param descriptors: as many as it may have, and no way to more.
    :param host: the address to listen on.
    :param options: of ``[mksfilter]``; the log level is DEBUG unless they say otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="mksfilter-test-") as name:
        directory = Path(name)
        path = configuration(directory, vcenters, **{"log_level": "DEBUG", **options})
        log = directory / "proxy.log"
        command = [sys.executable, "-m", "mksfilter", "serve", "--config-file", str(path)]
        command += ["--bind", f"{host}:0", "--access-log", "-"]
        command += ["--graceful-timeout", "3", *([] if "--workers" in arguments else _ONE)]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                start_new_session=True,
                preexec_fn=None if descriptors is None else _limit_to(descriptors),
            )
        codec = TokenCodec(
            KeyRepository(str(options.get("key_repository", directory / "keys"))),
            str(options.get("audience", "tests")),
        )
        try:
            port = _wait_for_port(process, log)
            running = RunningProxy(process, log, (host, port), codec, tls)
            running.wait_until_ready()
            yield running
            running.stop(signal.SIGINT)  # nobody waits for a drain here
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


_ONE = ("--workers", "1")


def _limit_to(descriptors: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    return limit


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        match = re.search(r"listening on https?://[\d.]+:(\d+)", log.read_text())
        if match:
            return int(match[1])
        time.sleep(0.02)
    raise AssertionError(f"the proxy did not start:\n{log.read_text()}")


def read_head(sock: socket.socket) -> bytes:
    """An HTTP head, to its empty line and not a byte further."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise AssertionError(f"closed after {head!r}")
        head += byte
    return head


def read_to_end(sock: socket.socket) -> bytes:
    """Everything until the peer closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            data += chunk
    return data


def parse_head(head: bytes) -> Answer:
    """An answer without its body, which may follow in *head*."""
    status_line, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return Answer(int(status_line.split()[1]), {name.lower(): text for name, text in pairs}, b"")
