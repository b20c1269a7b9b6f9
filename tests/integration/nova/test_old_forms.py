"""The blueprint's ``POST …/console`` and the action that clients older than 2.6 send."""

from __future__ import annotations

import pytest

from . import servers

ACTION = {"os-getMKSConsole": {"type": "webmks"}}
CONSOLE = {"protocol": "mks", "type": "webmks"}
BOTH = pytest.mark.parametrize(("path", "body"), [("action", ACTION), ("console", CONSOLE)])


@pytest.mark.parametrize("version", [None, "2.1", "2.8", "latest"])
def test_action_gives_a_console(ask, version):
    answer = ask("member", f"/servers/{servers.ACTIVE}/action", ACTION, version=version)

    assert answer.status_code == 200
    assert answer.json()["console"]["type"] == "webmks"
    assert answer.json()["console"]["url"].startswith("https://console.example.com/?token=mks1.")


def test_console_gives_a_console(ask):
    answer = ask("member", f"/servers/{servers.ACTIVE}/console", CONSOLE, version=None)

    assert answer.status_code == 200
    assert set(answer.json()) == {"protocol", "url"}
    assert answer.json()["url"].startswith("https://console.example.com/?token=mks1.")


@BOTH
def test_legacy_v2_clients_get_one_too(ask, stack, path, body):
    prefix = f"/v2/{stack.projects['demo']}"

    answer = ask("member", f"/servers/{servers.ACTIVE}/{path}", body, version=None, prefix=prefix)

    assert answer.status_code == 200


@BOTH
@pytest.mark.parametrize(
    ("user", "server", "status", "fault"),
    [
        ("reader", servers.ACTIVE, 403, "Policy doesn't allow os_compute_api:os-remote-consoles"),
        ("other", servers.ACTIVE, 404, f"Instance {servers.ACTIVE} could not be found."),
        ("member", servers.NO_HOST, 409, f"Instance {servers.NO_HOST} is not ready"),
        ("member", servers.DELETING, 409, "Cannot 'get_mks_console' instance"),
    ],
)
def test_refusals_are_novas(ask, path, body, user, server, status, fault):
    answer = ask(user, f"/servers/{server}/{path}", body)

    assert answer.status_code == status
    (told,) = answer.json().values()
    assert told["code"] == status
    assert told["message"].startswith(fault)


@pytest.mark.parametrize(
    ("path", "body", "fault"),
    [
        ("action", {"os-getMKSConsole": {"type": "novnc"}}, "'novnc' is not one of ['webmks']"),
        ("action", {"os-getMKSConsole": {}}, "'type' is a required property"),
        ("console", {"protocol": "vnc", "type": "novnc"}, "'vnc' is not one of ['mks']"),
        ("console", {"protocol": "mks"}, "'type' is a required property"),
        ("console", [], "[] is not of type 'object'"),
    ],
)
def test_other_bodies_are_bad_requests_in_novas_words(ask, path, body, fault):
    answer = ask("member", f"/servers/{servers.ACTIVE}/{path}", body)

    assert answer.status_code == 400
    assert answer.json()["badRequest"]["message"].endswith(fault)
