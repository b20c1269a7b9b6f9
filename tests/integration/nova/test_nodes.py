"""A mixed cloud: consoles on vSphere are ours, those of every other node stay Nova's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from . import servers
from .stack import Service, Stack
from .test_answers import Case, answer, console

ACTION = "/v2.1/servers/{uuid}/action"
MKS = console("mks", "webmks")
NOVNC = console("vnc", "novnc")
NOVNC_ACTION = json.dumps({"os-getVNCConsole": {"type": "novnc"}})


NEAR = "https://dc1.example.com/cell1/mks/"
OPTIONS = """\
[mksfilter]
key_repository = {keys}
audience = integration
also_answer = novnc
vcenters = dc1
[vcenter.dc1]
instance_uuid = {uuid}
webmks_proxy_base_url = {near}
"""


@pytest.fixture(scope="module")
def mixed(stack: Stack, filtered_paste: str, keys) -> Iterator[Service]:
    """As an operator has it whose clients ask for novnc, with a proxy near the vCenter."""
    options = OPTIONS.format(keys=keys, uuid=servers.VCENTER, near=NEAR)
    api = stack.nova_api(filtered_paste, "mixed", options=options)
    yield api
    api.stop()


@pytest.mark.parametrize(
    "case",
    [
        *(
            Case(f"{name} {user} {version}", user, uuid=uuid, body=body, version=version, **path)
            for user in ("member", "reader", "other")
            for uuid in (servers.ACTIVE, servers.NO_HOST, servers.MIGRATING, servers.NONEXISTENT)
            for name, body, version, path in (
                ("mks", MKS, "2.8", {}),
                ("novnc", NOVNC, "2.6", {}),
                ("novnc action", NOVNC_ACTION, "2.1", {"path": ACTION}),
            )
        ),
        Case("novnc too early", uuid=servers.WEB, body=NOVNC, version="2.5"),
        Case("novnc too late", uuid=servers.WEB, body=NOVNC_ACTION, version="2.6", path=ACTION),
        Case("xvpvnc", uuid=servers.WEB, body=console("vnc", "xvpvnc"), version="2.8"),
        Case("spice", uuid=servers.WEB, body=console("spice", "spice-html5"), version="2.8"),
        Case(
            "novnc of no type",
            uuid=servers.WEB,
            body='{"os-getVNCConsole": {}}',
            version="2.1",
            path=ACTION,
        ),
        Case(
            "novnc and more",
            uuid=servers.WEB,
            body=NOVNC_ACTION[:-1] + ', "reboot": null}',
            version="2.1",
            path=ACTION,
        ),
    ],
    ids=str,
)
def test_elsewhere_every_answer_is_novas(
    case: Case, stack: Stack, native: Service, mixed: Service
) -> None:
    assert answer(stack, mixed, case) == answer(stack, native, case)


@pytest.mark.parametrize("version", ["2.6", "2.8", "latest"])
def test_novnc_on_vsphere_gets_our_url_in_the_same_form(ask, mixed, claims_of, version):
    body = {"remote_console": {"protocol": "vnc", "type": "novnc"}}

    given = ask(
        "member", f"/servers/{servers.WEB}/remote-consoles", body, version=version, api=mixed
    )

    shown = given.json()["remote_console"]
    assert (shown["protocol"], shown["type"]) == ("vnc", "novnc")
    assert shown["url"].startswith(f"{NEAR}?token=mks1.")
    assert (claims_of(shown["url"]).iid, claims_of(shown["url"]).vc) == (
        servers.WEB,
        servers.VCENTER,
    )


@pytest.mark.parametrize("version", [None, "2.1", "2.5"])
def test_novnc_of_old_clients_gets_it_too(ask, mixed, claims_of, version):
    body = {"os-getVNCConsole": {"type": "novnc"}}

    given = ask("member", f"/servers/{servers.WEB}/action", body, version=version, api=mixed)

    assert given.json()["console"]["type"] == "novnc"
    assert claims_of(given.json()["console"]["url"]).iid == servers.WEB


@pytest.mark.parametrize(("path", "version"), [("remote-consoles", "2.8"), ("action", "2.1")])
def test_novnc_is_refused_as_novas_is(ask, mixed, path, version):
    body = json.loads(NOVNC if path == "remote-consoles" else NOVNC_ACTION)

    refused = ask("reader", f"/servers/{servers.WEB}/{path}", body, version=version, api=mixed)
    unseen = ask("other", f"/servers/{servers.WEB}/{path}", body, version=version, api=mixed)

    assert refused.json()["forbidden"]["message"] == (
        "Policy doesn't allow os_compute_api:os-remote-consoles to be performed."
    )
    assert unseen.status_code == 404


def test_viewer_gets_no_native_console_by_the_way(ask, mixed, policy, claims_of):
    policy({"mksfilter:view-console": "role:reader and project_id:%(project_id)s"})
    body = json.loads(NOVNC)

    ours = ask("reader", f"/servers/{servers.WEB}/remote-consoles", body, api=mixed)
    natives = [
        ask("reader", f"/servers/{uuid}/remote-consoles", json.loads(body), api=mixed)
        for uuid, body in (
            (servers.ACTIVE, NOVNC),
            (servers.ACTIVE, MKS),
            (servers.WEB, console("vnc", "xvpvnc")),
        )
    ]

    assert claims_of(ours.json()["remote_console"]["url"]).mode == "view"
    assert [native.status_code for native in natives] == [403, 403, 403]


@pytest.mark.parametrize(
    ("path", "body", "version"),
    [
        ("remote-consoles", MKS, "2.8"),
        ("remote-consoles", NOVNC, "2.6"),
        ("console", '{"protocol": "mks", "type": "webmks"}', "2.1"),
        ("action", '{"os-getMKSConsole": {"type": "webmks"}}', "2.1"),
        ("action", NOVNC_ACTION, "2.1"),
    ],
)
def test_chunked_request_is_answered(stack, mixed, path, body, version):
    where = urlsplit(mixed.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    headers = {
        "X-Auth-Token": stack.token("member"),
        "OpenStack-API-Version": f"compute {version}",
        "Content-Type": "application/json",
    }
    try:
        connection.request(
            *("POST", f"/v2.1/servers/{servers.WEB}/{path}"),
            iter([body[:9].encode(), body[9:].encode()]),
            headers,
            encode_chunked=True,
        )
        assert "token=mks1." in connection.getresponse().read().decode()
    finally:
        connection.close()
