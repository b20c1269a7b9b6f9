"""Tokens of stock Nova's consoles at a running proxy, to the pixels."""

from __future__ import annotations

import json

import pytest

from mksfilter.backends.resolver import Consoles
from tests.support.cloud import Cloud

TOKEN = "9f3c5f5e-5b2c-4a7e-9a55-0d5a7e7f0b11"


@pytest.fixture
def cloud():
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def proxy(proxy_factory, cloud, tmp_path):
    """A proxy with ``[nova]``."""

    def start(*more, **options):
        path = tmp_path / "nova.conf"
        path.write_text(cloud.configuration() + "\n".join(more))
        return proxy_factory("--config-file", str(path), **options)

    return start


def nova_stores(cloud, instance, **stored):
    cloud.body = json.dumps({"console": {"instance_uuid": instance, **stored}})


def test_own_ticket_shows_the_screen(cloud, proxy, vsphere):
    machine = vsphere.vm("web-1")
    nova_stores(cloud, machine["uuid"], host="x", port=1, internal_access_path=None)

    with proxy().viewer(TOKEN) as viewer:
        assert len(viewer.framebuffer().getcolors(1 << 24)) > 1


def test_issued_ticket_shows_the_screen(cloud, proxy, vsphere):
    """nova-compute took the ticket; the proxy uses it and asks vCenter nothing."""
    machine = vsphere.vm("web-1")
    consoles = Consoles([vsphere.vcenter_settings(backend="mks")])
    issued = consoles.connect(machine["uuid"])
    consoles.close()
    nova_stores(
        cloud,
        machine["uuid"],
        host=issued.host,
        port=issued.port,
        internal_access_path=json.dumps(
            {
                "ticket": issued.ticket,
                "cfgFile": issued.config_file,
                "thumbprint": issued.digests[0].value.hex(":"),
            }
        ),
    )
    running = proxy("ticket = issued")
    before = vsphere.calls()["total"]

    with running.viewer(TOKEN) as viewer:
        assert len(viewer.framebuffer().getcolors(1 << 24)) > 1

    assert vsphere.calls()["total"] == before
    assert issued.ticket not in running.log()


@pytest.fixture
def webmks(cloud, vsphere):
    """A webmks ticket as nova-compute was given it, and the file of the CA behind its host."""
    machine = vsphere.vm("web-1")
    consoles = Consoles([vsphere.vcenter_settings(backend="webmks")])
    issued = consoles.connect(machine["uuid"])
    consoles.close()
    nova_stores(
        cloud,
        machine["uuid"],
        host=issued.host,
        port=issued.port,
        internal_access_path=issued.resource,
    )
    return issued, vsphere.vcenter_settings().ca_file


def test_issued_webmks_ticket_shows_the_screen(proxy, vsphere, webmks):
    issued, ca_file = webmks
    running = proxy("ticket = issued", f"console_ca_file = {ca_file}")
    before = vsphere.calls()["total"]

    with running.viewer(TOKEN) as viewer:
        assert len(viewer.framebuffer().getcolors(1 << 24)) > 1

    assert vsphere.calls()["total"] == before
    assert issued.resource not in running.log()


def test_a_host_that_no_ca_vouches_for_is_refused_before_it_gets_the_ticket(proxy, webmks):
    running = proxy("ticket = issued")

    assert running.upgrade(TOKEN).status == 502

    line = running.wait_for_log("reason=certificate-mismatch")
    assert "set [nova] console_ca_file" in line
    # The ticket is good for one use: it was not sent.
    with proxy("ticket = issued", "console_insecure = true").viewer(TOKEN) as viewer:
        assert viewer.name == "web-1"


def test_an_option_allows_it_and_the_log_says_so(proxy, webmks):
    running = proxy("ticket = issued", "console_insecure = true")

    with running.viewer(TOKEN) as viewer:
        assert viewer.name == "web-1"

    running.wait_for_log('event=certificate-not-verified option="[nova] console_insecure"')
    running.wait_for_log("certificate=not-verified")


def test_machine_that_is_gone_is_refused_though_nova_knows_the_token(cloud, proxy, vsphere):
    """A token must not outlive its machine (CVE-2013-0335)."""
    machine = vsphere.vm("web-1")
    nova_stores(cloud, machine["uuid"], host="x", port=1, internal_access_path=None)
    vsphere.set_vm("web-1", deleted=True)

    assert proxy().upgrade(TOKEN).status == 404


def test_once_only_holds_for_them_too(cloud, proxy, vsphere):
    machine = vsphere.vm("web-1")
    nova_stores(cloud, machine["uuid"], host="x", port=1, internal_access_path=None)
    running = proxy(replay_cache="local")

    with running.viewer(TOKEN):
        assert running.upgrade(TOKEN).status == 403


def test_without_credentials_a_uuid_is_no_token(proxy_factory, cloud):
    assert proxy_factory().upgrade(TOKEN).status == 403
    assert cloud.asked == []


def test_neither_page_nor_log_nor_answer_tells_the_token(cloud, proxy, vsphere):
    cloud.status = 503
    running = proxy()

    answer = running.upgrade(TOKEN)
    page = running.get(f"/?token={TOKEN}")

    assert answer.status == 503
    assert TOKEN.encode() not in page.body
    assert TOKEN not in running.log()
