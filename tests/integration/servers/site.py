"""One WSGI file, and the command line by which each server serves it."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

import requests

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.simulator.processes import Children
from tests.support.nginx import free_port

__all__ = ["INSTANCE", "SERVERS", "Running", "Site", "start"]

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
AUDIENCE = "servers"

WSGI = """\
from paste.deploy import loadapp
application = loadapp("config:{directory}/api-paste.ini", name="demo")
"""

#: The demo's pipeline of ``etc/api-paste.ini``, and two lines of our own.
DEFAULT = """\
[DEFAULT]
config_file = {directory}/mksfilter.conf
servers = {directory}/servers.json

"""

CONF = """\
[mksfilter]
webmks_proxy_base_url = https://console.example.com/
key_repository = {directory}/keys
audience = {audience}
"""

#: As kolla runs nova-api.
APACHE = """\
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {directory}/apache.pid
ErrorLog {directory}/apache.log
WSGISocketPrefix {directory}/wsgi
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
DocumentRoot {directory}
<VirtualHost *:{port}>
    WSGIDaemonProcess nova-api processes=2 threads=4 python-home={environment}
    WSGIProcessGroup nova-api
    WSGIApplicationGroup %{{GLOBAL}}
    WSGIPassAuthorization On
    WSGIScriptAlias / {directory}/application.py
    <Directory {directory}>
        Require all granted
    </Directory>
</VirtualHost>
"""

UWSGI = [
    *("uwsgi", "--plugin", "python3", "--virtualenv", "{environment}"),
    *("--wsgi-file", "{directory}/application.py", "--http-socket", "127.0.0.1:{port}"),
    *("--master", "--processes", "2", "--enable-threads", "--threads", "4"),
    *("--need-app", "--die-on-term", "--buffer-size", "65535"),
]

GUNICORN = [
    *("{environment}/bin/gunicorn", "--workers", "2", "--bind", "127.0.0.1:{port}"),
    *("--chdir", "{directory}", "application:application", "--worker-class"),
]

SERVERS: dict[str, list[str]] = {
    "uwsgi": UWSGI,
    "uwsgi-lazy-apps": [*UWSGI, "--lazy-apps"],
    "apache-mod-wsgi": ["apache2", "-D", "FOREGROUND", "-f", "{directory}/apache.conf"],
    "gunicorn-sync": [*GUNICORN, "sync"],
    "gunicorn-gthread": [*GUNICORN, "gthread", "--threads", "4"],
    "gunicorn-preload": [*GUNICORN, "gthread", "--threads", "4", "--preload"],
}


class Site:
    """A compute API with one server in it, and the filter in front.

    :param directory: made here.
    :param environment: the virtual environment of the servers' Python.
    :param user: whose it is, and who serves it; None: the tests' own.
    """

    def __init__(self, directory: Path, environment: Path, user: str | None) -> None:
        self.directory = directory
        self.environment = environment
        self.user = user
        self.keys = directory / "keys"
        self.codec = TokenCodec(KeyRepository(str(self.keys)), AUDIENCE)

    def make(self) -> None:
        """Write its files and keys."""
        self.directory.mkdir()
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        paste = (self.directory.parent / "source" / "etc" / "api-paste.ini").read_text()
        where = {"directory": self.directory, "audience": AUDIENCE}
        (self.directory / "api-paste.ini").write_text(DEFAULT.format(**where) + paste)
        (self.directory / "mksfilter.conf").write_text(CONF.format(**where))
        (self.directory / "application.py").write_text(WSGI.format(**where))
        server = {"uuid": INSTANCE, "name": "web-1", "project_id": "demo", "host": "esxi-1"}
        (self.directory / "servers.json").write_text(json.dumps([server]))
        self.command("keys", "setup")

    def command(self, *arguments: str) -> None:
        """Run ``mksfilter`` as the user who serves."""
        done = subprocess.run(
            [self.environment / "bin" / "mksfilter", *arguments, "--key-repository", self.keys],
            user=self.user,
            env={"PATH": PATH},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr


@dataclasses.dataclass(frozen=True)
class Running:
    """A site that is served."""

    site: Site
    url: str
    log: Path

    def ask(self, token: str = "demo-member") -> requests.Response:
        """The console request, on a connection of its own, so that any process may answer."""
        return requests.post(
            f"{self.url}/v2.1/servers/{INSTANCE}/remote-consoles",
            json={"remote_console": {"protocol": "mks", "type": "webmks"}},
            headers={
                "X-Auth-Token": token,
                "OpenStack-API-Version": "compute 2.8",
                "Connection": "close",
            },
            timeout=30,
        )

    def token(self) -> str:
        """A token that it signs now."""
        answer = self.ask()
        assert answer.status_code == 200, f"{answer.text}\n{self.log.read_text()}"
        url: str = answer.json()["remote_console"]["url"]
        return url.partition("?token=")[2]


def start(server: str, site: Site, children: Children) -> Running:
    """Serve *site*, and wait until it answers."""
    port = free_port()
    where = {
        "directory": site.directory,
        "environment": site.environment,
        "port": port,
        "modules": "/usr/lib/apache2/modules",
    }
    if server.startswith("apache"):
        (site.directory / "apache.conf").write_text(APACHE.format(**where))
    program, *arguments = [part.format(**where) for part in SERVERS[server]]
    found = shutil.which(program, path=PATH)
    assert found, f"{program} is missing; run tools/install-test-tools"
    log = site.directory / ("apache.log" if server.startswith("apache") else f"{server}.log")
    with (site.directory / f"{server}.log").open("w", encoding="utf-8") as output:
        process = children.start(
            [found, *arguments],
            env={"PATH": PATH, "PYTHONPATH": ""},
            stdout=output,
            stderr=output,
            user=site.user,
        )
    running = Running(site, f"http://127.0.0.1:{port}", log)
    deadline = time.monotonic() + 60
    while True:
        try:
            requests.get(running.url, timeout=10)
            return running
        except requests.ConnectionError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
