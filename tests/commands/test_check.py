"""``mksfilter check`` finds what would fail after a restart, and says what to do about it."""

from __future__ import annotations

import os
import re

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.cli import main

NOVA_PASTE = """\
[composite:osapi_compute]
use = call:nova.api.openstack.urlmap:urlmap_factory
/v2/+: openstack_compute_api_v21_legacy_v2_compatible
/v2.1/+: openstack_compute_api_v21
[composite:openstack_compute_api_v21]
use = call:nova.api.auth:pipeline_factory_v21
keystone = cors authtoken keystonecontext mksfilter osapi_compute_app_v21
noauth2 = cors noauth2 osapi_compute_app_v21
[composite:openstack_compute_api_v21_legacy_v2_compatible]
use = call:nova.api.auth:pipeline_factory_v21
keystone = cors authtoken keystonecontext legacy_v2_compatible mksfilter osapi_compute_app_v21
[pipeline:meta]
pipeline = cors metaapp
[app:metaapp]
paste.app_factory = nova.api.metadata.handler:MetadataRequestHandler.factory
[filter:cors]
paste.filter_factory = oslo_middleware.cors:filter_factory
oslo_config_project = nova
[filter:legacy_v2_compatible]
paste.filter_factory = nova.api.openstack:LegacyV2CompatibleWrapper.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[filter:keystonecontext]
paste.filter_factory = nova.api.auth:NovaKeystoneContext.factory
[app:osapi_compute_app_v21]
paste.app_factory = nova.api.openstack.compute:APIRouterV21.factory
[filter:mksfilter]
use = egg:mksfilter#mksfilter
"""

NOVA_CONF = """\
[DEFAULT]
my_ip = 192.0.2.1
[mks]
enabled = false
[mksfilter]
webmks_proxy_base_url = https://console.example.com/
key_repository = {keys}
"""

PROXY_CONF = """\
[mksfilter]
key_repository = {keys}
vcenters = dc1
[vcenter.dc1]
host = vcenter.example.com
username = nova
password = secret
"""

V21 = "[composite:openstack_compute_api_v21] keystone"


class Setting:
    """A directory with all three files, right until a test makes one wrong."""

    def __init__(self, directory, capsys):
        self.directory = directory
        self._capsys = capsys
        self.keys = directory / "keys"
        KeyRepository(str(self.keys)).setup()
        self.paste = self._write("api-paste.ini", NOVA_PASTE)
        self.nova = self._write("nova.conf", NOVA_CONF.format(keys=self.keys))
        self.proxy = self._write("mksfilter.conf", PROXY_CONF.format(keys=self.keys))

    def _write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path

    def replace(self, file, old, new):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def run(self, *arguments):
        """``mksfilter check`` -> exit code, its lines without the directory's name."""
        code = main(["check", *map(str, arguments)])
        out = self._capsys.readouterr().out
        return code, out.replace(f"{self.directory}/", "").splitlines()

    def check_nova(self):
        return self.run("--nova-conf", self.nova, "--api-paste", self.paste)

    def check_proxy(self, *more):
        return self.run("--config-file", self.proxy, *more)


@pytest.fixture
def setting(tmp_path, capsys):
    return Setting(tmp_path, capsys)


def test_right_configuration_has_no_findings(setting):
    assert setting.check_nova() == (0, [])
    assert setting.check_proxy() == (0, [])
    assert setting.run(
        *("--nova-conf", setting.nova, "--api-paste", setting.paste),
        *("--config-file", setting.proxy),
    ) == (0, [])


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (
            "keystonecontext mksfilter osapi",
            "keystonecontext osapi",
            f"api-paste.ini {V21}: the filter is missing; write mksfilter just before "
            "osapi_compute_app_v21",
        ),
        (
            "authtoken keystonecontext mksfilter",
            "mksfilter authtoken keystonecontext",
            f"api-paste.ini {V21}: the filter stands before authtoken: nothing confirms who "
            "asks: console requests are refused (401), or, with identity = trusted-headers, a "
            "caller's own X-Roles is believed; move mksfilter to just before "
            "osapi_compute_app_v21",
        ),
        (
            "keystonecontext mksfilter osapi",
            "mksfilter keystonecontext osapi",
            f"api-paste.ini {V21}: the filter stands before keystonecontext, so it would not know "
            "who asks; move mksfilter to just before osapi_compute_app_v21",
        ),
        (
            "keystonecontext mksfilter osapi",
            "keystonecontext mksfilter cors osapi",
            f"api-paste.ini {V21}: between the filter and osapi_compute_app_v21 stands cors, which "
            "console requests would pass by; move mksfilter to just before osapi_compute_app_v21",
        ),
        (
            "keystonecontext mksfilter osapi",
            "keystonecontext mksfilter mksfilter osapi",
            f"api-paste.ini {V21}: the filter is there more than once; leave the last one",
        ),
        (
            "keystone = cors authtoken keystonecontext mksfilter",
            "keystone = corse authtoken keystonecontext mksfilter",
            f"api-paste.ini {V21}: corse is not a section of this file; add [filter:corse] or "
            "remove it (did you mean cors?); Paste: No section 'corse' (prefixed by 'filter')",
        ),
        (
            "egg:mksfilter#mksfilter",
            "egg:mksfilter#mksfilter\napi = plain",
            "api-paste.ini [filter:mksfilter]: api = plain in a pipeline of Nova's: Nova's own "
            "policy would not be asked; remove it",
        ),
        (
            "egg:mksfilter#mksfilter",
            "egg:mksfilter#mksfilter\napi = novae",
            "api-paste.ini [filter:mksfilter]: api = 'novae' is none of auto, nova, plain",
        ),
        (
            "egg:mksfilter#mksfilter",
            "egg:mksfilter#mksfilter\ntoken_tll = 60",
            "api-paste.ini [filter:mksfilter]: unknown option 'token_tll'; did you mean token_ttl?",
        ),
        (
            "egg:mksfilter#mksfilter",
            "egg:mksfilter#mksfilter\ntoken_ttl = soon",
            "api-paste.ini [filter:mksfilter]: option token_ttl: ",
        ),
        (
            "egg:mksfilter#mksfilter",
            "egg:mksfilter#mksfilter\nsession_lifetime = 60",
            "api-paste.ini [filter:mksfilter]: session_lifetime 60 is shorter than token_ttl 600",
        ),
    ],
)
def test_fault_of_a_paste_file_is_one_line(setting, old, new, finding):
    setting.replace(setting.paste, old, new)

    code, lines = setting.check_nova()

    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith(finding)


def test_filter_that_is_nowhere_is_told_with_every_pipeline(setting):
    text = setting.paste.read_text().partition("[filter:mksfilter]")[0]
    setting.paste.write_text(text.replace(" mksfilter ", " "))

    code, lines = setting.check_nova()

    assert code == 1
    assert lines[0].startswith("api-paste.ini: no section is this filter; add '[filter:mksfilter]'")
    assert [line.partition(": ")[2].partition(";")[0] for line in lines[1:]] == [
        "the filter is missing",
        "the filter is missing",
    ]


def test_pipeline_of_the_chosen_authentication_is_looked_at(setting):
    setting.replace(setting.nova, "[mks]", "[api]\nauth_strategy = noauth2\n[mks]")

    code, lines = setting.check_nova()

    assert code == 1
    assert "[composite:openstack_compute_api_v21] noauth2: the filter is missing" in lines[0]


def test_paste_file_of_something_else_is_told(setting):
    setting.paste.write_text("[filter:mksfilter]\nuse = egg:mksfilter#mksfilter\n")

    code, lines = setting.check_nova()

    assert code == 1
    assert lines == [
        "api-paste.ini: no pipeline of Nova's compute API for auth_strategy 'keystone'; "
        "is this the api-paste.ini that nova-api loads?"
    ]


@pytest.mark.parametrize(
    ("url", "finding"),
    [
        ("", "neither webmks_proxy_base_url nor [mks] mksproxy_base_url is set"),
        (
            "https://console.example.com/vnc_auto.html?path=cell1/mks",
            "has path=cell1/mks, where no WebSocket of ours is",
        ),
        ("https://console.example.com/#a", "has a fragment (#); remove it"),
        ("http://console.example.com/", "is not HTTPS: anybody on the way can read tokens"),
        ("http://127.0.0.1:6090/", "is this machine, which no browser elsewhere reaches"),
        ("console.example.com", "is not a URL of the form https://HOST[:PORT]/"),
    ],
)
def test_base_url_that_cannot_work_is_told(setting, url, finding):
    setting.replace(setting.nova, "https://console.example.com/", url)

    code, lines = setting.check_nova()

    assert code == 1
    assert len(lines) == 1
    assert finding in lines[0]


@pytest.mark.parametrize(
    ("group", "finding"),
    [
        ("webmks_proxy_base_url = https://dc9.example.com/", "needs instance_uuid"),
        ("instance_uuid = vc-9", "instance_uuid"),
        (
            "instance_uuid = 9d51f082-58a4-4449-beed-6fd205a5726b\nwebmks_proxy_base_url = dc9",
            "is not a URL of the form",
        ),
    ],
)
def test_proxy_near_a_vcenter_that_cannot_be_found_is_told(setting, group, finding):
    text = setting.nova.read_text().replace("[mksfilter]\n", "[mksfilter]\nvcenters = dc9\n")
    setting.nova.write_text(f"{text}\n[vcenter.dc9]\n{group}\n")

    code, lines = setting.check_nova()

    assert code == 1
    assert [line for line in lines if finding in line], lines


def test_novas_own_base_url_is_the_fallback(setting):
    setting.replace(
        setting.nova,
        "enabled = false",
        "enabled = false\nmksproxy_base_url = https://mks.example.com/",
    )
    setting.replace(setting.nova, "webmks_proxy_base_url = https://console.example.com/\n", "")

    assert setting.check_nova() == (0, [])


def test_misspelt_option_in_nova_conf_is_told(setting):
    setting.replace(setting.nova, "key_repository", "key_repositry")
    setting.replace(
        setting.paste,
        "egg:mksfilter#mksfilter",
        f"egg:mksfilter#mksfilter\nkey_repository = {setting.keys}",
    )

    code, lines = setting.check_nova()

    assert code == 1
    assert lines == [
        "nova.conf [mksfilter]: unknown option 'key_repositry'; did you mean key_repository?"
    ]


def test_missing_keys_are_told(setting):
    setting.replace(setting.nova, "/keys", "/nokeys")

    code, lines = setting.check_nova()

    assert code == 1
    assert "nokeys" in lines[0]
    assert "mksfilter keys setup" in lines[0]


def test_keys_open_to_others_are_told(setting):
    (setting.keys / "1").chmod(0o644)

    code, lines = setting.check_nova()

    assert code == 1
    assert "keys/1 is open to others (mode 0644): chmod 0600 it" in lines[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_keys_of_another_user_are_told(setting):
    (setting.keys / "1").chmod(0o000)

    assert setting.check_nova()[0] == 1


def test_tickets_at_issue_need_vcenters_in_nova_conf(setting):
    setting.replace(setting.nova, "[mksfilter]", "[mksfilter]\nticket_at = issue")

    code, lines = setting.check_nova()

    assert code == 1
    assert "ticket_at = issue, and there is no vCenter to take tickets from" in lines[0]


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("vcenters = dc1", "vcenters = dc1,dc2", "vcenters names 'dc2'; add a group [vcenter.dc2]"),
        ("vcenters = dc1", "vcenters =", "[vcenter.dc1] is not used; add dc1 to vcenters, or"),
        ("host = ", "hots = ", "[vcenter.dc1]: unknown option 'hots'; did you mean host?"),
        ("username = nova\n", "", "[vcenter.dc1] username is not set"),
        ("password = secret", "", "[vcenter.dc1] password_file (or password) is not set"),
        ("password = secret", "password = x\ninsecure = 1\nthumbprint = aa", "contradicts"),
        ("vcenters = dc1", "vcenters = dc1\nalowed_origins = x", "did you mean allowed_origins?"),
        (
            "vcenters = dc1",
            "vcenters = dc1\nallowed_origins = x y",
            "allowed_origins: 'x y' is not",
        ),
        ("vcenters = dc1", "vcenters = dc1\ntrusted_proxies = 10.0.0.1/8", "trusted_proxies"),
        ("vcenters = dc1", "vcenters = dc1\nallowed_networks = all", "allowed_networks"),
        ("vcenters = dc1", "vcenters = dc1\nreplay_cache = memory", "replay_cache is not of the"),
        ("vcenters = dc1", "vcenters = dc1\nreplay_cache_fail_open = 1", "without replay_cache"),
        ("vcenters = dc1", "vcenters = dc1\nresume_asks_nova = 1", "is set, and [nova] names no"),
        (
            "vcenters = dc1",
            "vcenters = dc1\nidle_timeout = 9\nsession_lifetime = 8",
            "idle_timeout",
        ),
        ("vcenters = dc1", "vcenters = dc1\nidle_timeout = long", "option idle_timeout"),
        ("[vcenter.dc1]", "[nova]\nauth_type = password\n[vcenter.dc1]", "[nova]"),
    ],
)
def test_fault_of_the_proxys_file_is_told(setting, old, new, finding):
    setting.replace(setting.proxy, old, new)

    code, lines = setting.check_proxy()

    assert code == 1
    assert any(finding in line for line in lines), lines


def test_filter_and_proxy_that_disagree_are_told(setting):
    setting.replace(setting.proxy, "vcenters", "audience = elsewhere\nvcenters")

    code, lines = setting.run(
        *("--nova-conf", setting.nova, "--api-paste", setting.paste),
        *("--config-file", setting.proxy),
    )

    assert code == 1
    assert lines == [
        "mksfilter.conf [mksfilter]: audience is 'elsewhere' here and 'mksfilter' for the filter; "
        "write the same for both"
    ]


def test_vcenter_that_cannot_be_reached_is_told_when_asked(setting):
    setting.replace(setting.proxy, "vcenter.example.com", "127.0.0.1\nport = 1\ntimeout = 2")

    assert setting.check_proxy() == (0, [])
    code, lines = setting.check_proxy("--connect")

    assert code == 1
    assert lines[0].startswith("mksfilter.conf [vcenter.dc1]: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to look at"),
        (["--nova-conf", "/nonexistent/nova.conf"], "/nonexistent/nova.conf: no such file"),
        (["--api-paste", "/nonexistent/paste.ini"], "/nonexistent/paste.ini: no such file"),
        (["--config-file", "/nonexistent/x.conf"], "/nonexistent/x.conf: no such file"),
        (["--nova-conf", "{directory}/keys"], "/keys: no file *.conf in it"),
        (["--api-paste", "{directory}"], "{directory}: is a directory"),
        (["--connect", "--api-paste", "{paste}"], "--connect needs the proxy's --config-file"),
    ],
)
def test_nothing_to_read_is_exit_2_and_one_line(setting, capsys, arguments, told):
    names = {"directory": setting.directory, "paste": setting.paste}

    code = main(["check", *(argument.format(**names) for argument in arguments)])

    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"mksfilter: .+\n", captured.err)
    assert told.format(**names) in captured.err


@pytest.mark.parametrize("junk", ["no section\n", "[broken\n", "\x00\xff"])
def test_files_that_are_not_ini_are_exit_2(setting, capsys, junk):
    setting.paste.write_bytes(junk.encode("latin-1"))

    assert main(["check", "--api-paste", str(setting.paste)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_secret_is_printed(setting):
    setting.replace(setting.proxy, "username = nova\n", "")

    assert "secret" not in "".join(setting.check_proxy()[1])


@pytest.mark.parametrize(
    ("group", "line", "finding"),
    [
        ("mksfilter", "management_bind = 127.0.0.1:99999", "not of the form HOST:PORT"),
        ("mksfilter", "frame_ancestors = *", "frame_ancestors: '*' is neither self nor"),
        ("mksfilter", "console_client = wmks", "console_client = wmks needs wmks_dir"),
        ("mksfilter", "console_client = vmrc", "option console_client"),
        ("mksfilter", "tls_groups = P-255", "tls_groups: P-255: no group of OpenSSL"),
        (
            "mksfilter",
            "wmks_dir = /none\nconsole_client = wmks",
            "wmks_dir /none: No such file or directory",
        ),
        ("mksfilter", "webmks_proxy_base_url = console", "is not a URL of the form"),
        ("mksfilter", "max_sessions =", "option max_sessions: is empty"),
        ("mksfilter", "stall_timeout = inf", "option stall_timeout: is not a finite number"),
        ("mksfilter", "audit_fail_closed = true", "there is no place to keep events in"),
        ("mksfilter", "vcenters = dc1, dc1", "vcenters names 'dc1' twice"),
        ("vcenter.dc1", "backend = webmkss", "backend 'webmkss' is unknown"),
        ("vcenter.dc1", "thumbprint = aa:bb", "thumbprint: a certificate digest has"),
        ("vcenter.dc1", "ca_file = /none.pem", "ca_file /none.pem cannot be used"),
    ],
)
def test_what_the_proxy_refuses_at_its_start_is_told_before_it(setting, group, line, finding):
    text = setting.proxy.read_text()
    name = line.partition(" =")[0]
    lines = [each for each in text.splitlines() if not each.startswith(f"{name} =")]
    setting.proxy.write_text("\n".join(lines).replace(f"[{group}]", f"[{group}]\n{line}") + "\n")

    code, lines = setting.check_proxy()

    assert code == 1
    assert [each for each in lines if finding in each], lines


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("audit_file = {}", "is no ordinary file"),
        ("audit_file = {}/link", "is no ordinary file"),
        ("audit_file = {}/none/audit.jsonl", "cannot be written by this user"),
        ("audit_file = audit.jsonl", "is not an absolute path"),
        ("audit_syslog = {}/log", "log is no socket"),
        ("audit_file = {}/audit.jsonl", ""),
    ],
)
def test_a_place_that_takes_no_audit_events_is_told(setting, line, finding):
    (setting.directory / "link").symlink_to("/dev/stdout")
    setting.replace(setting.proxy, "[mksfilter]", f"[mksfilter]\n{line.format(setting.directory)}")

    code, lines = setting.check_proxy()

    assert code == (1 if finding else 0)
    assert not finding or [each for each in lines if finding in each], lines
