"""An authorised request becomes a URL, and the token in it says what was authorised."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from mksfilter.auth.token import TokenCodec
from mksfilter.config import FilterSettings, ProxyRoute
from mksfilter.exceptions import (
    ConfigurationError,
    InstancePoweredOff,
    KeyRepositoryError,
    VCenterBusy,
    VCenterUnreachable,
)
from mksfilter.issuer import Issuer, token_url
from mksfilter.request import ConsoleRequest
from tests.auth.keyring import Keyring, key
from tests.support.clock import Clock

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
SETTINGS = FilterSettings(
    key_repository="/nowhere",
    audience="cloud-a",
    clock_skew=30,
    ticket_at="connect",
    webmks_proxy_base_url="https://console.example.com/",
    token_ttl=600,
    session_lifetime=0,
    view_role_policy="mksfilter:view-console",
    policy_file="",
    allowed_networks=(),
    vsphere_hosts=(),
    also_answer=(),
    identity="keystone",
    ticket_timeout=10.0,
    tickets_at_once=4,
    start_without_keys=False,
    routes=(),
    runtime_directory="",
)


@pytest.fixture
def codec():
    return TokenCodec(Keyring(key()), "cloud-a", clock=Clock())


def ask(issuer, **changes):
    request = ConsoleRequest(
        INSTANCE, project_id="p1", user_id="u1", request_id="req-1", mode="full"
    )
    return issuer.console_url(dataclasses.replace(request, **changes))


def claims_in(url, codec):
    return codec.verify(parse_qs(urlsplit(url).query)["token"][-1])


def test_the_url_opens_that_instance_for_that_user(codec):
    claims = claims_in(ask(Issuer(codec, SETTINGS), mode="view", vcenter="dc1"), codec)
    assert (claims.iid, claims.pid, claims.uid, claims.rid) == (INSTANCE, "p1", "u1", "req-1")
    assert (claims.mode, claims.vc, claims.exp - claims.iat, claims.max) == (
        "view",
        "dc1",
        600,
        None,
    )


def test_a_session_lifetime_is_counted_from_the_request(codec):
    settings = dataclasses.replace(SETTINGS, session_lifetime=3600)
    claims = claims_in(ask(Issuer(codec, settings)), codec)
    assert claims.max == claims.iat + 3600
    assert claims.exp == claims.iat + 600


def test_a_short_session_lifetime_shortens_the_token(codec):
    settings = dataclasses.replace(SETTINGS, session_lifetime=60)
    claims = claims_in(ask(Issuer(codec, settings)), codec)
    assert claims.exp == claims.max == claims.iat + 60


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://c.example.com/", "https://c.example.com/?token=T"),
        ("https://c.example.com", "https://c.example.com/?token=T"),
        ("http://127.0.0.1:6090/", "http://127.0.0.1:6090/?token=T"),
        ("http://[::1]:6090/", "http://[::1]:6090/?token=T"),
        ("https://c.example.com/mks/page.html", "https://c.example.com/mks/page.html?token=T"),
        ("https://c.example.com/cell1/mks/", "https://c.example.com/cell1/mks/?token=T"),
        ("https://c.example.com/cell1/mks", "https://c.example.com/cell1/mks/?token=T"),
        (
            "https://c.example.com/c1/vnc_auto.html?path=c1/websockify",
            "https://c.example.com/c1/vnc_auto.html?path=c1/websockify&token=T",
        ),
        ("https://c.example.com/?region=1", "https://c.example.com/?region=1&token=T"),
        ("https://c.example.com/?", "https://c.example.com/?token=T"),
    ],
)
def test_horizons_title_can_be_appended_to_every_url(base_url, expected):
    url = token_url(base_url, "T")
    assert url == expected
    with_title = parse_qs(urlsplit(f"{url}&title=web-1(UUID)").query)
    assert with_title["token"] == ["T"]
    assert with_title["title"] == ["web-1(UUID)"]


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "console.example.com",
        "//console.example.com/",
        "ftp://console.example.com/",
        "javascript:alert(1)",
        "https://",
        "https://c.example.com:port/",
        "https://[::1/",
        "https://c.example.com/#page",
        "https://c.example.com/#",
        "https://user:secret@c.example.com/",
        "https://c.example.com/\r\nX: y",
    ],
)
def test_a_base_url_that_cannot_work_is_refused_at_the_start(codec, base_url):
    settings = dataclasses.replace(SETTINGS, webmks_proxy_base_url=base_url)
    with pytest.raises(ConfigurationError, match="webmks_proxy_base_url") as caught:
        Issuer(codec, settings)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_log_names_the_token_and_never_holds_it(codec, caplog):
    caplog.set_level(logging.DEBUG)
    url = ask(Issuer(codec, SETTINGS))
    claims = claims_in(url, codec)
    assert f"jti={claims.jti} instance={INSTANCE} project=p1 user=u1 request=req-1" in caplog.text
    assert url.rpartition(".")[2] not in caplog.text
    assert "mks1." not in caplog.text


class Taken:
    """An endpoint as a backend gives it."""

    def to_mapping(self):
        return {"host": "esx-7.internal", "port": 443, "sessionTicket": "cst-secret"}


class Hanging:
    """A vCenter that does not answer."""

    def __init__(self):
        self.released = threading.Event()

    def connect(self, *_, **__):
        self.released.wait(30)
        return Taken()


class Consoles:
    def __init__(self):
        self.asked = []

    def connect(self, instance_id, *, vcenter=None, user_id=""):
        self.asked.append((instance_id, vcenter, user_id))
        return Taken()


UUID_1 = "9d51f082-58a4-4449-beed-6fd205a5726b"
UUID_2 = "00000000-58a4-4449-beed-6fd205a5726b"


class TestProxyNearEachVCenter:
    routes = (
        ProxyRoute("dc1", UUID_1, "https://dc1.example.com/mks/"),
        ProxyRoute("dc2", UUID_2),
    )

    def url(self, codec, common, vcenter, routes=routes):
        settings = dataclasses.replace(SETTINGS, webmks_proxy_base_url=common, routes=routes)
        return ask(Issuer(codec, settings), vcenter=vcenter).partition("token=")[0]

    @pytest.mark.parametrize(
        ("vcenter", "expected"),
        [
            (UUID_1, "https://dc1.example.com/mks/?"),
            ("dc1", "https://dc1.example.com/mks/?"),
            (UUID_2, "https://c.example.com/?"),
            (None, "https://c.example.com/?"),
            ("somewhere", "https://c.example.com/?"),
        ],
    )
    def test_has_a_url_of_its_own(self, codec, vcenter, expected):
        assert self.url(codec, "https://c.example.com/", vcenter) == expected

    @pytest.mark.parametrize(
        ("vcenter", "expected"),
        [
            (UUID_2, "https://dc2.example.com/cell/dc2/?"),
            ("other", "https://other.example.com/cell/other/?"),
            ("a/b", "https://a%2Fb.example.com/cell/a%2Fb/?"),
        ],
    )
    def test_may_be_named_in_the_common_one(self, codec, vcenter, expected):
        common = "https://{vcenter}.example.com/cell/{vcenter}"
        assert self.url(codec, common, vcenter) == expected

    def test_is_named_by_its_uuid_where_nobody_gave_it_a_name(self, codec):
        url = self.url(codec, "https://c.example.com/{vcenter}/", UUID_2, routes=())
        assert url == f"https://c.example.com/{UUID_2}/?"

    def test_no_url_is_made_up_for_a_vcenter_that_is_not_known(self, codec):
        with pytest.raises(ConfigurationError, match="does not name its vCenter"):
            self.url(codec, "https://c.example.com/{vcenter}/", None)

    @pytest.mark.parametrize(
        ("route", "said"),
        [
            (ProxyRoute("dc1", UUID_1, "dc1.example.com"), "not a URL"),
            (ProxyRoute("dc1", "", "https://dc1.example.com/"), r"\[vcenter.dc1\].*instance_uuid"),
        ],
    )
    def test_that_cannot_work_is_refused_at_the_start(self, codec, route, said):
        with pytest.raises(ConfigurationError, match=said):
            self.url(codec, "https://c.example.com/", None, routes=(route,))


class TestTicketAtIssue:
    settings = dataclasses.replace(SETTINGS, ticket_at="issue")

    def test_seals_the_ticket_into_the_token(self, codec):
        consoles = Consoles()
        url = ask(Issuer(codec, self.settings, consoles=consoles), vcenter="dc1")
        assert consoles.asked == [(INSTANCE, "dc1", "u1")]
        assert codec.connect_info(claims_in(url, codec)) == Taken().to_mapping()
        assert "cst-secret" not in url

    def test_gives_no_token_when_vsphere_gives_no_ticket(self, codec):
        class PoweredOff:
            def connect(self, *_, **__):
                raise InstancePoweredOff("off")

        with pytest.raises(InstancePoweredOff):
            ask(Issuer(codec, self.settings, consoles=PoweredOff()))

    def test_a_vcenter_that_hangs_costs_a_request_its_deadline_and_others_nothing(self, codec):
        consoles = Hanging()
        settings = dataclasses.replace(self.settings, ticket_timeout=0.2, tickets_at_once=1)
        issuer = Issuer(codec, settings, consoles=consoles)
        try:
            with pytest.raises(VCenterUnreachable, match=r"0\.2 s"):
                ask(issuer)
            started = time.monotonic()
            with pytest.raises(VCenterBusy, match="tickets_at_once"):
                ask(issuer)
            assert time.monotonic() - started < 5
        finally:
            consoles.released.set()

    def test_no_ticket_is_taken_that_nobody_could_sign_for(self, codec):
        class Lost:
            def primary(self):
                raise KeyRepositoryError("gone")

        consoles = Consoles()
        issuer = Issuer(TokenCodec(Lost(), "cloud-a"), self.settings, consoles=consoles)
        with pytest.raises(KeyRepositoryError):
            ask(issuer)
        assert consoles.asked == []

    def test_is_refused_at_the_start_without_vcenters(self, codec):
        with pytest.raises(ConfigurationError, match="ticket_at = issue needs vcenters"):
            Issuer(codec, self.settings)


def test_no_ticket_is_taken_at_issue_unless_told_to(codec):
    consoles = Consoles()
    ask(Issuer(codec, SETTINGS, consoles=consoles))
    assert consoles.asked == []
