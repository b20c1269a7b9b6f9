"""``mksfilter token`` as an operator types it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.cli import main
from mksfilter.request import ConsoleRequest

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "keys"
    KeyRepository(str(path)).setup()
    file = tmp_path / "mksfilter.conf"
    file.write_text(f"[mksfilter]\nkey_repository = {path}\naudience = cloud-a\n")
    return file


@pytest.fixture
def codec(config_file):
    return TokenCodec(KeyRepository(str(config_file.parent / "keys")), "cloud-a")


@pytest.fixture
def token(config_file, capsys):
    """Run ``mksfilter token ...`` with *config_file*: exit code, output, errors."""

    def run(*arguments):
        code = main(["token", *arguments, "--config-file", str(config_file)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


class TestMint:
    def test_prints_exactly_one_token(self, token, codec):
        code, out, err = token("mint", "--instance", INSTANCE)
        assert (code, err, out.count("\n")) == (0, "", 1)
        claims = codec.verify(out.strip())
        assert (claims.iid, claims.mode, claims.exp - claims.iat) == (INSTANCE, "full", 600)

    def test_takes_what_the_token_shall_say(self, token, codec):
        _, out, _ = token(
            *("mint", "--instance", INSTANCE.upper(), "--ttl", "30", "--view"),
            *("--project", "p1", "--user", "u1", "--vcenter", "dc1"),
        )
        claims = codec.verify(out.strip())
        assert (claims.iid, claims.exp - claims.iat, claims.mode) == (INSTANCE, 30, "view")
        assert (claims.pid, claims.uid, claims.vc) == ("p1", "u1", "dc1")

    def test_prints_a_url_instead(self, token, codec):
        arguments = ("--url", "--base-url", "https://console.example.com/")
        _, out, _ = token("mint", "--instance", INSTANCE, *arguments)
        assert out.startswith("https://console.example.com/?token=mks1.")
        assert codec.verify(parse_qs(urlsplit(out.strip()).query)["token"][0])

    def test_takes_the_base_url_from_the_configuration(self, token, config_file):
        with config_file.open("a") as file:
            file.write("webmks_proxy_base_url = https://c.example.com/\nsession_lifetime = 60\n")
        assert token("mint", "--instance", INSTANCE, "--url")[1].startswith("https://c.example.com")

    def test_needs_a_base_url_for_a_url(self, token):
        code, out, err = token("mint", "--instance", INSTANCE, "--url")
        assert (code, out) == (2, "")
        assert re.fullmatch(r"mksfilter: .*--base-url.*\n", err)

    def test_can_mint_for_another_audience(self, token, codec):
        _, out, _ = token("mint", "--instance", INSTANCE, "--audience", "cloud-b")
        assert codec.authenticate(out.strip()).aud == "cloud-b"

    @pytest.mark.parametrize(
        "wrong",
        [
            ("--instance", "web-1"),
            ("--instance", INSTANCE, "--ttl", "0"),
            ("--instance", INSTANCE, "--ttl", "soon"),
            (),
        ],
    )
    def test_refuses_a_wrong_command_line(self, token, wrong):
        with pytest.raises(SystemExit) as caught:
            token("mint", *wrong)
        assert caught.value.code == 2

    def test_refuses_what_cannot_be_in_a_token(self, token):
        code, _, err = token("mint", "--instance", INSTANCE, "--user", "u" * 300)
        assert code == 1
        assert "claim uid" in err

    def test_says_in_one_line_that_there_are_no_keys(self, token, tmp_path):
        code, out, err = token(
            "mint", "--instance", INSTANCE, "--key-repository", str(tmp_path / "none")
        )
        assert (code, out) == (2, "")
        assert re.fullmatch(r"mksfilter: .*mksfilter keys setup.*\n", err)


class TestInspect:
    @pytest.fixture
    def good(self, codec):
        return codec.issue(ConsoleRequest(INSTANCE, user_id="u1", mode="full"), ttl=600).token

    def test_shows_what_a_good_token_says(self, token, good):
        code, out, err = token("inspect", good)
        answer = json.loads(out)
        assert (code, err, answer["valid"]) == (0, "", True)
        assert (answer["claims"]["iid"], answer["claims"]["uid"]) == (INSTANCE, "u1")

    @pytest.mark.parametrize("arguments", [(), ("-",)])
    def test_reads_the_token_from_standard_input(self, token, good, arguments, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.StringIO(good + "\n"))
        assert token("inspect", *arguments)[0] == 0

    def test_takes_a_whole_console_url(self, token, good):
        assert token("inspect", f"https://c.example.com/?token={good}&title=web-1")[0] == 0
        assert token("inspect", "https://c.example.com/")[0] == 1
        assert token("inspect", "https://[::1")[0] == 1

    def test_shows_an_expired_token_and_says_so(self, token, config_file):
        past = (
            TokenCodec(
                KeyRepository(str(config_file.parent / "keys")),
                "cloud-a",
                clock=lambda: 1_700_000_000,
            )
            .issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600)
            .token
        )
        code, out, _ = token("inspect", past)
        answer = json.loads(out)
        assert (code, answer["valid"], answer["reason"]) == (1, False, "token-expired")
        assert answer["claims"]["exp"] == 1_700_000_600

    def test_shows_no_claims_of_a_forged_token(self, token, good):
        code, out, _ = token("inspect", good[:-4] + "AAAA")
        answer = json.loads(out)
        assert (code, answer["reason"]) == (1, "token-signature-invalid")
        assert "claims" not in answer

    def test_shows_that_connect_info_is_there_and_not_what_it_is(self, token, codec):
        sealed = codec.issue(
            ConsoleRequest(INSTANCE, mode="full"), ttl=600, connect_info={"host": "esx-7"}
        ).token
        _, out, _ = token("inspect", sealed)
        assert json.loads(out)["connect_info"] == "sealed"
        assert codec.verify(sealed).sealed not in out

    def test_warns_that_others_can_see_a_command_line(self, capsys):
        with pytest.raises(SystemExit):
            main(["token", "inspect", "--help"])
        assert "other users" in capsys.readouterr().out


def test_minting_and_inspecting_work_as_a_pipe(config_file):
    command = [sys.executable, "-m", "mksfilter.cli", "token"]
    mint = subprocess.run(
        [*command, "mint", "--instance", INSTANCE, "--config-file", str(config_file)],
        capture_output=True,
        timeout=60,
        check=True,
    )
    inspect = subprocess.run(
        [*command, "inspect", "--config-file", str(config_file)],
        input=mint.stdout,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(inspect.stdout)["valid"] is True
