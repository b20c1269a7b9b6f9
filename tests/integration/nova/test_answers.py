"""Every answer with the filter beside the answer of the same Nova without it.

Both APIs run on the same databases with the same policy, and neither has a nova-compute. Where
stock Nova gets as far as calling nova-compute, it waits for it in vain (500, MessagingTimeout):
those requests, and no others, must get a console URL from the filter. Everything else must be
the same to the last header.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from . import servers
from .conftest import PROXY
from .stack import Service, Stack

MKS = json.dumps({"remote_console": {"protocol": "mks", "type": "webmks"}})
SERVER_PATH = "/v2.1/servers/{uuid}/remote-consoles"

NOVA_COMPUTE_ASKED = "oslo_messaging.exceptions.MessagingTimeout"
STATE_NOT_CAUGHT = "nova.exception.InstanceInvalidState"


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    user: str | None = "member"
    uuid: str = servers.ACTIVE
    body: str | bytes | None = MKS
    version: str | None = "2.8"
    method: str = "POST"
    path: str = SERVER_PATH
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    content_type: str | None = "application/json"

    def __str__(self) -> str:
        return self.name


def console(protocol: Any, kind: Any, **more: Any) -> str:
    return json.dumps({"remote_console": {"protocol": protocol, "type": kind, **more}})


CASES = [
    Case("member"),
    Case("reader", "reader"),
    Case("other project", "other"),
    Case("admin", "admin"),
    Case("nobody", None),
    *(
        Case(f"microversion {version}", version=version)
        for version in (None, "2.1", "2.5", "2.6", "2.7", "2.99", "latest", "2.999", "3.0", "x")
    ),
    Case("legacy header", version=None, headers={"X-OpenStack-Nova-API-Version": "2.8"}),
    Case("old version of nothing", version="2.5", uuid=servers.NONEXISTENT),
    Case("no type", body='{"remote_console": {"protocol": "mks"}}'),
    Case("no protocol", body='{"remote_console": {"type": "webmks"}}'),
    Case("empty console", body='{"remote_console": {}}'),
    Case("empty object", body="{}"),
    Case("unknown key inside", body=console("mks", "webmks", x=1)),
    Case("unknown key outside", body=MKS[:-1] + ', "x": 1}'),
    Case("unknown type", body=console("mks", "nope")),
    Case("unknown protocol", body=console("nope", "webmks")),
    Case("null type", body=console("mks", None)),
    Case("mks with novnc", body=console("mks", "novnc")),
    Case("mks with spice-direct", body=console("mks", "spice-direct"), version="2.99"),
    Case("vnc with webmks", body=console("vnc", "webmks")),
    Case("vnc", body=console("vnc", "novnc")),
    Case("spice", body=console("spice", "spice-html5")),
    Case("serial", body=console("serial", "serial")),
    Case("rdp", body=console("rdp", "rdp-html5")),
    Case("vnc as reader", "reader", body=console("vnc", "novnc")),
    Case("console null", body='{"remote_console": null}'),
    Case("list", body="[]"),
    Case("string", body='"x"'),
    Case("null", body="null"),
    Case("broken JSON", body='{"remote_console": '),
    Case("empty", body=""),
    Case("no body", body=None),
    Case("deep", body="[" * 5000 + "]" * 5000),
    Case("too large", body=console("mks", "x" * 120_000)),
    Case("UTF-16", body=MKS.encode("utf-16")),
    Case("no type as reader", "reader", body='{"remote_console": {"protocol": "mks"}}'),
    *(
        Case(f"content type {kind}", content_type=kind)
        for kind in (
            "text/plain",
            "application/xml",
            "application/json; charset=UTF-8",
            "junk",
            None,
        )
    ),
    Case("accept xml", headers={"Accept": "application/xml"}),
    Case("request id", headers={"X-Openstack-Request-Id": f"req-{servers.NONEXISTENT}"}),
    Case("nonexistent", uuid=servers.NONEXISTENT),
    Case("nonexistent as reader", "reader", uuid=servers.NONEXISTENT),
    Case("not a UUID", uuid="vm-active"),
    Case("of another project", uuid=servers.OF_OTHER),
    Case("of another project as admin", "admin", uuid=servers.OF_OTHER),
    Case("without dashes", uuid=servers.ACTIVE.replace("-", "")),
    Case("not scheduled", uuid=servers.NOT_SCHEDULED),
    Case("not scheduled as reader", "reader", uuid=servers.NOT_SCHEDULED),
    Case("not scheduled as other", "other", uuid=servers.NOT_SCHEDULED),
    Case("no host", uuid=servers.NO_HOST),
    Case("no host as other", "other", uuid=servers.NO_HOST),
    Case("shelved", uuid=servers.SHELVED),
    Case("deleting", uuid=servers.DELETING),
    Case("deleting as reader", "reader", uuid=servers.DELETING),
    Case("migrating", uuid=servers.MIGRATING),
    Case("building", uuid=servers.BUILDING),
    Case("stopped", uuid=servers.STOPPED),
    Case("soft-deleted", uuid=servers.SOFT_DELETED),
    Case("project in the path", path="/v2.1/{demo}/servers/{uuid}/remote-consoles"),
    Case("another project in the path", path="/v2.1/{other}/servers/{uuid}/remote-consoles"),
    Case("no project id in the path", path="/v2.1/xyz/servers/{uuid}/remote-consoles"),
    Case("legacy v2", path="/v2/servers/{uuid}/remote-consoles"),
    Case("no version in the path", path="/servers/{uuid}/remote-consoles"),
    Case(".json", path=SERVER_PATH + ".json"),
    Case("trailing slash", path=SERVER_PATH + "/"),
    Case("double slash", path="/v2.1//servers/{uuid}/remote-consoles"),
    Case("one segment more", path=SERVER_PATH + "/x"),
    Case("upper case", path="/v2.1/servers/{uuid}/Remote-Consoles"),
    Case("query", path=SERVER_PATH + "?x=1"),
    Case("escaped", path="/v2.1/servers/{uuid}/remote%2Dconsoles"),
    *(Case(method, method=method, body=None) for method in ("GET", "PUT", "DELETE", "HEAD")),
    Case("show", method="GET", body=None, path="/v2.1/servers/{uuid}"),
    Case("show as other", "other", method="GET", body=None, path="/v2.1/servers/{uuid}"),
    Case("list servers", method="GET", body=None, path="/v2.1/servers/detail?name=vm-active"),
    Case("action reboot", path="/v2.1/servers/{uuid}/action", body='{"reboot": {"type": "x"}}'),
    Case("action junk", path="/v2.1/servers/{uuid}/action", body="{"),
    Case("action unknown", path="/v2.1/servers/{uuid}/action", body='{"no-such-action": {}}'),
    Case(
        "action of two", path="/v2.1/servers/{uuid}/action", body='{"os-getMKSConsole": 1, "x": 1}'
    ),
    Case("action empty", path="/v2.1/servers/{uuid}/action", body=""),
    Case(
        "action large",
        path="/v2.1/servers/{uuid}/action",
        body=json.dumps({"no-such-action": "x" * 100_000}),
    ),
]


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_answer_is_novas(case: Case, stack: Stack, native: Service, nova_api: Service) -> None:
    theirs, ours = answer(stack, native, case), answer(stack, nova_api, case)

    if theirs.status == 500 and STATE_NOT_CAUGHT in theirs.body:
        assert_conflict(ours, case)
    elif theirs.status == 500 and NOVA_COMPUTE_ASKED in theirs.body and asks_for_mks(case):
        if '"webmks"' in str(case.body):
            assert_console(ours, theirs)
        else:
            assert_type_refused(ours)
    else:
        assert ours == theirs


def asks_for_mks(case: Case) -> bool:
    return isinstance(case.body, str) and '"mks"' in case.body


def assert_conflict(ours: Answer, case: Case) -> None:
    assert ours.status == 409
    fault = json.loads(ours.body)["conflictingRequest"]
    assert fault["code"] == 409
    assert fault["message"].startswith(f"Cannot 'get_mks_console' instance {case.uuid} while it is")


def assert_type_refused(ours: Answer) -> None:
    """In the words of the exception that nova-compute sends back, as recorded."""
    assert ours.status == 400
    assert json.loads(ours.body)["badRequest"]["message"].startswith("Invalid console type ")


def assert_console(ours: Answer, theirs: Answer) -> None:
    assert ours.status == 200
    shown = json.loads(ours.body)["remote_console"]
    assert set(shown) == {"protocol", "type", "url"}
    assert (shown["protocol"], shown["type"]) == ("mks", "webmks")
    assert re.fullmatch(re.escape(PROXY) + r"\?token=mks1\.[\w.-]+", shown["url"])
    # The order that Nova's own successes have; its faults put the content type later.
    expected = sorted(theirs.headers)
    expected.remove(("Content-Type", "application/json; charset=UTF-8"))
    assert [name for name, _ in ours.headers] == [
        "Content-Type",
        "OpenStack-API-Version",
        "X-OpenStack-Nova-API-Version",
        "Vary",
        "Vary",
        "x-openstack-request-id",
        "x-compute-request-id",
    ]
    assert sorted(ours.headers) == sorted([*expected, ("Content-Type", "application/json")])


def answer(stack: Stack, api: Service, case: Case) -> Answer:
    where = urlsplit(api.url)
    path = case.path.format(uuid=case.uuid, **stack.projects)
    body = case.body.encode() if isinstance(case.body, str) else case.body
    headers = {**case.headers}
    if case.user:
        headers["X-Auth-Token"] = stack.token(case.user)
    if case.version:
        headers["OpenStack-API-Version"] = f"compute {case.version}"
    if case.content_type and body is not None:
        headers["Content-Type"] = case.content_type
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    try:
        connection.request(case.method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    finally:
        connection.close()
    kept = [
        (name, normal(value, api))
        for name, value in response.getheaders()
        if name.lower() not in ("date", "server", "connection", "content-length")
    ]
    return Answer(response.status, tuple(kept), normal(text, api))


def normal(text: str, api: Service) -> str:
    """Without what differs between any two requests: ids, our own address, and the time that
    Nova shows for a server that was never changed."""
    text = re.sub(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "req-*", text)
    text = re.sub(r'"updated": "[^"]*"', '"updated": "*"', text)
    return text.replace(api.url, "http://nova")
