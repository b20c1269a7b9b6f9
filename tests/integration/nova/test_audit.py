"""The audit trail from a real Nova to the end of a console at the proxy."""

from __future__ import annotations

import json

import pytest

from mksfilter.cli import main
from mksfilter.simulator.viewer import Viewer
from tests.support.proxy import start_proxy

from . import servers
from .conftest import PROXY

MKS = {"remote_console": {"protocol": "mks", "type": "webmks"}}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Nova's, and the proxy's."""
    directory = tmp_path_factory.mktemp("audit")
    return directory / "nova", directory / "proxy"


@pytest.fixture(scope="module")
def proxy(keys, files, _vsphere_process):
    options = {"key_repository": keys, "audience": "integration", "audit_file": files[1]}
    with start_proxy([_vsphere_process.vcenter_settings()], **options) as running:
        yield running


@pytest.fixture(scope="module")
def api(stack, filtered_paste, options, proxy, files):
    """A link is given out when its event is in the file."""
    api = stack.nova_api(
        filtered_paste.replace(PROXY, proxy.base_url),
        "audit",
        options=f"{options}audit_file = {files[0]}\naudit_fail_closed = true\n",
    )
    yield api
    api.stop()


def test_a_console_is_followed_by_its_request_from_nova_to_its_end(
    ask, api, proxy, files, stack, claims_of, vsphere, capsys
):
    answer = ask("member", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)
    refused = ask("reader", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)
    assert (answer.status_code, refused.status_code) == (200, 403)
    request = answer.headers["X-OpenStack-Request-ID"]
    url = answer.json()["remote_console"]["url"]
    with Viewer.open_page(url) as viewer:
        viewer.framebuffer()
    proxy.wait_for_log("event=session-ended")
    proxy.stop()  # its file is whole now

    capsys.readouterr()
    arguments = [word for file in files for word in ("--file", str(file))]
    assert main(["audit", *arguments, "--request", request, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [event["action"] for event in events] == ["asked", "opened", "ended"]
    assert [event["service"] for event in events] == ["api", "proxy", "proxy"]
    claims = claims_of(url)
    for event in events:
        assert event["request"] == request
        assert event["user"] == claims.uid
        assert event["project"] == stack.projects["demo"]
        assert event["instance"] == servers.WEB
        assert event["session"] == claims.jti
    assert events[0]["client"] == "127.0.0.1"
    assert refused.headers["X-OpenStack-Request-ID"] not in json.dumps(events)
