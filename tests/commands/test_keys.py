"""``mksfilter keys`` as an operator types it."""

from __future__ import annotations

import os
import re

import pytest

from mksfilter.cli import main


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "keys")


def keys(*arguments):
    return main(["keys", *arguments])


def listed(capsys):
    """Number, role and name of each key, as ``list`` prints them."""
    lines = capsys.readouterr().out.splitlines()
    return [tuple(line.split()[:3]) for line in lines if re.match(r" +\d", line)]


def test_setup_then_list_shows_a_staged_and_a_primary_key(path, capsys):
    assert keys("setup", "--key-repository", path) == 0
    assert capsys.readouterr().out == f"{path}: staged key 0 and primary key 1 made\n"
    assert keys("list", "--key-repository", path) == 0
    assert [entry[:2] for entry in listed(capsys)] == [("0", "staged"), ("1", "primary")]


def test_list_shows_no_key_material(path, capsys):
    keys("setup", "--key-repository", path)
    keys("list", "--key-repository", path)
    shown = capsys.readouterr().out
    for name in os.listdir(path):
        with open(os.path.join(path, name)) as file:
            assert file.read().strip()[:12] not in shown


def test_rotate_promotes_the_staged_key(path, capsys):
    keys("setup", "--key-repository", path)
    keys("list", "--key-repository", path)
    staged = listed(capsys)[0][2]
    assert keys("rotate", "--key-repository", path) == 0
    assert capsys.readouterr().out == f"{path}: primary is key 2, 0 removed\n"
    keys("list", "--key-repository", path)
    assert ("2", "primary", staged) in listed(capsys)


def test_rotate_says_how_many_keys_it_removed(path, capsys):
    keys("setup", "--key-repository", path)
    for _ in range(2):
        keys("rotate", "--key-repository", path)
    assert capsys.readouterr().out.endswith("primary is key 3, 1 removed\n")


@pytest.mark.parametrize("number", ["2", "0", "many"])
def test_rotate_refuses_to_keep_too_few_keys(path, number, capsys):
    with pytest.raises(SystemExit) as caught:
        keys("rotate", "--key-repository", path, "--max-active-keys", number)
    assert caught.value.code == 2
    assert "at least 3" in capsys.readouterr().err


def test_the_directory_comes_from_the_configuration_file(path, tmp_path, capsys):
    file = tmp_path / "mksfilter.conf"
    file.write_text(f"[mksfilter]\nkey_repository = {path}\n")
    assert keys("setup", "--config-file", str(file)) == 0
    assert keys("--config-file", str(file), "list") == 0
    assert "primary" in capsys.readouterr().out


def test_a_missing_configuration_file_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert keys("list", "--config-file", str(tmp_path / "no.conf")) == 2
    assert re.fullmatch(r"mksfilter: .*no\.conf: no such file\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list",), "no such file or directory; run 'mksfilter keys setup'"),
        (("rotate",), "no such file or directory; run 'mksfilter keys setup'"),
    ],
)
def test_a_missing_repository_is_one_line_and_exit_code_2(path, arguments, said, capsys):
    assert keys(*arguments, "--key-repository", path) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"mksfilter: .*\n", error)
    assert said in error
    assert path in error


def test_a_second_setup_is_one_line_and_exit_code_2(path, capsys):
    keys("setup", "--key-repository", path)
    assert keys("setup", "--key-repository", path) == 2
    assert "has keys already" in capsys.readouterr().err


def test_a_world_readable_key_is_one_line_and_exit_code_2(path, capsys):
    keys("setup", "--key-repository", path)
    os.chmod(os.path.join(path, "1"), 0o644)
    assert keys("list", "--key-repository", path) == 2
    assert "chmod 0600" in capsys.readouterr().err


def test_a_revocation_list_that_cannot_be_read_is_told_before_anything_is_rotated(path, capsys):
    keys("setup", "--key-repository", path)
    main(["revoke", "--session", "A" * 22, "--key-repository", path])
    with open(os.path.join(path, "revocations"), "r+") as file:
        file.truncate(40)  # half copied
    before = sorted(os.listdir(path))
    capsys.readouterr()
    assert keys("rotate", "--key-repository", path) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(os.listdir(path)) == before


def test_a_list_of_no_keys_is_an_error_alone(path, capsys):
    assert keys("list", "--key-repository", path) == 2
    assert capsys.readouterr().out == ""
