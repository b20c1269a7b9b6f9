"""Tokens of stock Nova's consoles, asked of a Keystone and a Nova that answer as told.

The real ones are in tests/integration/nova.
"""

from __future__ import annotations

import json
import logging
import time

import pytest

from mksfilter import config
from mksfilter.auth.nova_tokens import REMEMBERED, NovaTokens, is_nova_token
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import (
    ConfigurationError,
    TicketRefused,
    TokenExpired,
    TokenMalformed,
    TokenServiceUnavailable,
)
from tests.support.cloud import Cloud

TOKEN = "9f3c5f5e-5b2c-4a7e-9a55-0d5a7e7f0b11"
INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
TICKET = "52fd3d7e-8b1e-ticket-of-nova"
THUMBPRINT = "AB:" * 19 + "CD"

CONSOLE = {
    "instance_uuid": INSTANCE,
    "host": "esxi-1.example.com",
    "port": 902,
    "internal_access_path": json.dumps(
        {"ticket": TICKET, "cfgFile": "[ds] web-1/web-1.vmx", "thumbprint": THUMBPRINT}
    ),
}


@pytest.fixture
def cloud():
    with Cloud() as cloud:
        cloud.body = json.dumps({"console": CONSOLE})
        yield cloud


@pytest.fixture
def settings(cloud, tmp_path):
    def make(*more):
        path = tmp_path / "mksfilter.conf"
        path.write_text(cloud.configuration() + "\n".join(more))
        return config.nova_settings(config.load([str(path)]))

    return make


def test_nova_tells_the_instance_of_its_token(cloud, settings):
    claims, endpoint = NovaTokens(settings(), "here", clock=lambda: 1000).verify(TOKEN)

    assert (claims.iid, claims.aud, claims.mode, claims.use) == (
        INSTANCE,
        "here",
        "full",
        "connect",
    )
    assert (claims.iat, claims.exp) == (1000, 1000 + REMEMBERED)
    assert endpoint is None
    assert cloud.asked[-1] == (f"/v2.1/os-console-auth-tokens/{TOKEN}", "compute 2.31")


def test_issued_ticket_is_an_authd_endpoint(settings):
    _, endpoint = NovaTokens(settings("ticket = issued")).verify(TOKEN)

    assert (endpoint.kind, endpoint.host, endpoint.port) == ("authd", "esxi-1.example.com", 902)
    assert endpoint.ticket == TICKET
    assert endpoint.config_file == "[ds] web-1/web-1.vmx"
    assert [str(digest) for digest in endpoint.digests] == [f"sha1:{THUMBPRINT}"]


WEBMKS = {**CONSOLE, "port": 443, "internal_access_path": f"/ticket/{TICKET}"}


def test_issued_webmks_ticket_is_a_websocket_that_a_ca_vouches_for(
    cloud, settings, caplog, certificate
):
    """A driver that takes webmks tickets stores the WebSocket's path, and no thumbprint."""
    ca_file = str(certificate / "cert.pem")
    caplog.set_level(logging.INFO)
    cloud.body = json.dumps({"console": WEBMKS})

    _, endpoint = NovaTokens(settings("ticket = issued", f"console_ca_file = {ca_file}")).verify(
        TOKEN
    )

    assert (endpoint.kind, endpoint.address) == ("websocket", "esxi-1.example.com:443")
    assert endpoint.resource == f"/ticket/{TICKET}"
    assert (endpoint.tls, endpoint.server_name) == (True, "esxi-1.example.com")
    assert (endpoint.ca_file, endpoint.digests, endpoint.insecure) == (ca_file, (), False)
    assert f"ticket=issued certificate={ca_file}" in caplog.text
    assert TICKET not in caplog.text + repr(endpoint)


def test_without_a_ca_file_the_systems_cas_have_to_vouch(cloud, settings, caplog):
    caplog.set_level(logging.INFO)
    cloud.body = json.dumps({"console": WEBMKS})

    _, endpoint = NovaTokens(settings("ticket = issued")).verify(TOKEN)

    assert (endpoint.ca_file, endpoint.insecure) == (None, False)
    assert "certificate=system-cas" in caplog.text
    assert "certificate-not-verified" not in caplog.text


def test_that_nothing_vouches_is_allowed_by_an_option_and_said_in_the_log(cloud, settings, caplog):
    caplog.set_level(logging.INFO)
    cloud.body = json.dumps({"console": WEBMKS})

    tokens = NovaTokens(settings("ticket = issued", "console_insecure = true"))

    assert 'event=certificate-not-verified option="[nova] console_insecure"' in caplog.text
    assert tokens.verify(TOKEN)[1].insecure
    assert "certificate=not-verified" in caplog.text


def test_the_option_does_not_loosen_a_thumbprint(settings, caplog):
    caplog.set_level(logging.INFO)
    _, endpoint = NovaTokens(settings("ticket = issued", "console_insecure = true")).verify(TOKEN)

    assert not endpoint.insecure
    assert "certificate=thumbprint" in caplog.text


def test_a_ca_and_no_verification_contradict_each_other(settings):
    with pytest.raises(ConfigurationError, match=r"console_insecure.*console_ca_file"):
        settings("console_ca_file = /ca.pem", "console_insecure = true")


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_found_at_the_start(settings, tmp_path, text):
    path = tmp_path / "ca.pem"
    if text:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"\[nova\] console_ca_file .*ca.pem"):
        settings(f"console_ca_file = {path}")


@pytest.mark.parametrize(
    "stored",
    [
        {"internal_access_path": "/ticket/"},
        {"internal_access_path": f"/ticket/{TICKET} HTTP/1.1\r\nX: y"},
        {"internal_access_path": f"/other/{TICKET}"},
        {"internal_access_path": f"//evil.example/ticket/{TICKET}"},
        {"internal_access_path": f"wss://evil.example/ticket/{TICKET}"},
        {"host": ""},
        {"host": None},
        {"host": 7},
        {"port": 0},
        {"port": 65536},
        {"port": "x"},
        {"port": None},
    ],
)
def test_what_is_no_webmks_ticket_is_refused(cloud, settings, stored):
    cloud.body = json.dumps({"console": {**WEBMKS, **stored}})

    with pytest.raises(TicketRefused) as refused:
        NovaTokens(settings("ticket = issued")).verify(TOKEN)

    assert TICKET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_session_of_a_nova_token_can_be_resumed(settings, tmp_path):
    from mksfilter.auth.keys import KeyRepository

    keys = KeyRepository(str(tmp_path / "keys"))
    keys.setup()
    codec = TokenCodec(keys, "mksfilter")
    claims, _ = NovaTokens(settings()).verify(TOKEN)

    resumed = codec.verify(codec.renew(claims, ttl=60), uses=("resume",))

    assert resumed.iid == INSTANCE


def test_once_only_knows_the_token_by_a_name_that_does_not_open_it(settings):
    tokens = NovaTokens(settings())

    (first, _), (second, _) = tokens.verify(TOKEN), tokens.verify(TOKEN)

    assert first.jti == second.jti
    assert len(first.jti) == 22
    assert TOKEN not in repr(first)


@pytest.mark.parametrize(
    "token",
    ["", "mks1.abc.def.ghi", TOKEN.upper(), TOKEN + "\n", f"{TOKEN}/../x", "../servers/" + TOKEN],
)
def test_nova_is_not_asked_about_anything_else(cloud, settings, token):
    assert not is_nova_token(token)
    with pytest.raises(TokenMalformed):
        NovaTokens(settings()).verify(token)
    assert cloud.asked == []


def test_unknown_token_is_denied(cloud, settings):
    cloud.status, cloud.body = 404, '{"itemNotFound": {"code": 404, "message": "Token not found"}}'

    with pytest.raises(TokenExpired, match="does not know it"):
        NovaTokens(settings()).verify(TOKEN)


@pytest.mark.parametrize("status", [401, 403])
def test_nova_that_refuses_us_is_the_operators_business(cloud, settings, status):
    cloud.status = status

    with pytest.raises(TokenServiceUnavailable, match="os-console-auth-tokens"):
        NovaTokens(settings()).verify(TOKEN)


def test_keystone_that_refuses_us_is_the_operators_business(cloud, settings):
    cloud.login_status = 401

    with pytest.raises(TokenServiceUnavailable, match="check its password"):
        NovaTokens(settings()).verify(TOKEN)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, "{}"),
        (503, "busy"),
        (406, "{}"),
        (200, "<html>"),
        (200, "{}"),
        (200, "[]"),
        (200, '{"console": null}'),
        (200, '{"console": {}}'),
        (200, '{"console": {"instance_uuid": "../x"}}'),
    ],
)
def test_nova_that_answers_anything_else_is_unavailable(cloud, settings, status, body):
    cloud.status, cloud.body = status, body

    with pytest.raises(TokenServiceUnavailable):
        NovaTokens(settings()).verify(TOKEN)


def test_region_that_is_not_in_the_catalogue_is_named(settings):
    with pytest.raises(TokenServiceUnavailable, match="region_name"):
        NovaTokens(settings("region_name = elsewhere")).verify(TOKEN)


def test_cloud_that_is_down_is_unavailable(cloud, settings):
    tokens = NovaTokens(settings())
    cloud.shutdown()
    cloud.server_close()

    with pytest.raises(TokenServiceUnavailable, match="cannot be asked"):
        tokens.verify(TOKEN)


def test_service_that_does_not_answer_is_named(cloud, settings):
    new, logged_in = NovaTokens(settings("timeout = 1")), NovaTokens(settings("timeout = 1"))
    logged_in.verify(TOKEN)
    cloud.drip.set()

    with pytest.raises(TokenServiceUnavailable, match=f"keystone at {cloud.url}/v3 within 1 s"):
        new.verify(TOKEN)
    with pytest.raises(TokenServiceUnavailable, match=f"nova at {cloud.url}/v2.1 within 1 s"):
        logged_in.verify(TOKEN)


def test_one_deadline_holds_for_the_place_and_the_answer(cloud, settings, monkeypatch):
    monkeypatch.setattr("mksfilter.auth.nova_api.MAX_IN_FLIGHT", 1)
    tokens = NovaTokens(settings("timeout = 1"))
    tokens.verify(TOKEN)
    cloud.drip.set()
    with pytest.raises(TokenServiceUnavailable):
        tokens.verify(TOKEN)

    started = time.monotonic()
    with pytest.raises(TokenServiceUnavailable, match="unanswered already"):
        tokens.verify(TOKEN)
    assert time.monotonic() - started < 1.8


def test_answer_that_drips_is_not_waited_for(cloud, settings):
    cloud.drip.set()
    started = time.monotonic()

    with pytest.raises(TokenServiceUnavailable, match=r"within 1 s"):
        NovaTokens(settings("timeout = 1")).verify(TOKEN)

    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "path",
    [None, "", TICKET, "{}", "[]", json.dumps({"ticket": TICKET, "cfgFile": "x"}), '{"ticket": 1}'],
)
def test_console_of_another_driver_has_no_ticket_to_use(cloud, settings, path):
    cloud.body = json.dumps({"console": {**CONSOLE, "internal_access_path": path}})

    with pytest.raises(TicketRefused) as refused:
        NovaTokens(settings("ticket = issued")).verify(TOKEN)

    assert TICKET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_own_ticket_needs_none_of_that(cloud, settings):
    cloud.body = json.dumps({"console": {**CONSOLE, "internal_access_path": None}})

    assert NovaTokens(settings()).verify(TOKEN)[0].iid == INSTANCE


@pytest.mark.parametrize("status", [200, 404, 500])
def test_no_token_ticket_or_password_in_logs_and_errors(cloud, settings, caplog, status):
    cloud.status = status
    caplog.set_level(logging.DEBUG)
    told = ""
    try:
        told = repr(NovaTokens(settings("ticket = issued")).verify(TOKEN))
    except (TokenExpired, TokenServiceUnavailable) as exc:
        told = f"{exc!r} {exc.__cause__!r}"

    for secret in (TOKEN, TICKET, "nova-pw"):
        assert secret not in caplog.text
        assert secret not in told


def test_no_group_nova_means_no_nova_tokens(tmp_path):
    assert config.nova_settings(config.load()) is None


@pytest.mark.parametrize("missing", ["username", "password", "auth_url"])
def test_incomplete_credentials_are_found_at_the_start(tmp_path, missing):
    given = {"username": "nova", "password": "pw", "auth_url": "http://keystone/v3"}
    del given[missing]
    path = tmp_path / "mksfilter.conf"
    lines = [f"{name} = {value}" for name, value in given.items()]
    path.write_text("\n".join(["[nova]", "auth_type = password", *lines]))

    with pytest.raises(ConfigurationError, match=rf"\[nova\].*{missing}"):
        config.nova_settings(config.load([str(path)]))


def test_unknown_kind_of_login_is_found_at_the_start(tmp_path):
    path = tmp_path / "mksfilter.conf"
    path.write_text("[nova]\nauth_type = pasword\n")

    with pytest.raises(ConfigurationError, match="pasword"):
        config.nova_settings(config.load([str(path)]))


def test_a_token_that_nova_does_not_know_is_asked_about_once_in_ten_seconds(cloud, settings):
    cloud.status = 404
    now = 1000.0
    tokens = NovaTokens(settings(), clock=lambda: now)
    for _ in range(5):
        with pytest.raises(TokenExpired):
            tokens.verify(TOKEN)
    assert asked_about_tokens(cloud) == 1
    now += 10
    with pytest.raises(TokenExpired):
        tokens.verify(TOKEN)
    assert asked_about_tokens(cloud) == 2


def asked_about_tokens(cloud) -> int:
    return sum("/os-console-auth-tokens/" in path for path, _ in cloud.asked)
