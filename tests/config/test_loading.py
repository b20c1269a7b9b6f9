"""Values are read as oslo.config reads them, and refused with the place they stand in."""

from __future__ import annotations

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
