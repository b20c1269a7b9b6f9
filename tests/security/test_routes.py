"""Each route that upgrades x each check: no route lacks one that the others have.

The routes are the application's own. Each denial has an allowed twin, which differs in the one
thing that is checked, so that a denial has one possible cause.
"""

from __future__ import annotations

import base64
import json
import time

import pytest

from mksfilter.auth.token import TokenCodec
from mksfilter.proxy.web.paths import PAGES, UPGRADES
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import WEB_1
from tests.support.page_client import offers, open_page, told
from tests.support.proofs import BrowserKey
from tests.support.proxy import RunningProxy

PREFIX = "/cell1/mks"
OWN = "https://console.example.com"
#: Every path that answers at all, and some near to those that upgrade.
PATHS = sorted(
    {
        *(*PAGES, *UPGRADES, "/healthz", "/livez", "/readyz", "/metrics"),
        *("/static/console.css", "/static/novnc/console.js", "/static/", "/favicon.ico"),
        *("/websockify/", "/Websockify", "/websockify;x", "/websockify/x", "//", "//websockify"),
        *("/%2fwebsockify", "/./websockify", "/static/../websockify", "/vnc.html/websockify"),
    }
)


@pytest.fixture(scope="module")
def _walked(_vsphere_process, tmp_path_factory):
    """A proxy that is told its URL, with a path prefix."""
    from tests.support.proxy import start_proxy

    with start_proxy(
        [_vsphere_process.vcenter_settings()],
        webmks_proxy_base_url=f"{OWN}{PREFIX}/",
        max_sessions_per_instance=0,
        connection_rate=0,
    ) as running:
        yield running


@pytest.fixture
def walked(vsphere, _walked):
    return _walked


def asked(proxy: RunningProxy, route: str, token: str = "", **changes):
    """The answer to a good opening handshake of a browser, with *changes*."""
    headers = {"Origin": OWN, **changes.pop("headers", {})}
    return proxy.upgrade(token, path=route, headers=headers, **changes)


def _foreign(origin):
    return lambda proxy: {"token": proxy.token(WEB_1), "headers": {"Origin": origin}}


def _minted(**terms):
    def change(proxy):
        codec = TokenCodec(proxy.codec._keys, terms.get("audience", "tests"), **terms["clock"])
        request = ConsoleRequest(WEB_1, mode="full")
        return {"token": codec.issue(request, ttl=60, use=terms.get("use", "connect")).token}

    return change


def _edited(proxy):
    version, kid, payload, mac = proxy.token(WEB_1).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims["mode"] = "view"
    text = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return {"token": ".".join((version, kid, text, mac))}


def _resumed(bind):
    def change(proxy):
        with open_page(proxy, proxy.token(WEB_1)) as page:
            resume = told(page)["resume"]
        return bind(resume)

    return change


#: What is changed of a request that would open a console, and what it is then answered.
DENIALS = {
    "foreign origin": (403, _foreign("https://evil.example")),
    "origin null": (403, _foreign("null")),
    "origin as a longer name": (403, _foreign(f"{OWN}.evil.example")),
    "origin of another port": (403, _foreign(f"{OWN}:8443")),
    "origin of another scheme": (403, _foreign("http://console.example.com")),
    "host and origin of a site whose name leads here": (
        403,
        lambda proxy: {
            "token": proxy.token(WEB_1),
            "headers": {"Origin": "http://evil.example", "Host": "evil.example"},
        },
    ),
    "forwarded headers of a stranger": (
        403,
        lambda proxy: {
            "token": proxy.token(WEB_1),
            "headers": {
                "Origin": "https://evil.example",
                "X-Forwarded-Host": "evil.example",
                "X-Forwarded-Proto": "https",
            },
        },
    ),
    "no token": (403, lambda proxy: {}),
    "a token's id": (403, lambda proxy: {"token": proxy.codec.verify(proxy.token(WEB_1)).jti}),
    "an edited token": (403, _edited),
    "an expired token": (403, _minted(clock={"clock": lambda: time.time() - 3600})),
    "a token from tomorrow": (403, _minted(clock={"clock": lambda: time.time() + 3600})),
    "another deployment's token": (403, _minted(audience="other", clock={})),
    "an unbound resume token": (403, _minted(use="resume", clock={})),
    "a resume token as a link": (403, _resumed(lambda token: {"token": token})),
    "a stolen resume token": (
        403,
        _resumed(lambda token: {"subprotocols": offers(token, BrowserKey(), origin=OWN)}),
    ),
    "a proof for another origin": (
        403,
        _resumed(lambda token: {"subprotocols": offers(token, origin="https://evil.example")}),
    ),
    "a browser's cookie": (
        403,
        lambda proxy: {"headers": {"Cookie": f"token={proxy.token(WEB_1)}"}},
    ),
    "version 8": (
        426,
        lambda proxy: {
            "token": proxy.token(WEB_1),
            "headers": {"Sec-WebSocket-Version": "8"},
        },
    ),
    "another upgrade": (
        426,
        lambda proxy: {"token": proxy.token(WEB_1), "headers": {"Upgrade": "h2c"}},
    ),
    "a malformed key": (
        400,
        lambda proxy: {"token": proxy.token(WEB_1), "headers": {"Sec-WebSocket-Key": "x"}},
    ),
    "no Host": (400, lambda proxy: {"token": proxy.token(WEB_1), "headers": {"Host": None}}),
}
ROUTES = [prefix + route for prefix in ("", PREFIX) for route in UPGRADES]


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_that_upgrades_opens_for_its_own_page_and_for_programs(walked, route):
    """The allowed twin of every denial below."""
    assert asked(walked, route, walked.token(WEB_1)).status == 101
    assert asked(walked, route, walked.token(WEB_1), headers={"Origin": None}).status == 101
    offered = ["binary", f"mks.token.{walked.token(WEB_1)}"]
    assert asked(walked, route, subprotocols=offered).status == 101
    resume = _resumed(lambda token: {"subprotocols": offers(token, origin=OWN)})(walked)
    assert asked(walked, route, **resume).status == 101


@pytest.mark.parametrize("denial", DENIALS)
@pytest.mark.parametrize("route", ROUTES)
def test_cve_2026_34403_no_route_that_upgrades_lacks_a_check(walked, vsphere, route, denial):
    """And those like it: CVE-2026-44985, -42283, -44514, -55883, -22689."""
    status, change = DENIALS[denial]
    changes = change(walked)
    before = vsphere.calls()["total"]
    answer = asked(walked, route, **changes)
    assert (answer.status, answer.body) == (status, b"")
    assert answer.headers["connection"] == "close"
    assert vsphere.calls()["total"] == before, "vCenter was asked"


@pytest.mark.parametrize("path", [path for path in PATHS if path not in UPGRADES])
def test_no_other_path_upgrades(walked, vsphere, path):
    before = vsphere.calls()["total"]
    for prefix in ("", PREFIX):
        answer = asked(walked, prefix + path, walked.token(WEB_1))
        assert answer.status in (400, 404), answer
        assert "location" not in answer.headers
    assert vsphere.calls()["total"] == before


@pytest.mark.parametrize("upgrade", [True, False])
@pytest.mark.parametrize(
    "path", ["//", "//evil.example/%2f..", "/%2f", "/\\evil.example", "/..", "/static/..%2f"]
)
def test_ghsa_c4j6_fc7j_m34r_a_path_is_judged_alike_with_and_without_an_upgrade(
    walked, path, upgrade
):
    """And CVE-2021-3654: never a redirect."""
    headers = {"Host": "console.example.com", "X-Forwarded-Host": "evil.example"}
    if upgrade:
        answer = asked(walked, path, walked.token(WEB_1), headers=headers)
    else:
        answer = walked.get(path, **{name.replace("-", "_"): v for name, v in headers.items()})
    assert answer.status in (400, 404)
    assert "location" not in answer.headers
    assert b"evil.example" not in answer.body


@pytest.mark.parametrize("path", PATHS)
def test_cve_2026_43575_nothing_that_opens_a_session_is_given_without_a_token(
    walked, vsphere, path
):
    """And GHSA-25gx-x37c-7pph: a helper route gave credentials to whoever asked."""
    minted = walked.token(WEB_1)
    claims = walked.codec.verify(minted)
    secrets = [*minted.split(".")[1:], claims.jti, WEB_1, vsphere.vcenter_settings().password]
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        answer = walked.get(path, method=method)
        said = answer.body.decode("latin-1") + repr(answer.headers)
        assert not any(secret in said for secret in secrets)
        assert not {"set-cookie", "location", "refresh", "www-authenticate"} & set(answer.headers)
    assert vsphere.calls()["calls"].get("AcquireTicket", 0) == 0
