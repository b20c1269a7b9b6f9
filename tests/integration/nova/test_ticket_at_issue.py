"""``ticket_at = issue``: nova-api takes the ticket, and a proxy that knows no vCenter uses it."""

from __future__ import annotations

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.endpoint import Endpoint
from mksfilter.simulator.viewer import Viewer
from tests.support.proxy import configuration, start_proxy

from . import servers
from .conftest import PROXY

MKS = {"remote_console": {"protocol": "mks", "type": "webmks"}}
SHARED = {"audience": "integration", "ticket_at": "issue"}


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
    written = configuration(directory, [vcenter], key_repository=keys, vsphere_hosts="*", **SHARED)
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
    asked = vsphere.calls()["total"]

    refused = ask("reader", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)

    assert refused.status_code == 403
    assert vsphere.calls()["total"] == asked


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
