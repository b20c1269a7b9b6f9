"""A proxy that may not log in to any vCenter: the ticket comes sealed in the token."""

from __future__ import annotations

import base64
import json

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.simulator.client import WEB_1
from tests.support.page_client import open_page, told


@pytest.fixture
def endpoint(vsphere):
    """What the filter seals with ``ticket_at = issue``."""
    consoles = Consoles([vsphere.vcenter_settings()])
    yield consoles.connect(WEB_1)
    consoles.close()


@pytest.fixture
def dmz(proxy_factory):
    return proxy_factory(vcenters=[], ticket_at="issue")


def test_the_token_alone_leads_to_the_console(dmz, endpoint):
    token = dmz.token(WEB_1, connect_info=endpoint.to_mapping())
    with dmz.viewer(token) as viewer:
        assert viewer.name == "web-1"
        viewer.framebuffer()


def test_nothing_of_where_it_leads_is_readable_in_it(dmz, endpoint):
    token = dmz.token(WEB_1, connect_info=endpoint.to_mapping())
    payload = token.split(".")[2]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    box = claims.pop("sealed")
    opened = base64.urlsafe_b64decode(box.partition(".")[2] + "==")
    for secret in (
        endpoint.resource.rpartition("/")[2],
        endpoint.host,
        *(digest.value.hex() for digest in endpoint.digests),
        "ticket",
    ):
        assert secret not in token
        assert secret.encode() not in opened
        assert secret not in json.dumps(claims)


def test_its_ticket_is_good_for_one_connection(dmz, endpoint):
    token = dmz.token(WEB_1, connect_info=endpoint.to_mapping())
    assert dmz.upgrade(token).status == 101
    assert dmz.upgrade(token).status == 502


def test_a_token_without_a_ticket_is_told_what_is_missing(dmz):
    assert dmz.upgrade(dmz.token(WEB_1)).status == 403
    assert "ticket_at = issue" in dmz.wait_for_log("reason=token-without-ticket")


def test_a_resume_token_holds_no_ticket_and_says_so(dmz, endpoint):
    token = dmz.token(WEB_1, connect_info=endpoint.to_mapping())
    with open_page(dmz, token) as client:
        resume = told(client)["resume"]
    with open_page(dmz, resume) as client:
        assert told(client)["reason"] == "token-without-ticket"


def test_the_address_in_a_ticket_is_checked(proxy_factory, endpoint):
    """A simulated host is on the loopback; without leave nobody is led there."""
    strict = proxy_factory(vcenters=[], ticket_at="issue", allowed_networks="192.0.2.0/24")
    token = strict.token(WEB_1, connect_info=endpoint.to_mapping())
    assert strict.upgrade(token).status == 502
    strict.wait_for_log("reason=endpoint-forbidden")
