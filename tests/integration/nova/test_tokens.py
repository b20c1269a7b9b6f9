"""What the tokens say that the filter mints inside Nova."""

from __future__ import annotations

import time

import pytest

from . import servers

MKS = {"remote_console": {"protocol": "mks", "type": "webmks"}}


def console(ask, user, server):
    answer = ask(user, f"/servers/{server}/remote-consoles", MKS)
    return answer, answer.json().get("remote_console", {}).get("url")


def test_token_names_instance_project_user_and_request(ask, claims_of, stack):
    answer, url = console(ask, "admin", servers.ACTIVE)

    claims = claims_of(url)
    assert claims.iid == servers.ACTIVE
    assert claims.pid == stack.projects["demo"]
    assert claims.uid not in ("", *stack.users.values())
    assert claims.rid == answer.headers["x-openstack-request-id"]
    assert claims.mode == "full"
    assert claims.exp - time.time() == pytest.approx(600, abs=5)


def test_token_names_the_vcenter_of_the_vmware_driver(ask, claims_of):
    _, url = console(ask, "member", servers.WEB)

    assert claims_of(url).vc == servers.VCENTER


def test_token_of_another_drivers_server_names_no_vcenter(ask, claims_of):
    _, url = console(ask, "member", servers.ACTIVE)

    assert claims_of(url).vc is None


def test_reader_may_watch_where_the_policy_says_so(ask, claims_of, policy):
    policy({"mksfilter:view-console": "role:reader and project_id:%(project_id)s"})

    _, url = console(ask, "reader", servers.ACTIVE)

    assert claims_of(url).mode == "view"


def test_member_may_still_type_where_readers_may_watch(ask, claims_of, policy):
    policy({"mksfilter:view-console": "role:reader or role:member"})

    _, url = console(ask, "member", servers.ACTIVE)

    assert claims_of(url).mode == "full"


def test_watching_needs_the_server_to_be_visible(ask, policy):
    policy({"mksfilter:view-console": "@"})

    assert console(ask, "reader", servers.OF_OTHER)[0].status_code == 404


def test_watching_is_for_webmks_alone(ask, policy):
    policy({"mksfilter:view-console": "@"})
    vnc = {"remote_console": {"protocol": "vnc", "type": "novnc"}}

    assert ask("reader", f"/servers/{servers.ACTIVE}/remote-consoles", vnc).status_code == 403


def test_novas_own_policy_decides_who_gets_a_console(ask, policy):
    policy({"os_compute_api:os-remote-consoles": "role:reader"})

    assert console(ask, "reader", servers.ACTIVE)[0].status_code == 200


def test_nobody_else_is_asked(ask, stack):
    """No neutron, no glance, no placement; nova-compute and RabbitMQ do not even run."""
    before = len(stack.neutron.asked)

    assert console(ask, "member", servers.ACTIVE)[0].status_code == 200
    assert stack.neutron.asked[before:] == []


def test_no_token_reaches_novas_log(ask, nova_api):
    _, url = console(ask, "member", servers.ACTIVE)

    token = url.partition("token=")[2]
    jti_line = [line for line in nova_api.logged().splitlines() if "console-link-issued" in line]
    assert jti_line
    assert token not in nova_api.logged()
