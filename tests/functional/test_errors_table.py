"""Walks the tables of ``docs/errors.md``: every row is provoked, and answers as it says there."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import webob

import mksfilter
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.revocation import Revocation, RevocationFile
from mksfilter.auth.token import TokenCodec
from mksfilter.filter import filter_factory
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import DB_1, OFF_1, OTHER_1, WEB_1
from tests.support.cloud import Cloud
from tests.support.page_client import offers, open_page, told
from tests.support.ports import free_port
from tests.support.proofs import BrowserKey
from tests.support.proxy import KEY, Answer, RunningProxy, configuration

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| ([a-z]+-[a-z-]+) \| (.+?) \| (\d+) \| `(.*)` \|$", re.MULTILINE)
LOG_LINE = re.compile(r"\[\d{4}-\d\d-\d\d ")  # what a service logs while it starts
ANSWERED = re.compile(
    r'" [45]\d\d |event=request-refused'
)  # the access log, or the reader of heads
NOBODY = "99999999-0000-4000-8000-000000000000"


@dataclasses.dataclass(frozen=True)
class Row:
    id: str
    wrong: str
    answer: int
    line: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """The documented line; an ellipsis stands for anything within a line."""
        return re.compile(".*".join(re.escape(part) for part in self.line.split("…")))


ROWS = [
    Row(name, wrong, int(answer), line)
    for name, wrong, answer, line in ROW.findall(PAGE.read_text(encoding="utf-8"))
]
SCENARIOS: dict[str, Callable[[Bench], tuple[int, str]]] = {}


def scenario(name: str) -> Callable[..., Callable[[Bench], tuple[int, str]]]:
    def keep(function: Callable[[Bench], tuple[int, str]]) -> Callable[[Bench], tuple[int, str]]:
        SCENARIOS[name] = function
        return function

    return keep


def test_every_row_has_a_scenario_and_every_scenario_a_row():
    assert sorted(row.id for row in ROWS) == sorted(SCENARIOS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_bad_input_gets_its_documented_answer(row, bench):
    answer, text = SCENARIOS[row.id](bench)
    assert answer == row.answer, text
    lines = text.splitlines() or [""]
    if row.id.startswith("cli-"):
        lines = [line for line in lines if not LOG_LINE.match(line)]
        assert len(lines) == 1, f"one line, not:\n{text}"
    # A request and what was the matter with it may be written by different threads.
    deadline = time.monotonic() + 5
    while not any(map(row.pattern.search, lines)):
        assert time.monotonic() < deadline, f"{row.line!r} not in:\n{text}"
        time.sleep(0.02)
        lines = [*lines, *bench.logged().splitlines()]
    assert "Traceback" not in text


class Bench:
    """What a scenario may use."""

    def __init__(self, vsphere, proxy: RunningProxy, proxy_factory, directory: Path) -> None:
        self.vsphere = vsphere
        self.proxy = proxy
        self.start = proxy_factory
        self.directory = directory

    def logged(self) -> str:
        """What the proxy has logged until now, of the request that was the last."""
        return ""

    def command(self, *arguments: object) -> tuple[int, str]:
        """Run the command; its exit code and standard error."""
        done = subprocess.run(
            [sys.executable, "-m", "mksfilter", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stderr

    def configuration(self, vcenters=(), **options: object) -> Path:
        return configuration(self.directory, vcenters, **options)

    def serve(self, path: Path, *arguments: object) -> tuple[int, str]:
        return self.command("serve", "--config-file", path, *arguments)

    def upgrade(
        self, token: str, proxy: RunningProxy | None = None, **changes: object
    ) -> tuple[int, str]:
        """The status of a refused upgrade, and what the proxy logged meanwhile."""
        proxy = proxy or self.proxy
        before = len(proxy.log())
        answer = proxy.upgrade(token, **changes)
        assert answer.body == b""
        assert answer.headers["connection"] == "close"
        self.logged = lambda: proxy.log()[before:]
        return answer.status, _logged(proxy, before)

    def console(self, instance: str, **vcenter: object) -> tuple[int, str]:
        """As ``upgrade``, through a proxy that knows the vCenter by these settings."""
        if not vcenter:
            return self.upgrade(self.proxy.token(instance))
        proxy = self.start(vcenters=[self.vsphere.vcenter_settings(**vcenter)])
        return self.upgrade(proxy.token(instance), proxy)

    def exchange(self, request: bytes) -> tuple[int, str]:
        before = len(self.proxy.log())
        answer = self.proxy.exchange(request)
        self.logged = lambda: self.proxy.log()[before:]
        return int(answer.split(b" ", 2)[1]), _logged(self.proxy, before)

    @functools.cached_property
    def api(self):
        return self.api_with()

    def api_with(self, vcenters=(), **options: object):
        """The demo's API pipeline, with the simulated servers, loaded by Paste."""
        from paste.deploy import loadapp

        servers = self.directory / "servers.json"
        servers.write_text(json.dumps(self.vsphere.vms))
        path = self.configuration(
            vcenters, webmks_proxy_base_url="http://127.0.0.1:6090/", **options
        )
        return loadapp(
            f"config:{Path('etc/api-paste.ini').resolve()}#demo",
            global_conf={"config_file": str(path), "servers": str(servers)},
        )

    def ask(self, instance=WEB_1, body=None, **changes) -> tuple[int, str]:
        """A console request; its status and the fault's message."""
        user = changes.pop("user", "member")
        path = changes.pop("path", f"/v2.1/servers/{instance}/remote-consoles")
        version = changes.pop("version", "2.8")
        raw = changes.pop("raw", None)
        api = changes.pop("api", None) or self.api
        headers = {"OpenStack-API-Version": f"compute {version}", "Accept": "application/json"}
        headers.update(changes.pop("headers", {}))
        if user:
            headers["X-Auth-Token"] = f"demo-{user}"
        request = webob.Request.blank(
            path, method=changes.pop("method", "POST"), headers=headers, **changes
        )
        request.content_type = "application/json"
        console = {"protocol": "mks", "type": "webmks", **(body or {})}
        request.body = raw if raw is not None else json.dumps({"remote_console": console}).encode()
        if request.method == "GET":
            request.body = b""
        if "Transfer-Encoding" in headers:
            del request.environ["CONTENT_LENGTH"]
        response = request.get_response(api)
        return response.status_int, _message(response.text)


@pytest.fixture
def bench(vsphere, proxy, proxy_factory, tmp_path):
    return Bench(vsphere, proxy, proxy_factory, tmp_path)


def _logged(proxy: RunningProxy, before: int, *, timeout: float = 5.0) -> str:
    """What was logged since *before*, to the line that says that the request was answered."""
    deadline = time.monotonic() + timeout
    while not ANSWERED.search(logged := proxy.log()[before:]):
        assert time.monotonic() < deadline, f"nothing says that it was answered in {logged!r}"
        time.sleep(0.02)
    return logged


def _message(text: str) -> str:
    try:
        fault = json.loads(text)
    except ValueError:
        return text
    return str(next(iter(fault.values())).get("message", text))


# -- commands ------------------------------------------------------------------------------------


@scenario("cli-unknown-command")
def _(bench):
    return bench.command("consoles")


@scenario("cli-config-missing")
def _(bench):
    return bench.serve(bench.directory / "none.conf")


@scenario("cli-option-type")
def _(bench):
    return bench.serve(bench.configuration(max_sessions="many"))


@scenario("cli-busy-port")
def _(bench):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        return bench.serve(bench.configuration(), "--bind", f"127.0.0.1:{port}")


@scenario("cli-keys-missing")
def _(bench):
    return bench.serve(bench.configuration(key_repository=bench.directory / "nowhere"))


@scenario("cli-keys-open")
def _(bench):
    path = bench.configuration()
    (bench.directory / "keys" / "1").chmod(0o644)
    return bench.serve(path)


@scenario("cli-keys-guessable")
def _(bench):
    path = bench.configuration()
    (bench.directory / "keys" / "1").write_text("A" * 43 + "=")
    return bench.serve(path)


@scenario("cli-wmks-none")
def _(bench):
    return bench.serve(bench.configuration(console_client="wmks"))


@scenario("cli-wmks-lacks")
def _(bench):
    sdk = bench.directory / "sdk"
    sdk.mkdir()
    for name in ("jquery.min.js", "jquery-ui.min.js"):
        (sdk / name).write_text("")
    return bench.serve(bench.configuration(console_client="wmks", wmks_dir=sdk))


@scenario("cli-keys-twice")
def _(bench):
    bench.configuration()
    return bench.command("keys", "setup", "--key-repository", bench.directory / "keys")


@scenario("cli-password-open")
def _(bench):
    path = bench.configuration([bench.vsphere.vcenter_settings(name="dc1")])
    (bench.directory / "password-dc1").chmod(0o644)
    return bench.serve(path)


@scenario("cli-vcenter-missing")
def _(bench):
    path = bench.configuration()
    path.write_text(path.read_text().replace("vcenters = \n", "vcenters = dc1\n"))
    return bench.serve(path)


@scenario("cli-mint-instance")
def _(bench):
    path = bench.configuration()
    return bench.command("token", "mint", "--config-file", path, "--instance", "web-1")


@scenario("cli-inspect-forged")
def _(bench):
    path = bench.configuration()
    forged = bench.proxy.token(WEB_1)  # good, but not for these keys
    return bench.command("token", "inspect", "--config-file", path, forged)


@scenario("cli-demo-port")
def _(bench):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return bench.command("demo", "--port", taken.getsockname()[1])


@scenario("cli-simulator-port")
def _(bench):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return bench.command("simulator", "--port", taken.getsockname()[1])


# -- the console request -------------------------------------------------------------------------


@scenario("api-unauthorised")
def _(bench):
    return bench.ask(user=None)


@scenario("api-path")
def _(bench):
    return bench.ask(path=f"/v2.1/servers/{WEB_1}/remote-console")


@scenario("api-method")
def _(bench):
    return bench.ask(method="GET")


@scenario("api-json")
def _(bench):
    return bench.ask(raw=b'{"remote_console": ')


@scenario("api-type")
def _(bench):
    return bench.ask(body={"type": "webvnc"})


@scenario("api-wrong-type-for-protocol")
def _(bench):
    return bench.ask(body={"type": "novnc"})


@scenario("api-version-low")
def _(bench):
    return bench.ask(version="2.7")


@scenario("api-unknown-instance")
def _(bench):
    return bench.ask(NOBODY)


@scenario("api-foreign-instance")
def _(bench):
    return bench.ask(OTHER_1)


@scenario("api-reader")
def _(bench):
    return bench.ask(user="reader")


@scenario("api-no-identity")
def _(bench):
    options = {
        "key_repository": str(bench.directory / "keys"),
        "webmks_proxy_base_url": "http://x/",
    }
    behind = filter_factory({}, api="plain", **options)(bench.api)
    forged = {"X-Roles": "admin", "X-Project-Id": "demo", "X-Identity-Status": "Confirmed"}
    return bench.ask(api=behind, headers=forged)


@scenario("api-no-length")
def _(bench):
    return bench.ask(headers={"Transfer-Encoding": "chunked"})


@scenario("api-no-keys")
def _(bench):
    api = bench.api_with(key_repository=bench.directory / "none", start_without_keys=True)
    return bench.ask(api=api)


@scenario("api-vcenter-silent")
def _(bench):
    bench.vsphere.set_vcenter(silent=True)
    vcenters = [bench.vsphere.vcenter_settings()]
    return bench.ask(api=bench.api_with(vcenters, ticket_at="issue", ticket_timeout=0.3))


# -- the console's WebSocket ---------------------------------------------------------------------


@scenario("ws-path")
def _(bench):
    return bench.exchange(bench.proxy.handshake(bench.proxy.token(WEB_1), path="/console"))


@scenario("ws-method")
def _(bench):
    return bench.exchange(
        b"POST /websockify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )


@scenario("ws-no-upgrade")
def _(bench):
    return bench.exchange(b"GET /websockify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


@scenario("ws-wrong-upgrade")
def _(bench):
    return bench.upgrade(bench.proxy.token(WEB_1), headers={"Upgrade": "websocket, h2c"})


@scenario("ws-http-one-zero")
def _(bench):
    request = bench.proxy.handshake(bench.proxy.token(WEB_1))
    return bench.exchange(request.replace(b"HTTP/1.1", b"HTTP/1.0", 1))


@scenario("ws-version")
def _(bench):
    return bench.upgrade(bench.proxy.token(WEB_1), headers={"Sec-WebSocket-Version": "8"})


@scenario("ws-key")
def _(bench):
    return bench.upgrade(bench.proxy.token(WEB_1), headers={"Sec-WebSocket-Key": KEY[4:]})


@scenario("ws-early")
def _(bench):
    return bench.exchange(bench.proxy.handshake(bench.proxy.token(WEB_1)) + b"\x82\x80\0\0\0\0")


@scenario("ws-origin")
def _(bench):
    return bench.upgrade(bench.proxy.token(WEB_1), headers={"Origin": "https://evil.example"})


@scenario("ws-token-missing")
def _(bench):
    return bench.upgrade("")


@scenario("ws-token-truncated")
def _(bench):
    return bench.upgrade(bench.proxy.token(WEB_1)[:-1])


@scenario("ws-token-forged")
def _(bench):
    other = KeyRepository(str(bench.directory / "other"))
    other.setup()
    return bench.upgrade(
        TokenCodec(other, "tests").issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token
    )


@scenario("ws-token-changed")
def _(bench):
    version, kid, payload, mac = bench.proxy.token(WEB_1).split(".")
    changed = payload[:20] + ("A" if payload[20] != "A" else "B") + payload[21:]
    return bench.upgrade(".".join((version, kid, changed, mac)))


@scenario("ws-token-expired")
def _(bench):
    keys = bench.proxy.codec._keys
    yesterday = TokenCodec(keys, "tests", clock=lambda: time.time() - 86400)
    return bench.upgrade(yesterday.issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token)


@scenario("ws-token-audience")
def _(bench):
    elsewhere = TokenCodec(bench.proxy.codec._keys, "elsewhere")
    return bench.upgrade(elsewhere.issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token)


@scenario("ws-token-replayed")
def _(bench):
    proxy = bench.start(replay_cache="local")
    token = proxy.token(WEB_1)
    with proxy.viewer(token):
        return bench.upgrade(token, proxy)


def _resume_token(proxy):
    with open_page(proxy, proxy.token(WEB_1)) as page:
        return told(page)["resume"]


@scenario("ws-token-stolen")
def _(bench):
    return bench.upgrade("", subprotocols=["binary", f"mks.token.{_resume_token(bench.proxy)}"])


@scenario("ws-token-proof")
def _(bench):
    token = _resume_token(bench.proxy)
    return bench.upgrade("", subprotocols=offers(token, BrowserKey()))


@scenario("ws-token-as-link")
def _(bench):
    return bench.upgrade(_resume_token(bench.proxy))


@scenario("ws-token-revoked")
def _(bench):
    proxy = bench.start()
    token = proxy.token(WEB_1, user_id="u1")
    now = int(time.time())
    RevocationFile(proxy.codec._keys).add(Revocation("user", "u1", now), now=now)
    proxy.wait_for_log("event=revocations-read entries=1")
    return bench.upgrade(token, proxy)


def _without_keys(bench: Bench) -> tuple[RunningProxy, str]:
    """A proxy whose keys have gone, as it knows, and a token from before."""
    proxy = bench.start()
    token = proxy.token(WEB_1)
    (proxy.directory / "keys").rename(proxy.directory / "gone")
    while proxy.get(f"/?token={token}").status == 200:
        time.sleep(0.05)
    return proxy, token


@scenario("ws-keys")
def _(bench):
    proxy, token = _without_keys(bench)
    return bench.upgrade(token, proxy)


@scenario("ws-instance-limit")
def _(bench):
    proxy = bench.start(max_sessions_per_instance=1)
    with proxy.viewer(proxy.token(WEB_1)):
        return bench.upgrade(proxy.token(WEB_1), proxy)


@scenario("ws-node-limit")
def _(bench):
    proxy = bench.start(max_sessions=1)
    with proxy.viewer(proxy.token(WEB_1)):
        return bench.upgrade(proxy.token(DB_1), proxy)


@scenario("ws-instance-unknown")
def _(bench):
    return bench.console(NOBODY)


@scenario("ws-powered-off")
def _(bench):
    return bench.console(OFF_1)


@scenario("ws-suspended")
def _(bench):
    bench.vsphere.suspend(WEB_1)
    return bench.console(WEB_1)


@scenario("ws-machine-asks")
def _(bench):
    bench.vsphere.set_vm(WEB_1, fault="InvalidState", question="msg.moved:Moved, or copied?")
    return bench.console(WEB_1)


@scenario("ws-failing-over")
def _(bench):
    bench.vsphere.set_vm(WEB_1, protected=True)
    bench.vsphere.set_all("host", responding=False)
    return bench.console(WEB_1)


@scenario("ws-machine-locked")
def _(bench):
    bench.vsphere.set_vm(WEB_1, crypto="locked")
    return bench.console(WEB_1)


@scenario("ws-machine-inaccessible")
def _(bench):
    bench.vsphere.set_vm(WEB_1, connection="inaccessible")
    return bench.console(WEB_1)


@scenario("ws-no-permission")
def _(bench):
    bench.vsphere.set_vm(WEB_1, permitted=False)
    return bench.console(WEB_1)


@scenario("ws-connection-limit")
def _(bench):
    bench.vsphere.set_vm(WEB_1, max_connections=1)
    with bench.proxy.viewer(bench.proxy.token(WEB_1)):
        return bench.console(WEB_1)


@scenario("ws-host-disconnected")
def _(bench):
    bench.vsphere.set_all("host", connected=False)
    return bench.console(WEB_1)


@scenario("ws-ticket-refused")
def _(bench):
    bench.vsphere.set_all("host", refuse_tickets=True)
    return bench.console(WEB_1)


@scenario("ws-vcenter-down")
def _(bench):
    return bench.console(WEB_1, port=free_port())


@scenario("ws-vcenter-silent")
def _(bench):
    bench.vsphere.set_vcenter(silent=True)
    return bench.console(WEB_1, timeout=1.0)


@scenario("ws-vcenter-password")
def _(bench):
    return bench.console(WEB_1, password="wrong")


@scenario("ws-vcenter-certificate")
def _(bench):
    return bench.console(WEB_1, ca_file=None, thumbprint=":".join(["AB"] * 32))


@scenario("ws-host-certificate")
def _(bench):
    bench.vsphere.set_all("host", wrong_certificate=True)
    return bench.console(WEB_1)


@scenario("ws-host-groups")
def _(bench):
    bench.vsphere.set_all("host", tls_profile="NIST_2024_TLS_13_ONLY")
    proxy = bench.start(tls_groups="secp384r1")
    return bench.upgrade(proxy.token(WEB_1), proxy)


def _issued(bench, path):
    host = bench.vsphere.host_of("web-1")
    console = {"host": host["address"], "port": host["port"], "internal_access_path": path}
    with Cloud() as cloud:
        cloud.body = json.dumps({"console": {"instance_uuid": WEB_1, **console}})
        nova = bench.directory / "nova.conf"
        nova.write_text(cloud.configuration() + "ticket = issued\n")
        proxy = bench.start("--config-file", str(nova))
        return bench.upgrade("9f3c5f5e-5b2c-4a7e-9a55-0d5a7e7f0b11", proxy)


@scenario("ws-issued-no-ca")
def _(bench):
    return _issued(bench, "/ticket/5f1c7e20")


@scenario("ws-issued-other")
def _(bench):
    return _issued(bench, "/console/5f1c7e20")


@scenario("ws-host-unresolvable")
def _(bench):
    bench.vsphere.set_vcenter(ticket_host="unresolvable", ticket_url="absent")
    return bench.console(WEB_1)


@scenario("ws-host-silent")
def _(bench):
    bench.vsphere.set_all("host", silent=True)
    proxy = bench.start(connect_timeout=1.0)
    return bench.upgrade(proxy.token(WEB_1), proxy)


@scenario("ws-host-hung")
def _(bench):
    bench.vsphere.set_all("host", hung=True)
    return bench.console(WEB_1, timeout=1.0)


@scenario("ws-host-forbidden")
def _(bench):
    proxy = bench.start(allowed_networks="192.0.2.0/24")
    return bench.upgrade(proxy.token(WEB_1), proxy)


# -- the page ------------------------------------------------------------------------------------


def _page(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


@scenario("page-expired")
def _(bench):
    keys = bench.proxy.codec._keys
    yesterday = TokenCodec(keys, "tests", clock=lambda: time.time() - 86400)
    return _page(
        bench.proxy.get(
            f"/?token={yesterday.issue(ConsoleRequest(WEB_1, mode='full'), ttl=60).token}"
        )
    )


@scenario("page-forged")
def _(bench):
    return _page(bench.proxy.get(f"/?token={bench.proxy.token(WEB_1)}x"))


@scenario("page-keys")
def _(bench):
    proxy, token = _without_keys(bench)
    return _page(proxy.get(f"/?token={token}"))


@scenario("page-path")
def _(bench):
    return _page(bench.proxy.get("/console"))


@scenario("page-not-built")
def _(bench):
    # As a source tree is in which nobody has run tools/build-page.
    bare = shutil.ignore_patterns("*.js", "__pycache__")
    shutil.copytree(Path(mksfilter.__file__).parent, bench.directory / "mksfilter", ignore=bare)
    here = Path.cwd()
    os.chdir(bench.directory)  # where "python -m" looks first
    try:
        proxy = bench.start(env={"PYTHONPATH": str(bench.directory)})
    finally:
        os.chdir(here)
    return _page(proxy.get(f"/?token={proxy.token(WEB_1)}"))
