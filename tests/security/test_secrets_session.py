"""Everything that is written during a session at DEBUG, searched for what must not be in it.

The proxy's own output is searched in ``test_known_faults.py``; here are the filter inside an API,
with tickets taken at issue, and the command line.
"""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.endpoint import Endpoint
from mksfilter.filter import filter_factory
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import OFF_1, OTHER_1, WEB_1
from tests.api import wsgi
from tests.support.proxy import configuration

AUTH_TOKEN = "gAAAAABkeystone-token-of-the-caller"
IDENTITY = {
    "X-Auth-Token": AUTH_TOKEN,
    "X-Roles": "member",
    "X-Project-Id": "demo",
    "X-User-Id": "u1",
    "OpenStack-API-Version": "compute 2.8",
}


class Secrets:
    """What must not be found, and where to look."""

    def __init__(self) -> None:
        self.values: set[str] = {AUTH_TOKEN}

    def token(self, token: str) -> None:
        """A token: neither whole nor its payload nor its MAC."""
        self.values |= {token, *token.split(".")[2:]}

    def assert_absent(self, text: str) -> None:
        found = [value for value in self.values if value in text]
        assert not found, found


@pytest.fixture
def secrets(vsphere, config_file):
    found = Secrets()
    found.values.add(vsphere.vcenter["password"])
    for key in (config_file.parent / "keys").iterdir():
        found.values.add(key.read_text().strip().rstrip("="))
    return found


@pytest.fixture
def config_file(vsphere, tmp_path):
    return configuration(
        tmp_path,
        [vsphere.vcenter_settings(timeout=1)],
        audience="mksfilter",
        ticket_at="issue",
        webmks_proxy_base_url="https://console.example.com/",
    )


@pytest.fixture
def written(capfd):
    """All that any logger of this process writes at DEBUG, and its tracebacks, as text."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)

    def read() -> str:
        out, err = capfd.readouterr()
        return stream.getvalue() + out + err

    yield read
    root.removeHandler(handler)
    root.setLevel(level)


def api(environ, start_response):
    uuid = environ["PATH_INFO"].rpartition("/")[2]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"server": {"id": uuid, "tenant_id": "demo"}}).encode()]


REQUESTS = {
    "remote-consoles": ("remote-consoles", wsgi.MKS),
    "console": ("console", '{"protocol": "mks", "type": "webmks"}'),
    "action": ("action", '{"os-getMKSConsole": {"type": "webmks"}}'),
    "wrong": ("remote-consoles", '{"remote_console": {"protocol": "mks", "type": "novnc"}}'),
    "no JSON": ("remote-consoles", "{"),
}


def test_cve_2015_9543_the_filter_writes_no_secret(vsphere, config_file, secrets, written):
    app = filter_factory({}, config_file=str(config_file))(api)
    codec = TokenCodec(KeyRepository(str(config_file.parent / "keys")), "mksfilter")

    def ask(uuid: str, path: str, body: str) -> wsgi.Answered:
        url = f"/v2.1/servers/{uuid}/{path}?auth={AUTH_TOKEN}"
        return wsgi.call(app, wsgi.environ("POST", url, IDENTITY, body, **wsgi.CONFIRMED))

    issued = 0
    for path, body in REQUESTS.values():
        for uuid in (WEB_1, OFF_1, OTHER_1):
            answered = ask(uuid, path, body)
            for url in re.findall(rb'https://console[^"]*', answered.body):
                token = parse_qs(urlsplit(url.decode()).query)["token"][-1]
                secrets.token(token)
                endpoint = Endpoint.from_mapping(codec.connect_info(codec.verify(token)))
                secrets.values.add(endpoint.resource.rpartition("/")[2])
                issued += 1
    for fault in ({"refuse_tickets": True}, {"delay": 30}, {"refuse_logins": True}):
        vsphere.expire_sessions()
        vsphere.set_vcenter(**fault)
        answered = ask(WEB_1, *REQUESTS["remote-consoles"])
        assert answered.code >= 400
        secrets.assert_absent(answered.body.decode())
        vsphere.reset()
    assert issued >= 6
    text = written()
    for expected in ("console-link-issued", "vcenter-login", "powered off", "refused for user"):
        assert expected in text, "the test looks in the wrong place"
    secrets.assert_absent(text)


def test_cve_2015_9543_the_commands_write_no_secret(vsphere, config_file, secrets):
    codec = TokenCodec(KeyRepository(str(config_file.parent / "keys")), "mksfilter")
    token = codec.issue(
        ConsoleRequest(WEB_1, mode="full"), ttl=60, connect_info={"ticket": "52a1cafe52a1cafe"}
    ).token
    secrets.token(token)
    secrets.values.add("52a1cafe52a1cafe")
    bad = token[:-1] + ("A" if token[-1] != "A" else "B")
    written = ""
    for command in (
        ["token", "inspect", token],
        ["token", "inspect", bad],
        ["keys", "list", "--key-repository", str(config_file.parent / "keys")],
        ["keys", "rotate", "--key-repository", str(config_file.parent / "keys")],
        ["sessions", "list", "--instance", WEB_1],
        ["sessions", "list", "--instance", token],
        ["sessions", "list", WEB_1],
        ["check"],
        ["serve", "--bind", "nonsense"],
    ):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-m", "mksfilter", *command]
            + ([] if command[0] == "keys" else ["--config-file", str(config_file)]),
            capture_output=True,
            text=True,
            timeout=60,
        )
        # A command may say what it was given on its own command line, as argparse does.
        output = done.stdout + done.stderr
        for given in command:
            output = output.replace(given, "")
        assert output.strip(), command
        written += output
    for key in (config_file.parent / "keys").iterdir():
        secrets.values.add(key.read_text().strip().rstrip("="))
    secrets.assert_absent(written)
