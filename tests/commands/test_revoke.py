"""``mksfilter revoke`` as an operator types it at two in the morning."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.revocation import RevocationFile
from mksfilter.cli import main

INSTANCE = "11111111-2222-4333-8444-555555555555"
LIFETIME = 43_200


@pytest.fixture
def keys(tmp_path):
    repository = KeyRepository(str(tmp_path / "keys"))
    repository.setup()
    return repository


@pytest.fixture
def revoke(keys, tmp_path):
    conf = tmp_path / "mksfilter.conf"

    def run(*arguments, lifetime=LIFETIME):
        conf.write_text(
            f"[mksfilter]\nkey_repository = {keys.path}\nsession_lifetime = {lifetime}\n"
        )
        return main(["revoke", "--config-file", str(conf), *arguments])

    return run


def entries(keys):
    return RevocationFile(KeyRepository(keys.path)).load().entries


@pytest.mark.parametrize(
    ("kind", "value"),
    [("session", "A" * 22), ("instance", INSTANCE), ("user", "u-1"), ("project", "p-1")],
)
def test_what_is_named_stands_on_the_list_for_as_long_as_a_session_lives(revoke, keys, kind, value):
    before = int(time.time())
    assert revoke(f"--{kind}", value) == 0
    (entry,) = entries(keys)
    assert (entry.kind, entry.value) == (kind, value)
    assert before <= entry.at <= time.time()
    assert entry.until is not None
    assert entry.until >= entry.at + LIFETIME


def test_it_says_what_to_do_next(revoke, keys, capsys):
    revoke("--user", "u-1")
    assert capsys.readouterr().out == (
        f"{keys.path}/revocations: 1 entries; copy it to every proxy, as the keys are\n"
    )


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "1767323045"]
)
def test_issued_before_takes_a_time(revoke, keys, text):
    assert revoke("--issued-before", text) == 0
    assert [entry.at for entry in entries(keys)] == [1_767_323_045]


def test_issued_before_now(revoke, keys):
    before = int(time.time())
    assert revoke("--issued-before", "now") == 0
    assert before <= entries(keys)[0].at <= time.time()


def test_where_sessions_never_end_an_entry_does_not_either(revoke, keys):
    revoke("--user", "u-1", lifetime=0)
    assert entries(keys)[0].until is None


def test_list_shows_the_entries_and_changes_nothing(revoke, keys, capsys):
    revoke("--instance", INSTANCE)
    written = Path(keys.path, "revocations").read_text()
    capsys.readouterr()
    assert revoke("--list") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["KIND", "VALUE", "BEGAN", "UNTIL", "KEPT", "UNTIL"]
    assert shown[1].split()[:2] == ["instance", INSTANCE]
    assert revoke("--list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["value"] == INSTANCE
    assert Path(keys.path, "revocations").read_text() == written


def test_a_rotation_signs_it_again(revoke, keys, capsys):
    revoke("--user", "u-1")
    for _ in range(4):
        assert main(["keys", "rotate", "--key-repository", keys.path]) == 0
    assert [entry.value for entry in entries(keys)] == ["u-1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of the arguments"),
        (("--user", "a", "--project", "b"), "not allowed with"),
        (("--session", "short"), "not a session id"),
        (("--instance", "vm-12"), "not a UUID"),
        (("--user", ""), "not an id"),
        (("--user", " u-1"), "not an id"),
        (("--project", "\u2003"), "not an id"),
        (("--issued-before", "20260102"), "1970-08-23T"),
        (("--issued-before", "yesterday"), "neither 'now' nor a time"),
        (("--issued-before", "2026-01-02T03:04:05"), "neither 'now' nor a time"),
        (("--issued-before", "4102444800"), "future"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(revoke, keys, capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        revoke(*arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert entries(keys) == []


def test_without_keys_it_says_so(tmp_path, capsys):
    assert main(["revoke", "--user", "u", "--key-repository", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "mksfilter keys setup" in error
    assert error.count("\n") == 1


def test_a_list_that_does_not_verify_is_not_written_over(revoke, keys, capsys):
    with open(f"{keys.path}/revocations", "w") as stream:
        stream.write("nonsense")
    assert revoke("--user", "u-1") == 2
    assert "revocation list" in capsys.readouterr().err
    assert Path(keys.path, "revocations").read_text() == "nonsense"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--user", "alice"), True),
        (("--project", "Default"), True),
        (("--user", "9f2c4b7a1e8d4c3f8a6b5d4e3f2a1b0c"), False),
        (("--user", "0" * 64), False),
        (("--project", INSTANCE), False),
        (("--session", "A" * 22), False),
    ],
)
def test_a_name_in_place_of_an_id_is_told(revoke, keys, capsys, arguments, told):
    assert revoke(*arguments) == 0
    error = capsys.readouterr().err
    assert ("revokes nothing" in error) == told
    assert error.count("\n") == told
    assert [entry.value for entry in entries(keys)] == [arguments[1]]


def test_wrong_options_of_the_audit_trail_are_told_before_anything_is_revoked(
    keys, tmp_path, capsys
):
    conf = tmp_path / "mksfilter.conf"
    conf.write_text(f"[mksfilter]\nkey_repository = {keys.path}\naudit_fail_closed = true\n")
    assert main(["revoke", "--session", "A" * 22, "--config-file", str(conf)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert entries(keys) == []
