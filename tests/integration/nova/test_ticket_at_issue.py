"""``ticket_at = issue``: nova-api takes the ticket, and a proxy that knows no vCenter uses it."""

from __future__ import annotations

import concurrent.futures
import time

import pytest
import requests

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.endpoint import Endpoint
from mksfilter.simulator.viewer import Viewer
from tests.support.proxy import configuration, start_proxy

from . import servers
from .conftest import PROXY
from .stack import WORKER

MKS = {"remote_console": {"protocol": "mks", "type": "webmks"}}
#: Of 8 threads; the deadline is shorter than what a call to vCenter may take.
LIMITS = {"vsphere_hosts": "*", "ticket_timeout": 3, "tickets_at_once": 2}
SHARED = {"audience": "integration", "ticket_at": "issue"}

UNREACHABLE = (
    "The console service cannot reach this machine's cloud at the moment. Try again later."
)
BUSY = "Many consoles are being opened at the moment. Try again in a moment."


@pytest.fixture(scope="module")
def proxy(keys):
    """In a DMZ: it has the keys and may log in nowhere."""
    with start_proxy([], key_repository=keys, **SHARED) as running:
        yield running


@pytest.fixture(scope="module")
def api(stack, filtered_paste, keys, _vsphere_process, proxy, tmp_path_factory):
    """nova-api with ``[vcenter.…]`` in its nova.conf."""
    vcenter = _vsphere_process.vcenter_settings()
    directory = tmp_path_factory.mktemp("issue")
    written = configuration(directory, [vcenter], key_repository=keys, **LIMITS, **SHARED)
    paste = filtered_paste.replace(PROXY, proxy.base_url)
    api = stack.nova_api(paste, "issue", options=written.read_text())
    yield api
    api.stop()


def test_proxy_without_vcenters_shows_the_screen(ask, api, proxy, vsphere):
    answer = ask("member", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)
    assert answer.status_code == 200
    asked = vsphere.calls()["total"]

    with Viewer.open_page(answer.json()["remote_console"]["url"]) as viewer:
        assert len(viewer.framebuffer().getcolors(1 << 24)) > 1

    assert vsphere.calls()["total"] == asked


def test_what_vcenter_refuses_is_a_fault_of_novas(ask, api, vsphere):
    off = ask("member", f"/servers/{servers.OFF}/remote-consoles", MKS, api=api)
    unknown = ask("member", f"/servers/{servers.ACTIVE}/remote-consoles", MKS, api=api)

    assert off.status_code == 409
    assert off.json()["conflictingRequest"]["message"] == (
        "This machine is powered off. Start it, then open its console again."
    )
    assert unknown.status_code == 404
    assert "itemNotFound" in unknown.json()


def test_who_may_not_have_a_console_costs_vcenter_nothing(ask, api, vsphere):
    def asked():
        # The look whether vCenter is there goes on by itself, log-in included.
        calls = vsphere.calls()["calls"]
        return [calls.get(name, 0) for name in ("FindByUuid", "AcquireTicket")]

    before = asked()

    refused = ask("reader", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)

    assert refused.status_code == 403
    assert asked() == before


def test_no_secret_reaches_novas_log(ask, api, keys, vsphere):
    codec = TokenCodec(KeyRepository(str(keys)), SHARED["audience"])
    answer = ask("member", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)
    token = answer.json()["remote_console"]["url"].partition("token=")[2]
    endpoint = Endpoint.from_mapping(codec.connect_info(codec.verify(token)))

    vsphere.set_vcenter(refuse_logins=True)
    vsphere.expire_sessions()
    refused = ask("member", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)
    vsphere.reset()
    assert refused.status_code >= 500

    secrets = {
        *(token, *token.split(".")[2:]),
        endpoint.resource.rpartition("/")[2],
        vsphere.vcenter["password"],
        *(key.read_text().strip().rstrip("=") for key in keys.iterdir()),
    }
    written = api.logged()
    for expected in ("console-link-issued", "vcenter-login", "refused"):
        assert expected in written, "the test looks in the wrong place"
    assert [secret for secret in secrets if secret in written] == []
    assert [secret for secret in secrets if secret in refused.text] == []


# The last two: calls that nobody waits for any more still end.
def test_vcenter_that_says_nothing_is_a_fault_in_words_for_users(ask, api, vsphere):
    vsphere.set_vcenter(silent=True)
    started = time.monotonic()

    answer = ask("member", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)

    assert time.monotonic() - started < 9
    assert answer.status_code == 503
    assert answer.json()["serviceUnavailable"]["message"] == UNREACHABLE
    assert answer.headers["OpenStack-API-Version"] == "compute 2.8"
    logged = api.logged()
    assert "reason=vcenter-unreachable" in logged
    assert "Unexpected exception in API method" not in logged


@pytest.mark.skipif(WORKER == "sync", reason="this Nova's worker serves one request at a time")
def test_vcenter_that_says_nothing_costs_no_other_request_anything(ask, api, stack, vsphere):
    path = f"/servers/{servers.WEB}/remote-consoles"
    headers = {"X-Auth-Token": stack.token("member")}
    vsphere.set_vcenter(silent=True)
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        consoles = [clients.submit(ask, "member", path, MKS, api=api) for _ in range(8)]
        # One has been turned away, so that those with a place are waiting.
        next(concurrent.futures.as_completed(consoles))
        others = time.monotonic()
        shown = requests.get(f"{api.url}/v2.1/servers", headers=headers, timeout=60)
        assert shown.status_code == 200
        assert time.monotonic() - others < 3
        answers = [console.result() for console in consoles]
    assert time.monotonic() - started < 9

    assert {answer.status_code for answer in answers} == {503}
    told = {answer.json()["serviceUnavailable"]["message"] for answer in answers}
    assert BUSY in told
    assert told <= {BUSY, UNREACHABLE}
