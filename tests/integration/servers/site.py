"""One WSGI file, and the command line by which each server serves it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import time
from pathlib import Path

import requests

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.simulator.processes import Children
from tests.support.ports import free_port
from tests.support.source import ROOT

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

#: Nova parses sys.argv, so nothing for gunicorn may stand there.
GUNICORN = """\
wsgi_app = "application:application"
chdir = "{directory}"
bind = "127.0.0.1:{port}"
workers = 2
threads = {threads}
worker_class = "{worker}"
preload_app = {preload}
timeout = 120
control_socket_disable = True
"""

SERVERS: dict[str, list[str]] = {
    "uwsgi": UWSGI,
    "uwsgi-lazy-apps": [*UWSGI, "--lazy-apps"],
    "apache-mod-wsgi": ["apache2", "-D", "FOREGROUND", "-f", "{directory}/apache.conf"],
    "gunicorn-sync": ["{environment}/bin/gunicorn"],
    "gunicorn-gthread": ["{environment}/bin/gunicorn"],
    "gunicorn-preload": ["{environment}/bin/gunicorn"],
}


class Site:
    """A compute API with one server in it, and the filter in front.

    :param directory: of its files and keys; belongs to *user*.
    :param environment: the virtual environment of the servers' Python.
    :param user: who serves it; None: the tests' own.
    """

    instance = INSTANCE
    #: ``X-Auth-Token`` of a member, and of a reader, of the server's project.
    member, reader = "demo-member", "demo-reader"

    def __init__(self, directory: Path, environment: Path, user: str | None) -> None:
        self.directory = directory
        self.environment = environment
        self.user = user
        self.keys = directory / "keys"
        self.codec = TokenCodec(KeyRepository(str(self.keys)), AUDIENCE)
        #: Of the server's process.
        self.environ = {"PATH": PATH, "PYTHONPATH": ""}

    def make(self) -> None:
        """Write its files and keys."""
        self.directory.mkdir(exist_ok=True)
        self.write_application()
        self.give_away()
        self.command("keys", "setup")

    def write_application(self) -> None:
        """Write ``application.py`` and what it reads: here, the demo's API."""
        paste = (ROOT / "etc" / "api-paste.ini").read_text()
        where = {"directory": self.directory, "audience": AUDIENCE}
        (self.directory / "api-paste.ini").write_text(DEFAULT.format(**where) + paste)
        (self.directory / "mksfilter.conf").write_text(CONF.format(**where))
        (self.directory / "application.py").write_text(WSGI.format(**where))
        server = {"uuid": INSTANCE, "name": "web-1", "project_id": "demo", "host": "esxi-1"}
        (self.directory / "servers.json").write_text(json.dumps([server]))

    def give_away(self) -> None:
        """Let *user* own all of it."""
        if self.user:
            for path in (self.directory, *self.directory.rglob("*")):
                shutil.chown(path, self.user, self.user)

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

    def ask(self, token: str) -> requests.Response:
        """The console request, on a connection of its own, so that any process may answer."""
        return requests.post(
            f"{self.url}/v2.1/servers/{self.site.instance}/remote-consoles",
            json={"remote_console": {"protocol": "mks", "type": "webmks"}},
            headers={
                "X-Auth-Token": token,
                "OpenStack-API-Version": "compute 2.8",
                "Connection": "close",
            },
            timeout=60,
        )

    def token(self) -> str:
        """A token that it signs now."""
        answer = self.ask(self.site.member)
        assert answer.status_code == 200, f"{answer.text}\n{self.log.read_text()[-4000:]}"
        url: str = answer.json()["remote_console"]["url"]
        return url.partition("?token=")[2]


def start(server: str, site: Site, children: Children) -> Running:
    """Serve *site*, and wait until it answers."""
    port = free_port()
    where: dict[str, object] = {
        "directory": site.directory,
        "environment": site.environment,
        "port": port,
        "modules": "/usr/lib/apache2/modules",
    }
    worker = "sync" if server == "gunicorn-sync" else "gthread"
    where |= {
        "worker": worker,
        "threads": 4 if worker == "gthread" else 1,
        "preload": server == "gunicorn-preload",
    }
    (site.directory / "apache.conf").write_text(APACHE.format(**where))
    (site.directory / "gunicorn.conf").write_text(GUNICORN.format(**where))
    program, *arguments = [part.format(**where) for part in SERVERS[server]]
    found = shutil.which(program, path=PATH)
    assert found, f"{program} is missing; run tools/install-test-tools"
    log = site.directory / ("apache.log" if server.startswith("apache") else f"{server}.log")
    with (site.directory / f"{server}.log").open("w", encoding="utf-8") as output:
        process = children.start(
            [found, *arguments],
            env={
                **site.environ,
                "GUNICORN_CMD_ARGS": f"--config file:{site.directory}/gunicorn.conf",
            },
            stdout=output,
            stderr=output,
            user=site.user,
        )
    running = Running(site, f"http://127.0.0.1:{port}", log)
    deadline = time.monotonic() + 120
    while True:
        try:
            requests.get(running.url, timeout=60)
            return running
        except requests.ConnectionError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
