"""Values are read as oslo.config reads them, and refused with the place they stand in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mksfilter import config
from mksfilter.exceptions import ConfigurationError

URL = "webmks_proxy_base_url = https://console.example.com/\n"


def write(path, text):
    path.write_text(text)
    return str(path)


def test_a_directory_stands_for_its_conf_files_in_order(tmp_path):
    base = write(tmp_path / "mksfilter.conf", "[mksfilter]\naudience = file\ntoken_ttl = 60\n")
    directory = tmp_path / "conf.d"
    directory.mkdir()
    write(directory / "20.conf", "[mksfilter]\naudience = second\n")
    write(directory / "10.conf", "[mksfilter]\naudience = first\n")
    write(directory / "30.conf.bak", "[mksfilter]\naudience = backup\n")

    settings = config.filter_settings(
        config.load([base, str(directory)]), {}, fallback_base_url=URL
    )

    assert (settings.audience, settings.token_ttl) == ("second", 60)


def test_a_directory_without_files_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no file \*\.conf in it"):
        config.load([str(tmp_path)])


def test_value_that_is_refused_names_the_file_it_stands_in(tmp_path):
    first = write(tmp_path / "a.conf", f"[mksfilter]\n{URL}token_ttl = soon\n")
    second = write(tmp_path / "b.conf", "[mksfilter]\nclock_skew = 5\n")

    with pytest.raises(ConfigurationError) as caught:
        config.filter_settings(config.load([first, second]))

    assert str(caught.value).startswith(f"{first} [mksfilter]: option token_ttl: invalid literal")
    assert "LocationInfo" not in str(caught.value)


def test_the_proxy_refuses_a_value_that_the_filter_alone_reads(tmp_path):
    """A file for both sides is good on both, or on neither; a reload with it changes nothing."""
    file = write(tmp_path / "a.conf", f"[mksfilter]\n{URL}token_ttl = soon\n")
    with pytest.raises(ConfigurationError) as caught:
        config.proxy_settings(config.load([file]))
    assert str(caught.value).startswith(f"{file} [mksfilter]: option token_ttl: invalid literal")


def test_value_of_the_environment_is_blamed_on_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("OS_MKSFILTER__TOKEN_TTL", "soon")
    file = write(tmp_path / "a.conf", f"[mksfilter]\n{URL}token_ttl = 60\n")

    with pytest.raises(ConfigurationError, match=r"^environment OS_MKSFILTER__TOKEN_TTL: option"):
        config.filter_settings(config.load([file]))


@pytest.mark.parametrize(
    ("group", "text"),
    [
        ("vcenter", "[vcenter.dc1]\nhost = h\nusername = u\npassword = pa$s3cret\n"),
        ("nova", "[nova]\nauth_type = password\nauth_url = http://k\npassword = pa$s3cret\n"),
    ],
)
def test_password_with_a_dollar_is_told_without_any_of_it(tmp_path, group, text):
    conf = config.load([write(tmp_path / "a.conf", f"[mksfilter]\nvcenters = dc1\n{text}")])

    with pytest.raises(ConfigurationError, match=r"'\$' itself is written '\$\$'") as caught:
        config.vcenter_settings(conf) if group == "vcenter" else config.nova_settings(conf)

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


UUID = "9D51F082-58a4-4449-beed-6fd205a5726b"
NEAR = f"""\
[mksfilter]
vcenters = dc1, dc2
webmks_proxy_base_url = https://c.example.com/
[vcenter.dc1]
instance_uuid = {UUID}
webmks_proxy_base_url = https://dc1.example.com/
"""


def test_vcenters_that_nova_api_does_not_log_in_to_need_no_host_and_no_password(tmp_path):
    file = tmp_path / "nova.conf"
    file.write_text(NEAR)

    settings = config.filter_settings(config.load([str(file)]))

    assert settings.routes == (
        config.ProxyRoute("dc1", UUID.lower(), "https://dc1.example.com/"),
        config.ProxyRoute("dc2"),
    )


def test_uuid_of_a_vcenter_that_is_none_stops_the_start(tmp_path):
    file = tmp_path / "nova.conf"
    file.write_text(NEAR.replace(UUID, "vc-1"))

    with pytest.raises(ConfigurationError, match=r"\[vcenter\.dc1\]"):
        config.filter_settings(config.load([str(file)]))


@pytest.mark.parametrize(
    ("common", "own", "expected"),
    [
        ("https://c/{vcenter}/", "", "https://c/dc1/"),
        ("https://c/{vcenter}/", "https://dc1/", "https://dc1/"),
        ("https://c/", "", "https://c/"),
    ],
)
def test_proxy_of_one_vcenter_knows_its_own_url(tmp_path, common, own, expected):
    file = tmp_path / "mksfilter.conf"
    file.write_text(
        f"[mksfilter]\nvcenters = dc1\nwebmks_proxy_base_url = {common}\n"
        f"[vcenter.dc1]\nwebmks_proxy_base_url = {own}\n"
    )

    assert config.proxy_settings(config.load([str(file)])).webmks_proxy_base_url == expected


def test_proxy_of_several_vcenters_has_to_be_told_its_url(tmp_path):
    file = tmp_path / "mksfilter.conf"
    file.write_text("[mksfilter]\nvcenters = a, b\nwebmks_proxy_base_url = https://c/{vcenter}/\n")

    with pytest.raises(ConfigurationError, match="this proxy serves 2 vCenters"):
        config.proxy_settings(config.load([str(file)]))


@pytest.mark.parametrize(("line", "code"), [("pool_size = 3", 0), ("pol_size = 3", 1)])
def test_oslo_configs_validator_knows_vcenters_by_their_names(tmp_path, line, code):
    file = tmp_path / "mksfilter.conf"
    file.write_text(f"[mksfilter]\nvcenters = dc1\n[vcenter.dc1]\nhost = vc\n{line}\n")
    program = Path(sys.executable).with_name("oslo-config-validator")

    done = subprocess.run(
        [program, "--namespace", "mksfilter", "--input-file", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == code, done.stderr
    assert ("pol_size is not part" in done.stderr) == bool(code)


@pytest.mark.parametrize("written", ["[fd00::7]", "fd00::7"])
def test_an_ipv6_address_may_stand_in_brackets(tmp_path, written):
    file = write(
        tmp_path / "a.conf",
        f"[mksfilter]\nvcenters = dc1\n[vcenter.dc1]\nhost = {written}\nconsole_host = {written}\n"
        "username = nova\npassword = s3cret\n",
    )
    (vcenter,) = config.vcenter_settings(config.load([file]))
    assert (vcenter.host, vcenter.console_host) == ("fd00::7", "fd00::7")


def vcenter_with(tmp_path, line):
    """The settings of a vCenter in whose group there is *line*."""
    file = write(
        tmp_path / "a.conf",
        f"[mksfilter]\nvcenters = dc1\n[vcenter.dc1]\nhost = h\nusername = u\n{line}\nport = 443\n",
    )
    return config.vcenter_settings(config.load([file]))[0]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("password = pa$hosts3cret", r"write `\$` as `\$\$`, or use password_file"),
        ("password = pa$host", r"write `\$` as `\$\$`, or use password_file"),
        ("password = pa${host}s3cret", r"write `\$` as `\$\$`, or use password_file"),
        ("password = pa$password", r"write `\$` as `\$\$`, or use password_file"),
        ("password = $mksfilter.audience", r"write `\$` as `\$\$`, or use password_file"),
        ("password = pa$$$Hosts3cret", r"write `\$` as `\$\$`, or use password_file"),
        (r"password = pa\$s3cret", r"write `\$` as `\$\$`, or use password_file"),
        ('password = "s3cret"', "stands in quotes.*password_file"),
        ("password = 's3cret'", "stands in quotes.*password_file"),
        ("password = s3cret ", "begins or ends with blanks.*password_file"),
        ("password =  s3cret", "begins or ends with blanks.*password_file"),
        ("password = s3cret\t", "begins or ends with blanks.*password_file"),
        ("password = s3\n cret", "goes on in the next line.*password_file"),
        ("password: pa$host", "password_file"),
        ("password = good\npassword = s3$host", "password_file"),
    ],
)
def test_a_password_that_oslo_config_would_change_is_refused_without_it(tmp_path, written, words):
    with pytest.raises(ConfigurationError, match=rf"\[vcenter\.dc1\] password .*{words}") as caught:
        vcenter_with(tmp_path, written)
    assert "s3" not in str(caught.value)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("password = pa$$s3cret", "pa$s3cret"),
        ("password = $$$$", "$$"),
        ("password = 100$", "100$"),
        ("password = a$ b$1", "a$ b$1"),
        ("password=s3cret", "s3cret"),
        ('password = it\'s "good"', 'it\'s "good"'),
        ('password = "half', '"half'),
        ("password = a=b:c#d;e%s", "a=b:c#d;e%s"),
        ("password = s3cret\n# a comment\n", "s3cret"),
        ("password = 's3$host'\npassword = good", "good"),
    ],
)
def test_a_password_that_is_read_as_it_is_written_is_taken(tmp_path, written, password):
    assert vcenter_with(tmp_path, written).password == password


def test_a_password_file_holds_it_as_it_is_and_wins(tmp_path):
    (tmp_path / "pw").touch(0o600)
    (tmp_path / "pw").write_text("' pa$host \"\n")
    settings = vcenter_with(tmp_path, f"password = x$host\npassword_file = {tmp_path / 'pw'}")
    assert settings.password == "' pa$host \""


def test_a_password_file_is_read_again(tmp_path):
    path = tmp_path / "pw"
    path.touch(0o600)
    path.write_text("old\n")
    settings = vcenter_with(tmp_path, f"password_file = {path}")
    path.write_text("new\n")
    assert config.current_password(settings) == "new"
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to others"):
        config.current_password(settings)
    path.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        config.current_password(settings)


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("s3cret\r\n", "s3cret"),
        ("s3cret\n\n", "s3cret"),
        (" s3\tcret ", " s3\tcret "),
        ("\ufeffs3cret", None),
        ("s3cret\n# of dc1\n", None),
        ("s3\x00cret", None),
        ("s3\x1bcret", None),
    ],
)
def test_a_password_file_that_holds_more_than_the_password_costs_no_log_in(
    tmp_path, written, password
):
    path = tmp_path / "pw"
    path.touch(0o600)
    path.write_bytes(written.encode())
    if password is not None:
        assert vcenter_with(tmp_path, f"password_file = {path}").password == password
        return
    with pytest.raises(ConfigurationError, match="write the password alone") as caught:
        vcenter_with(tmp_path, f"password_file = {path}")
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("option", ["host", "console_host"])
@pytest.mark.parametrize(
    "written",
    ["https://u:s3cret@vc1/", "vc1:443", "[::1]:443", "vc1 dc1", "vc1/sdk", "{hots}.esx", "::1::"],
)
def test_a_host_that_is_none_is_refused_without_what_may_be_a_secret(tmp_path, option, written):
    with pytest.raises(ConfigurationError, match=rf"{option} is not the name or address") as caught:
        vcenter_with(tmp_path, f"password = x\n{option} = {written}")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "written", ["{host}.esx.example.com", "esx_1", "192.0.2.1", "fe80::1%eth0"]
)
def test_a_host_may_be_a_name_an_address_or_complete_a_short_name(tmp_path, written):
    settings = vcenter_with(tmp_path, f"password = x\nconsole_host = {written}")
    assert settings.console_host == written


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("drain_time = nan", "option drain_time: is not a finite number"),
        ("connect_timeout = inf", "option connect_timeout: is not a finite number"),
        ("max_sessions =", "option max_sessions: is empty; write a value, or remove it"),
        ("audience = " + "x" * 256, "option audience: "),
        ("vcenters = dc1, DC1", "vcenters names 'DC1' twice"),
        ("audit_fail_closed = true", "option audit_fail_closed: there is no place"),
    ],
)
def test_a_value_that_would_mean_something_else_stops_the_start(tmp_path, line, words):
    conf = config.load([write(tmp_path / "a.conf", f"[mksfilter]\n{line}\n")])
    with pytest.raises(ConfigurationError, match=words):
        (config.proxy_settings(conf), config.vcenter_settings(conf), config.audit_settings(conf))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("auth_type = password\nusrname = u", "unknown option 'usrname'; did you mean username?"),
        ("tickte = issued", "unknown option 'tickte'; did you mean ticket?"),
        ("auth_typ = password", "unknown option 'auth_typ'; did you mean auth_type?"),
    ],
)
def test_an_option_of_nova_that_nobody_reads_stops_the_start(tmp_path, line, words):
    conf = config.load([write(tmp_path / "a.conf", f"[nova]\n{line}\n")])
    with pytest.raises(ConfigurationError, match=rf"\[nova\]: {words}"):
        config.nova_settings(conf)


def test_the_options_of_keystoneauth_are_read_by_their_old_names_too(tmp_path):
    text = (
        "[nova]\nauth_plugin = password\nauth_url = http://127.0.0.1:5000/v3\nuser_name = u\n"
        "password = p\ntenant_name = service\nregion_name = one\ntimeout = 5\nticket = own\n"
    )
    assert config.nova_settings(config.load([write(tmp_path / "a.conf", text)])) is not None


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "a.conf").write_bytes(b"[mksfilter]\naudience = \xff\n")
    with pytest.raises(ConfigurationError, match=r"configuration file .*/a\.conf: not UTF-8"):
        config.load([str(tmp_path / "a.conf")])


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG"])
def test_a_level_of_the_log_is_known_in_any_case(tmp_path, level):
    conf = config.load([write(tmp_path / "a.conf", f"[mksfilter]\nlog_level = {level}\n")])
    assert config.proxy_settings(conf).log_level.upper() == "DEBUG"
