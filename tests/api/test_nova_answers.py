"""Plain mode beside Nova 34.0.0: the same requests, the same answers.

``nova_answers.json`` holds 159 requests and what a stock Nova with a real Keystone and a
nova-compute answered, request ids and tokens replaced by ``*``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mksfilter.api.plain import PlainConsoles
from mksfilter.api.policy import ConsolePolicy
from mksfilter.auth.token import TokenCodec
from mksfilter.filter import ConsoleFilter
from mksfilter.issuer import Issuer
from mksfilter.simulator.compute import ComputeAPI, User
from tests.api import wsgi
from tests.auth.keyring import Keyring, key
from tests.test_issuer import SETTINGS

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("nova_answers.json").read_text())
}

DEMO, OTHER, ADMIN = "d0" * 16, "0e" * 16, "ad00" * 8
USERS = {
    "member": User("member", DEMO, "member,reader"),
    "reader": User("reader", DEMO, "reader"),
    "manager": User("manager", DEMO, "manager,member,reader"),
    "other": User("other", OTHER, "member,reader"),
    "admin": User("admin", ADMIN, "admin,manager,member,reader"),
}
# number, project, task state, host
SERVERS = [
    *((number, DEMO, None, "compute1") for number in (1, 2, 3, 4, 7, 11, 12, 13, 14, 15, 17)),
    *((number, DEMO, None, None) for number in (5, 6, 10)),
    (8, DEMO, "deleting", "compute1"),
    (9, DEMO, "migrating", "compute1"),
    (16, OTHER, None, "compute1"),
    (18, DEMO, "deleting", "compute1"),
]

# Who answers these in Nova is not the console code, so here it is not the filter either.
AUTHENTICATION = ("user/none", "user/bad-token", "version/2.999+no-token")
OTHER_PROTOCOLS = (
    *("body/vnc-novnc", "body/vnc-with-webmks", "body/spice-with-webmks", "body/rdp-with-webmks"),
    *("body/serial-with-webmks", "version/2.6-vnc", "state/scheduling+vnc"),
)
NO_SUCH_ROUTE = (
    *("path/junk-project", "path/dot-json", "path/dot-xml", "path/trailing-slash"),
    *("path/extra-segment", "path/upper"),
)
NOT_A_CONSOLE_REQUEST = tuple(name for name, case in CASES.items() if case["answer"] is None)

# Where it is right to differ, and what is answered instead.
DIFFERENT = {
    "state/task-deleting": (409, "Nova forgets to catch InstanceInvalidState and answers 500"),
    "state/task-migrating": (409, "the same"),
    "state/building-deleting": (409, "the same"),
    "body/latin1": (400, "Nova answers 500 to bytes that are not UTF-8"),
    "body/utf16": (400, "the same"),
    "body/deep": (400, "Nova answers 500 to a deeply nested body"),
    "body/too-large": (413, "oslo.middleware answers in text/plain before Nova's API"),
    "state/scheduling+other": (404, "Nova shows unscheduled servers of others to its policy"),
}

SAME = sorted(
    set(CASES)
    - set(AUTHENTICATION)
    - set(OTHER_PROTOCOLS)
    - set(NO_SUCH_ROUTE)
    - set(NOT_A_CONSOLE_REQUEST)
    - set(DIFFERENT)
)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A recorder of what reaches the compute API, and the whole pipeline."""
    file = tmp_path_factory.mktemp("compute") / "servers.json"
    servers = [
        {
            "name": f"vm-{number}",
            "uuid": f"{number:08}-0000-4000-8000-{number:012}",
            "project_id": project,
            "task_state": task,
            "host": host,
        }
        for number, project, task, host in SERVERS
    ]
    file.write_text(json.dumps(servers))
    compute = wsgi.Recorder(ComputeAPI(str(file)))
    issuer = Issuer(TokenCodec(Keyring(key()), "cloud-a"), SETTINGS)
    consoles = ConsoleFilter(compute, PlainConsoles(compute, issuer, ConsolePolicy(), SETTINGS))
    return compute, wsgi.authenticated(wsgi.Mounted(consoles), **USERS)


def send(app, case):
    headers = dict(case["headers"])
    if case["user"]:
        headers["X-Auth-Token"] = case["user"]
    body = case["body"]
    if case["name"] == "body/too-large":
        body = wsgi.MKS.replace("webmks", "x" * 120_000)
    if case["name"] == "body/deep":
        body = "[" * 5000 + "]" * 5000
    return wsgi.call(app, wsgi.environ(case["method"], case["path"], headers, body))


def normal(text):
    text = re.sub(r"req-[0-9a-f]{8}-[0-9a-f-]{27}", "req-*", text)
    # The recorded proxy's address was Nova's default.
    text = text.replace("https://console.example.com/", "http://127.0.0.1:6090/")
    return re.sub(r"token=[A-Za-z0-9._-]+", "token=*", text)


@pytest.mark.parametrize("name", SAME)
def test_plain_mode_answers_like_nova(api, name):
    case = CASES[name]
    answered = send(api[1], case)
    expected = case["answer"]
    headers = [[k, normal(v)] for k, v in answered.headers if k != "Content-Length"]
    assert (answered.status, normal(answered.body.decode())) == (
        expected["status"],
        expected["body"],
    )
    assert headers == expected["headers"]
    assert dict(answered.headers)["Content-Length"] == str(len(answered.body))


@pytest.mark.parametrize("name", DIFFERENT)
def test_plain_mode_differs_from_nova_where_it_says_so(api, name):
    answered = send(api[1], CASES[name])
    status, _why = DIFFERENT[name]
    assert answered.code == status != int(CASES[name]["answer"]["status"][:3]) or status == 413
    assert next(iter(answered.json.values()))["code"] == status


@pytest.mark.parametrize("name", OTHER_PROTOCOLS)
def test_other_protocols_are_answered_by_the_api_from_the_same_bytes(api, name):
    compute, app = api
    compute.seen.clear()
    case = CASES[name]
    send(app, case)
    assert compute.seen == [("POST", case["path"], case["body"].encode("latin-1"))]


@pytest.mark.parametrize("name", NO_SUCH_ROUTE)
def test_paths_that_are_no_console_request_go_to_the_api(api, name):
    compute, app = api
    compute.seen.clear()
    send(app, CASES[name])
    assert [seen[:2] for seen in compute.seen] == [("POST", CASES[name]["path"])]


@pytest.mark.parametrize("name", AUTHENTICATION)
def test_callers_without_a_good_token_reach_neither(api, name):
    compute, app = api
    compute.seen.clear()
    answered = send(app, CASES[name])
    assert (answered.code, compute.seen) == (401, [])
    assert json.dumps(answered.json) == CASES[name]["answer"]["body"]


def test_every_recorded_request_is_accounted_for():
    assert len(CASES) == 159
    assert len(SAME) > 110
