"""``resume_asks_nova`` at a running proxy: Nova is asked when a page comes back, and not before."""

from __future__ import annotations

import pytest

from mksfilter.exceptions import AccessWithdrawn, InstanceNotFound, TokenServiceUnavailable
from mksfilter.simulator.client import WEB_1
from tests.support.cloud import Cloud
from tests.support.page_client import open_page, told, until_closed

PROJECT = "p1"


@pytest.fixture
def cloud():
    with Cloud() as cloud:
        cloud.servers = {WEB_1: {"id": WEB_1, "tenant_id": PROJECT}}
        yield cloud


@pytest.fixture
def proxy(proxy_factory, cloud, tmp_path):
    path = tmp_path / "nova.conf"
    path.write_text(cloud.configuration())
    return proxy_factory("--config-file", str(path), resume_asks_nova=True)


@pytest.fixture
def resume(proxy, cloud):
    """What a page that was cut off has in its memory."""
    with open_page(proxy, proxy.token(WEB_1, project_id=PROJECT)) as page:
        token = told(page)["resume"]
    assert cloud.asked == []
    return token


def test_a_page_comes_back_to_its_machine(proxy, cloud, resume):
    with open_page(proxy, resume) as page:
        assert told(page)["type"] == "hello"
    assert [path for path, _ in cloud.asked] == [f"/v2.1/servers/{WEB_1}"]


@pytest.mark.parametrize(
    ("servers", "status", "expected"),
    [
        ({}, 200, InstanceNotFound),
        ({WEB_1: {"id": WEB_1, "tenant_id": "p2"}}, 200, AccessWithdrawn),
        ({WEB_1: {"id": WEB_1, "tenant_id": PROJECT}}, 503, TokenServiceUnavailable),
    ],
    ids=["gone", "another-project", "nova-is-down"],
)
def test_a_page_is_told_why_it_may_not_come_back(
    proxy, cloud, vsphere, resume, servers, status, expected
):
    """And vCenter is not asked."""
    cloud.servers, cloud.status = servers, status
    before = vsphere.calls()["total"]

    with open_page(proxy, resume) as page:
        said, code = until_closed(page)

    assert [message["reason"] for message in said] == [expected.reason]
    assert code == expected.close_code
    assert vsphere.calls()["total"] == before
    proxy.wait_for_log(f"event=console-refused reason={expected.reason}")


def test_the_option_without_credentials_is_refused_at_the_start(proxy_factory):
    with pytest.raises(AssertionError, match=r"resume_asks_nova is set, and \[nova\] names no way"):
        proxy_factory(resume_asks_nova=True)
