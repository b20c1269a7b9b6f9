"""The real ``openstack`` client, for whoever may and whoever may not."""

from __future__ import annotations

import json

import pytest

from . import servers

COMMAND = ("console", "url", "show", "--mks", "-f", "json")


@pytest.fixture(autouse=True)
def _catalogue(nova_api):
    """The catalogue points to the API with the filter."""


def test_member_gets_a_url(stack, claims_of):
    done = stack.openstack("member", *COMMAND, "vm-active")

    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["protocol"], shown["type"]) == ("mks", "webmks")
    assert claims_of(shown["url"]).iid == servers.ACTIVE


def test_admin_gets_a_url_of_anyones_server(stack, claims_of):
    done = stack.openstack("admin", *COMMAND, servers.ACTIVE)

    assert done.returncode == 0, done.stderr
    assert claims_of(json.loads(done.stdout)["url"]).pid == stack.projects["demo"]


def test_reader_is_refused(stack):
    done = stack.openstack("reader", *COMMAND, "vm-active")

    assert done.returncode != 0
    assert "Policy doesn't allow os_compute_api:os-remote-consoles" in done.stderr


def test_another_project_does_not_find_it(stack):
    done = stack.openstack("other", *COMMAND, "vm-active")

    assert done.returncode != 0
    assert "No Server found for vm-active" in done.stderr
