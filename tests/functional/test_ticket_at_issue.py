"""``ticket_at = issue``: the filter takes the ticket, for proxies that may not ask vCenter."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import ConfigurationError
from mksfilter.filter import filter_factory
from tests.api import wsgi

IDENTITY = {
    "OpenStack-API-Version": "compute 2.8",
    "X-Roles": "member",
    "X-Project-Id": "demo",
    "X-User-Id": "u1",
}


@pytest.fixture
def config_file(vsphere, tmp_path):
    """A filter's configuration that takes tickets from the simulated vCenter."""
    keys = tmp_path / "keys"
    KeyRepository(str(keys)).setup()
    vcenter = vsphere.vcenter_settings()
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(vcenter.password)
    file = tmp_path / "mksfilter.conf"
    file.write_text(
        "[mksfilter]\n"
        "webmks_proxy_base_url = https://console.example.com/\n"
        f"key_repository = {keys}\n"
        "ticket_at = issue\n"
        f"vcenters = {vcenter.name}\n"
        f"[vcenter.{vcenter.name}]\n"
        f"host = {vcenter.host}\n"
        f"port = {vcenter.port}\n"
        f"username = {vcenter.username}\n"
        f"password_file = {password}\n"
        f"ca_file = {vcenter.ca_file}\n"
    )
    return file


@pytest.fixture
def ask(vsphere, config_file):
    """Ask for the console of the machine named."""

    def api(environ, start_response):
        uuid = environ["PATH_INFO"].rpartition("/")[2]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"server": {"id": uuid, "tenant_id": "demo"}}).encode()]

    app = filter_factory({}, config_file=str(config_file))(api)

    def ask(name):
        path = f"/v2.1/servers/{vsphere.vm(name)['uuid']}/remote-consoles"
        return wsgi.call(app, wsgi.environ("POST", path, IDENTITY, **wsgi.CONFIRMED))

    return ask


@pytest.fixture
def codec(config_file):
    return TokenCodec(KeyRepository(str(config_file.parent / "keys")), "mksfilter")


def token_in(answered):
    url = answered.json["remote_console"]["url"]
    return parse_qs(urlsplit(url).query)["token"][-1]


def test_a_proxy_learns_from_the_token_alone_where_the_console_is(vsphere, ask, codec):
    token = token_in(ask("web-1"))
    endpoint = Endpoint.from_mapping(codec.connect_info(codec.verify(token)))
    host = vsphere.host_of("web-1")
    assert (endpoint.host, endpoint.port) == (host["address"], host["port"])
    assert endpoint.resource.startswith("/ticket/")
    assert endpoint.digests


def test_nothing_of_the_ticket_can_be_read_in_the_token(vsphere, ask, codec):
    token = token_in(ask("web-1"))
    endpoint = Endpoint.from_mapping(codec.connect_info(codec.verify(token)))
    secrets = [
        endpoint.resource.rpartition("/")[2],
        endpoint.digests[0].value.hex(),
        str(endpoint.port),
        vsphere.vm("web-1")["name"],
    ]
    payload = token.split(".")[2]
    readable = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    sealed = json.loads(readable).pop("sealed").partition(".")[2]
    opaque = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    without_sealed = {k: v for k, v in json.loads(readable).items() if k not in ("sealed", "jti")}
    for secret in secrets:
        assert secret not in json.dumps(without_sealed).replace(vsphere.vm("web-1")["uuid"], "")
        assert secret.encode() not in opaque


def test_a_machine_that_is_off_is_said_at_once_and_gets_no_token(vsphere, ask):
    vsphere.power_off("web-1")
    answered = ask("web-1")
    assert (answered.code, list(answered.json)) == (409, ["conflictingRequest"])
    assert "powered off" in answered.json["conflictingRequest"]["message"]


def test_a_vcenter_that_cannot_be_verified_is_refused_at_the_start(config_file):
    text = config_file.read_text()
    config_file.write_text(text.replace("ca_file = ", "ca_file = /nowhere"))
    with pytest.raises(ConfigurationError, match="/nowhere"):
        filter_factory({}, config_file=str(config_file))(lambda *_: [])
