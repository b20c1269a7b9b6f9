"""What is not public, and what a process that is broken into finds."""

from __future__ import annotations

import configparser
import logging
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from oslo_config import cfg

from mksfilter import config
from mksfilter.config.options import (
    FILTER_OPTS,
    NOVA_OPTS,
    PROXY_OPTS,
    SHARED_OPTS,
    VCENTER_OPTS,
    list_opts,
)
from mksfilter.exceptions import ConfigurationError
from tests.support.gunicorn import gunicorn
from tests.support.proxy import configuration, start_proxy
from tests.support.source import ROOT

PASSWORD = "hunter2-in-a-url"
#: Options of ours that take text and never a secret: a name, a file, an address, a choice.
HARMLESS = re.compile(
    r"audience|backend|.*_file|healthz_disable_file|.*_policy|host|console_host|identity|"
    r"audit_syslog|console_client|wmks_dir|instance_uuid|key_repository|log_(format|level)|management_bind|"
    r"runtime_directory|take_over|thumbprint|ticket(_at)?|username|"
    r"webmks_proxy_base_url"
)


def options() -> list[cfg.Opt]:
    return [*SHARED_OPTS, *FILTER_OPTS, *PROXY_OPTS, *VCENTER_OPTS, *NOVA_OPTS]


def test_every_option_that_may_hold_a_password_is_secret():
    """Whoever adds an option that takes text says here that it holds none, or makes it secret."""
    for option in options():
        if isinstance(option, cfg.StrOpt) and not HARMLESS.fullmatch(option.name):
            assert option.secret, option.name
    assert {option.name for option in options() if option.secret} == {"password", "replay_cache"}


def test_the_options_of_keystoneauth_are_secret_where_they_have_to_be():
    nova = dict(list_opts())["nova"]
    wanted = {option.name for option in nova if re.search(r"password|secret", option.name)}
    assert wanted == {option.name for option in nova if option.secret} & wanted
    assert wanted


def test_oslo_config_logs_no_password(tmp_path, caplog):
    path = tmp_path / "mksfilter.conf"
    path.write_text(
        f"[mksfilter]\nvcenters = dc1\nreplay_cache = redis://:{PASSWORD}@cache:6379/0\n"
        f"[vcenter.dc1]\nhost = vc\nusername = nova\npassword = {PASSWORD}\n"
    )
    conf = config.load([str(path)])
    config.vcenter_settings(conf)
    with caplog.at_level(logging.DEBUG):
        # Not "mksfilter": an application that another test made may have its own handlers there.
        conf.log_opt_values(logging.getLogger("options"), logging.DEBUG)
    assert "mksfilter.replay_cache" in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("option", ["webmks_proxy_base_url", "allowed_origins"])
def test_a_url_of_ours_with_a_password_in_it_is_refused(tmp_path, option):
    from mksfilter.proxy.app import app_factory

    path = configuration(
        tmp_path, ticket_at="issue", **{option: f"https://user:{PASSWORD}@console.example"}
    )
    with pytest.raises(ConfigurationError, match=option):
        app_factory({"config_file": str(path)})


def control_sockets(directory: Path, pid: int) -> list[str]:
    """Unix sockets below *directory*, or that *pid* listens on."""
    with open("/proc/net/unix", encoding="ascii") as table:
        listening = {line.split()[6]: line.split()[7:] for line in table.readlines()[1:]}
    held = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
        if inode and listening.get(inode[1]):
            held += listening[inode[1]]
    return held + [str(path) for path in directory.rglob("*.ctl")]


@pytest.mark.parametrize("runtime", [True, False])
def test_gunicorns_control_socket_is_off(tmp_path, runtime):
    """Whichever command starts it, and wherever gunicorn would put it."""
    home = tmp_path / "home"
    home.mkdir()
    environ = {"HOME": str(home), **({"XDG_RUNTIME_DIR": str(home)} if runtime else {})}
    with start_proxy(ticket_at="issue", env={"XDG_RUNTIME_DIR": "", **environ}) as proxy:
        assert control_sockets(home, proxy.process.pid) == []
        proxy.process.send_signal(signal.SIGHUP)
        proxy.wait_for_log("event=draining")
        assert control_sockets(home, proxy.process.pid) == []
    paste = tmp_path / "paste.ini"
    shipped = (ROOT / "etc" / "mksproxy-paste.ini").read_text()
    path = configuration(tmp_path, ticket_at="issue")
    paste.write_text(shipped.replace("/etc/mksfilter/mksfilter.conf", str(path)))
    with gunicorn(paste, "--log-level", "debug", **{"XDG_RUNTIME_DIR": "", **environ}) as started:
        process, _ = started
        said = "Control socket" if "control_socket_disable" in Config().settings else "Booting"
        lines: list[str] = []
        while said not in "".join(lines):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        assert "Control socket disabled" in lines[-1] or said == "Booting"
        assert control_sockets(home, process.pid) == []
        process.terminate()
        process.wait(20)


def test_a_control_socket_that_the_operator_names_is_theirs():
    from mksfilter.proxy.worker import ConsoleWorker

    settings: Any = Config()
    settings.set("control_socket", "/run/mksproxy/gunicorn.ctl")
    ConsoleWorker.check_config(settings, None)
    assert not settings.control_socket_disable


UNIT = {
    "LimitCORE": "0",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "MemoryDenyWriteExecute": "yes",
    "UMask": "0077",
    "User": "mksfilter",
}


def test_the_systemd_unit_takes_away_what_a_proxy_does_not_need():
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(
        (ROOT / "etc" / "systemd" / "mksproxy.service").read_text().replace("\\\n", " ")
    )
    assert {name: unit["Service"][name] for name in UNIT} == UNIT


def test_no_script_of_a_package_runs_when_the_page_is_built():
    files = subprocess.run(
        ["git", "grep", "-IhE", r"\bnpm (ci|i|install)\b", "--", ".ci", "Makefile", "tools", "etc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = [line for line in files.splitlines() if not re.search(r"apt-get|echo|#", line)]
    assert commands
    assert all("--ignore-scripts" in line for line in commands), commands
