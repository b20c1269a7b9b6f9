"""nova.conf is found and read as nova-api does it."""

from __future__ import annotations

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.checks.finding import Kind
from mksfilter.checks.nova_conf import NovaConf, search
from mksfilter.cli import main


def write(path, text=""):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


class TestSearch:
    def test_takes_the_files_of_the_directory_that_the_environment_names(self, tmp_path):
        paste = write(tmp_path / "api-paste.ini")
        conf = write(tmp_path / "nova.conf")
        assert search({"OS_NOVA_CONFIG_DIR": f" {tmp_path} "}) == (paste, [conf])

    def test_takes_the_files_that_the_environment_names(self, tmp_path):
        paste = write(tmp_path / "my-paste.ini")
        first, second = write(tmp_path / "a.conf"), write(tmp_path / "b.conf")
        environ = {
            "OS_NOVA_CONFIG_DIR": str(tmp_path),
            "OS_NOVA_CONFIG_FILES": "my-paste.ini;a.conf;b.conf;missing.conf",
        }
        assert search(environ) == (paste, [first, second])

    def test_adds_the_directory_that_oslo_config_finds(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        extra = write(tmp_path / "nova.conf.d" / "01.conf")
        assert search({"OS_NOVA_CONFIG_DIR": str(tmp_path / "none")}) == (None, [extra])

    def test_is_what_check_looks_at_without_arguments(self, tmp_path, monkeypatch, capsys):
        KeyRepository(str(tmp_path / "keys")).setup()
        write(tmp_path / "nova.conf", f"[mksfilter]\nkey_repositry = {tmp_path}/keys\n")
        monkeypatch.setenv("OS_NOVA_CONFIG_DIR", str(tmp_path))

        code = main(["check"])

        out, err = capsys.readouterr()
        assert code == 1
        assert f"{tmp_path}/nova.conf [mksfilter]: unknown option 'key_repositry'" in out
        assert f"mksfilter: looking at {tmp_path}/nova.conf" in err


class TestValues:
    def conf(self, tmp_path, text, **more):
        paths = [write(tmp_path / "nova.conf", text)]
        for name, content in more.items():
            paths.append(write(tmp_path / f"{name}.conf", content))
        return NovaConf(paths)

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("$my_ip", "192.0.2.1"),
            ("${my_ip}:1", "192.0.2.1:1"),
            ("x$state_path/y", "x/var/nova-192.0.2.1/y"),
            ("$neutron.region_name", "RegionOne"),
            ("$$my_ip", "$my_ip"),
            (r"\$my_ip", "$my_ip"),
        ],
    )
    def test_of_other_options_are_put_in(self, tmp_path, written, value):
        conf = self.conf(
            tmp_path,
            "[DEFAULT]\nmy_ip = 192.0.2.1\nstate_path = /var/nova-$my_ip\n"
            f"[neutron]\nregion_name = RegionOne\n[mksfilter]\naudience = {written}\n",
        )
        assert conf.conf.mksfilter.audience == value
        assert list(conf.findings()) == []

    def test_of_options_that_no_file_sets_are_novas_defaults(self, tmp_path, monkeypatch):
        monkeypatch.setattr("socket.gethostname", lambda: "api-1")
        conf = self.conf(tmp_path, "[mksfilter]\naudience = $host\n")
        assert conf.conf.mksfilter.audience == "api-1"

    def test_that_only_nova_knows_are_said_not_to_be_known(self, tmp_path):
        conf = self.conf(tmp_path, "[mksfilter]\nkey_repository = $state_path/keys\n")
        (finding,) = conf.findings()
        assert finding.kind is Kind.UNCHECKED
        assert "$state_path is set in none of these files" in str(finding)
        assert not conf.is_resolved(conf.conf.mksfilter.key_repository)

    def test_later_files_win_and_are_named(self, tmp_path):
        conf = self.conf(
            tmp_path,
            "[mksfilter]\naudience = first\ntoken_ttl = 60\n",
            second="[mksfilter]\naudience = second\n",
        )
        assert conf.conf.mksfilter.audience == "second"
        assert conf.files.where("mksfilter", "audience") == f"{tmp_path}/second.conf [mksfilter]"
        assert conf.files.where("mksfilter", "token_ttl") == f"{tmp_path}/nova.conf [mksfilter]"

    def test_of_the_directory_beside_the_file_win(self, tmp_path):
        write(tmp_path / "nova.conf.d" / "01.conf", "[mksfilter]\naudience = directory\n")
        conf = self.conf(tmp_path, "[mksfilter]\naudience = file\n")
        assert conf.conf.mksfilter.audience == "directory"

    @pytest.mark.parametrize("group", ["api", "DEFAULT"])
    def test_of_the_authentication_may_stand_in_its_old_place(self, tmp_path, group):
        conf = self.conf(tmp_path, f"[{group}]\nauth_strategy = noauth2\n")
        assert conf.value("api", "auth_strategy") == ("noauth2", None)
