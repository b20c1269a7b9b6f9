"""An option that nobody reads stops the filter and the proxy, with the name that was meant."""

from __future__ import annotations

import logging

import pytest
from oslo_config import cfg

from mksfilter import config
from mksfilter.auth.keys import KeyRepository
from mksfilter.exceptions import ConfigurationError
from mksfilter.filter import filter_factory
from mksfilter.proxy.app import app_factory

GOOD = """\
[DEFAULT]
my_own = 1
[vmware]
hots_ip = 192.0.2.9
[mks]
enabledd = true
[nova]
ticket = own
region_nmae = RegionOne
[MksFilter]
key_repository = {keys}
webmks_proxy_base_url = https://console.example.com/
vcenters = DC1
[vcenter.dc1]
host = vcenter.example.com
username = nova
password = secret
"""


@pytest.fixture
def file(tmp_path):
    KeyRepository(str(tmp_path / "keys")).setup()
    file = tmp_path / "mksfilter.conf"
    file.write_text(GOOD.format(keys=tmp_path / "keys"))
    return file


def start_filter(file, **section):
    filter_factory({"__file__": "api-paste.ini"}, api="plain", config_file=str(file), **section)(
        lambda environ, start_response: []
    )


def start_proxy(file, **section):
    app_factory({"__file__": "mksproxy-paste.ini"}, config_file=str(file), **section)


both = pytest.mark.parametrize("start", [start_filter, start_proxy])


@both
def test_other_services_groups_are_theirs_to_judge(file, start):
    start(file)


@both
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("key_repository", "audince = x\nkey_repository", "'audince'; did you mean audience?"),
        ("key_repository", "Audience = x\nkey_repository", "'Audience'; did you mean audience?"),
        ("key_repository", "token-ttl = 60\nkey_repository", "did you mean token_ttl?"),
        ("key_repository", "quux = x\nkey_repository", "unknown option 'quux'; remove it"),
        ("key_repository", "password = x\nkey_repository", r"it belongs into [vcenter.NAME]"),
        ("host =", "hots =", "[vcenter.dc1]: unknown option 'hots'; did you mean host?"),
        (
            "host =",
            "allowed_networks = 10.0.0.0/8\nhost =",
            "[vcenter.dc1]: unknown option 'allowed_networks'; it belongs into [mksfilter]",
        ),
        ("[vcenter.dc1]", "[mksfiltre]\n[vcenter.dc1]", "unknown group; did you mean [mksfilter]?"),
        ("[vcenter.dc1]", "[ mksfilter]\n[vcenter.dc1]", "did you mean [mksfilter]?"),
        ("[vcenter.dc1]", "[vcentre.DC2]\n[vcenter.dc1]", "did you mean [vcenter.DC2]?"),
        ("[vcenter.dc1]", "[vcenter:dc2]\n[vcenter.dc1]", "did you mean [vcenter.dc2]?"),
        ("[vcenter.dc1]", "[vcenter]\n[vcenter.dc1]", "did you mean [vcenter.NAME]?"),
    ],
)
def test_unknown_name_stops_the_start_with_its_file(file, start, old, new, words):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))

    with pytest.raises(ConfigurationError) as caught:
        start(file)

    assert str(caught.value).startswith(f"{file} [")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@both
def test_all_unknown_names_are_told_at_once(file, start):
    file.write_text(file.read_text().replace("host =", "hots =").replace("vcenters", "vcentres"))

    with pytest.raises(ConfigurationError, match=r"vcentres.*did you mean vcenters.*hots"):
        start(file)


@pytest.mark.parametrize(
    ("start", "paste", "option", "words"),
    [
        (start_filter, "api-paste.ini", "tokenttl", "did you mean token_ttl?"),
        (start_filter, "api-paste.ini", "replay_cache", "the proxy alone reads it"),
        (start_filter, "api-paste.ini", "password_file", "it belongs into [vcenter.NAME]"),
        (start_proxy, "mksproxy-paste.ini", "idle_timout", "did you mean idle_timeout?"),
        (start_proxy, "mksproxy-paste.ini", "token_ttl", "the filter alone reads it"),
    ],
)
def test_unknown_name_in_a_paste_section_stops_the_start_with_its_file(
    file, start, paste, option, words
):
    with pytest.raises(ConfigurationError) as caught:
        start(file, **{option: "10"})

    assert str(caught.value).startswith(f"{paste}: paste section: ")
    assert words in str(caught.value)


@both
def test_vcenter_that_is_not_named_is_logged(file, start, caplog):
    file.write_text(file.read_text() + "[vcenter.dc2]\nhost = other.example.com\n")

    with caplog.at_level(logging.WARNING, logger="mksfilter.config"):
        start(file)

    assert f"{file}: [vcenter.dc2] is not used; add dc2 to vcenters" in caplog.text


@both
def test_misspelt_variable_of_the_environment_stops_the_start(file, start, monkeypatch):
    monkeypatch.setenv("OS_MKSFILTER__AUDINCE", "x")

    with pytest.raises(ConfigurationError, match=r"OS_MKSFILTER__AUDINCE.*did you mean audience"):
        start(file)


def test_novas_own_options_object_is_asked_for_its_files(file):
    """Inside nova-api the files were read before we came, directories among them."""
    directory = file.parent / "nova.conf.d"
    directory.mkdir()
    (directory / "10-mks.conf").write_text("[mksfilter]\ntoken_tll = 60\n")
    conf = cfg.ConfigOpts()
    conf(["--config-dir", str(directory)], project="nova", default_config_files=[str(file)])
    config.register(conf)

    with pytest.raises(ConfigurationError, match=r"10-mks\.conf \[mksfilter\]: .*token_ttl"):
        config.filter_settings(conf)


def test_novas_own_configuration_directory_is_asked_too(file):
    directory = file.parent / "nova.conf.d"
    directory.mkdir()
    (directory / "10-mks.conf").write_text("[mksfilter]\ntoken_tll = 60\n")
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(file)], default_config_dirs=[str(directory)])
    config.register(conf)

    with pytest.raises(ConfigurationError, match=r"10-mks\.conf \[mksfilter\]: .*token_ttl"):
        config.filter_settings(conf)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("[DEFAULT]\nmax_sessions = 5", "option 'max_sessions' is not read here; it belongs into"),
        ("[novaa]\nticket = own", r"unknown group; did you mean \[nova\]\?"),
    ],
)
def test_options_where_nobody_looks_are_told(tmp_path, written, words):
    (tmp_path / "a.conf").write_text(f"{written}\n")
    with pytest.raises(ConfigurationError, match=words):
        config.proxy_settings(config.load([str(tmp_path / "a.conf")]))
