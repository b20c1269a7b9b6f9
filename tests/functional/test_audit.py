"""A console's life over two nodes, with two returns, is in the audit files of both."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import jsonschema
import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.cli import main
from mksfilter.simulator.client import WEB_1, SimulatedVSphere
from tests.audit.test_events import SCHEMA
from tests.support.page_client import open_page, told, until_closed
from tests.support.proxy import RunningProxy, start_proxy


def events(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(path: Path, action: str, count: int = 1) -> list[dict]:
    deadline = time.monotonic() + 20
    while True:
        found = [each for each in events(path) if each["action"] == action]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, events(path)
        time.sleep(0.02)


def returned(proxy: RunningProxy, token: str) -> str:
    """Come back with a resume token, for a moment; the next token."""
    with open_page(proxy, token) as socket:
        return told(socket)["resume"]


def test_a_life_is_followed_over_two_nodes(vsphere: SimulatedVSphere, tmp_path, capsys) -> None:
    KeyRepository(str(tmp_path / "keys")).setup()
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    settings, keys = [vsphere.vcenter_settings()], tmp_path / "keys"
    with (
        start_proxy(settings, key_repository=keys, audit_file=files[0]) as one,
        start_proxy(settings, key_repository=keys, audit_file=files[1]) as two,
    ):
        token = one.token(WEB_1, user_id="u-1", project_id="p-1", request_id="req-77")
        with open_page(one, token) as socket:
            resume = told(socket)["resume"]
            vsphere.vmotion("web-1")
            until_closed(socket)
        wait_for(files[0], "moved")
        with open_page(two, resume) as socket:
            resume = told(socket)["resume"]
            two.stop()
            until_closed(socket)
        returned(one, resume)
        assert one.upgrade("mks1.nonsense").status == 403
        wait_for(files[0], "ended")
        one.stop()
    options = ["--file", str(files[0]), "--file", str(files[1])]
    assert main(["audit", "--request", "req-77", "--json", *options]) == 0
    life = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["action"] for each in life] == [
        *("opened", "moved", "resumed", "moved", "resumed", "ended"),
    ]
    for each in life:
        jsonschema.validate(each, SCHEMA)
        assert (each["user"], each["project"], each["instance"]) == ("u-1", "p-1", WEB_1)
        assert each["vm"] == vsphere.vm("web-1")["moid"]
        assert each["client"] == "127.0.0.1"
        assert each["vcenter"] == "vc1"
    assert len({each["session"] for each in life}) == 1
    assert len({each["connection"] for each in life}) == 3
    assert [each.get("reason") for each in life[1::2]] == [
        *("upstream-lost", "server-draining", "ended"),
    ]
    assert life[0]["host"] != life[2]["host"], "it moved to another host"
    (refused,) = (each for each in events(files[0]) if each["action"] == "refused")
    assert (refused["reason"], refused["status"]) == ("token-malformed", 403)
    for path in files:
        for secret in (token, resume):
            assert secret.rpartition(".")[2] not in path.read_text()
        assert "/ticket/" not in path.read_text()


def test_a_disk_that_is_full_is_counted_and_consoles_open(vsphere, proxy_factory) -> None:
    proxy = proxy_factory(audit_file="/dev/full", audit_queue=1)
    for _ in range(2):
        with open_page(proxy, proxy.token(WEB_1)) as socket:
            told(socket)
    proxy.wait_for_log("event=audit-failing sink=file")
    proxy.wait_for_log("event=audit-events-lost sink=file")
    assert proxy.metric("mksfilter_audit_events_lost_total", sink="file") > 0
    assert "Traceback" not in proxy.log()


def test_fail_closed_opens_no_console_until_the_disk_has_room(
    vsphere, proxy_factory, tmp_path
) -> None:
    path = tmp_path / "audit.jsonl"
    os.mkfifo(path)  # nobody reads: as a disk that hangs
    proxy = proxy_factory(audit_file=path, audit_fail_closed="true")
    assert proxy.upgrade(proxy.token(WEB_1)).status == 503
    assert proxy.get("/healthz").status == 200, "and the loop turns"
    assert proxy.metric("mksfilter_refusals_total", reason="audit-unavailable") == 1
    assert vsphere.connections("web-1", count=0) == []
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # the disk goes on
    os.unlink(path)
    deadline = time.monotonic() + 20
    while proxy.upgrade(proxy.token(WEB_1)).status != 101:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.close(reader)
    assert wait_for(path, "opened")


def test_a_broker_that_is_down_takes_nothing_from_the_file(
    vsphere, proxy_factory, tmp_path
) -> None:
    pytest.importorskip("oslo_messaging")
    path = tmp_path / "audit.jsonl"
    proxy = proxy_factory(audit_file=path, audit_transport_url="rabbit://u:s3cret@127.0.0.1:1/")
    with open_page(proxy, proxy.token(WEB_1)) as socket:
        told(socket)
    wait_for(path, "ended")
    line = proxy.wait_for_log("event=audit-failing sink=messaging")
    assert "refused" in line
    assert "s3cret" not in proxy.log()


def test_a_revoked_session_is_told_with_its_reason(vsphere, proxy_factory, tmp_path) -> None:
    path = tmp_path / "audit.jsonl"
    proxy = proxy_factory(audit_file=path)
    conf = str(proxy.directory / "mksfilter.conf")
    with open_page(proxy, proxy.token(WEB_1)) as socket:
        told(socket)
        assert main(["revoke", "--instance", WEB_1, "--config-file", conf]) == 0
        until_closed(socket)
    operator, ended = wait_for(path, "revoked", 2)
    assert (operator["service"], operator["instance"]) == ("command", WEB_1)
    assert (ended["service"], ended["reason"]) == ("proxy", "revoked")


def test_a_console_that_made_room_for_another_is_told(vsphere, proxy_factory, tmp_path) -> None:
    path = tmp_path / "audit.jsonl"
    proxy = proxy_factory(audit_file=path, take_over="drop")
    vsphere.set_vm("web-1", max_connections=1)
    with open_page(proxy, proxy.token(WEB_1)) as first:
        told(first)
        with open_page(proxy, proxy.token(WEB_1)) as second:
            told(second)
            (dropped,) = wait_for(path, "dropped")
            until_closed(first)
    jsonschema.validate(dropped, SCHEMA)
    assert (dropped["instance"], dropped["reason"]) == (WEB_1, "take-over")
