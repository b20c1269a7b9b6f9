"""``mksfilter audit`` as an operator types it."""

from __future__ import annotations

import json

import pytest

from mksfilter.audit.file import FileSink
from mksfilter.audit.trail import Trail
from mksfilter.backends.resolver import Consoles
from mksfilter.cli import main
from mksfilter.simulator.client import DB_1, WEB_1
from tests.audit.test_story import MINE, OTHER, WHOLE
from tests.commands.test_sessions import config_file  # noqa: F401
from tests.support.consoles import opened


@pytest.fixture
def files(tmp_path):
    """The audit files of two nodes, and of nova-api."""
    paths = [tmp_path / f"{node}.jsonl" for node in ("api1", "node0", "node1")]
    for number, event in enumerate([*MINE, *OTHER]):
        with paths[number % 3].open("a") as file:
            file.write(event.to_line() + "\n")
    return [option for path in paths for option in ("--file", str(path))]


def test_a_console_is_followed_across_nodes(files, capsys):
    assert main(["audit", "--request", "req-1", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:7]] == WHOLE
    assert "req-2" not in "".join(lines)
    assert lines[-1].startswith("session s1; opened, resumed 2 times, on node0, node1, node2;")


def test_as_json_it_is_a_line_each_and_nothing_else(files, capsys):
    assert main(["audit", "--session", "s2", "--json", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["action"] for line in lines] == WHOLE


def test_nothing_found_is_said(files, capsys):
    assert main(["audit", "--request", "req-9", *files]) == 1
    assert capsys.readouterr().err == "mksfilter: none of 14 audit events is about that\n"


def test_without_a_file_the_configured_one_is_read(tmp_path, capsys):
    assert main(["audit"]) == 2
    assert "no --file, and the option audit_file is not set" in capsys.readouterr().err
    (tmp_path / "audit.jsonl").write_text(MINE[0].to_line() + "\nnonsense\n")
    conf = tmp_path / "mksfilter.conf"
    conf.write_text(f"[mksfilter]\naudit_file = {tmp_path / 'audit.jsonl'}\n")
    assert main(["audit", "--config-file", str(conf)]) == 0
    assert capsys.readouterr().err == (
        "mksfilter: 1 lines are no audit events that this release knows\n"
    )


def test_an_operators_own_acts_are_in_the_trail(config_file, tmp_path, capsys):  # noqa: F811
    path = tmp_path / "audit.jsonl"
    text = config_file.read_text().replace("[mksfilter]", f"[mksfilter]\naudit_file = {path}")
    config_file.write_text(text)
    conf = ["--config-file", str(config_file)]
    assert main(["revoke", "--user", "u-1", *conf]) == 0
    assert main(["sessions", "drop", "--instance", WEB_1, *conf]) == 0
    capsys.readouterr()
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["action"], each["service"], each["reason"]) for each in told] == [
        ("revoked", "command", "by-user"),
        ("dropped", "command", "by-operator"),
    ]
    assert told[0]["user"] == "u-1"
    assert told[1]["instance"] == WEB_1
    assert all(each["by"] for each in told)


class TestReconcile:
    def test_a_console_that_did_not_come_through_us_is_shown(
        self,
        vsphere,
        config_file,  # noqa: F811
        tmp_path,
        capsys,
    ):
        path = tmp_path / "audit.jsonl"
        trail = Trail("proxy", [FileSink(str(path))])
        consoles = Consoles([vsphere.vcenter_settings()])
        try:
            endpoint = consoles.connect(WEB_1)
            trail.record("opened", instance=WEB_1, vcenter="dc1", vm=endpoint.vm)
            trail.close()
            with opened(endpoint):
                vsphere.connections("web-1", count=1)
            with opened(consoles.connect(DB_1)):  # by somebody who has our password
                vsphere.connections("db-1", count=1)
        finally:
            consoles.close()
        command = ["audit", "reconcile", "--file", str(path), "--config-file", str(config_file)]
        assert main([*command, "--json"]) == 1
        shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(each["kind"], each["name"]) for each in shown] == [
            ("VmAcquiredTicketEvent", "db-1"),
            ("VmRemoteConsoleConnectedEvent", "db-1"),
        ]
        assert main(command) == 1
        out = capsys.readouterr().out
        assert "console of db-1" in out
        assert "2 consoles in vCenter's events" in out

    def test_when_all_came_through_us_it_says_so(self, vsphere, config_file, tmp_path, capsys):  # noqa: F811
        (tmp_path / "audit.jsonl").touch()
        command = ["audit", "reconcile", "--file", str(tmp_path / "audit.jsonl")]
        assert main([*command, "--config-file", str(config_file)]) == 0
        assert "0 consoles and tickets did not come through us" in capsys.readouterr().out

    def test_more_events_than_a_vcenter_gives_at_once_are_all_seen(self, vsphere, monkeypatch):
        from mksfilter.backends.vsphere import session as sessions

        session = sessions.Session(vsphere.vcenter_settings())
        consoles = Consoles([vsphere.vcenter_settings()])
        try:
            for _ in range(12):
                consoles.connect(WEB_1)
            import time

            now = time.time()
            whole = session.run(lambda: session.console_events(now - 60, now + 60))
            monkeypatch.setattr(sessions, "_MOST_EVENTS", 5)
            monkeypatch.setattr(sessions, "_SHORTEST_SPAN", 0.001)
            ask, asked = session._client.console_events, []

            def at_most_five(begin, end):
                asked.append((begin, end))
                return ask(begin, end)[-5:]

            monkeypatch.setattr(session._client, "console_events", at_most_five)
            halved = session.run(lambda: session.console_events(now - 60, now + 60))
        finally:
            consoles.close()
            session.close()
        assert len(whole) == 12
        assert halved == whole
        assert len(asked) > 1


def test_nothing_found_among_lines_that_are_none_is_one_line(tmp_path, capsys):
    (tmp_path / "audit.jsonl").write_text('nonsense\n{"version": 2}\n')
    assert main(["audit", "--file", str(tmp_path / "audit.jsonl")]) == 1
    assert capsys.readouterr().err == (
        "mksfilter: none of 0 audit events is about that; "
        "2 lines are no audit events that this release knows\n"
    )
