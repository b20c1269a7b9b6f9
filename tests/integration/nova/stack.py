"""A stock Nova API and a Keystone on loopback, with users and servers in them.

Everything comes from PyPI into one virtual environment under ``var/`` (git-ignored), which later
runs use again. Databases are SQLite. There is no RabbitMQ, no nova-compute and no neutron; what
nova-api asks neutron for while it shows a server, a fake in the test process answers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from cryptography.fernet import Fernet

from mksfilter.simulator.processes import Children

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
HOST = "127.0.0.1"
START_TIMEOUT = 120.0

RELEASE = os.environ.get("MKSFILTER_NOVA_RELEASE", "34.0.0")

#: Up to 32 nova-api patches itself with eventlet, which gunicorn's own threads do not survive.
WORKER = "gthread" if int(RELEASE.partition(".")[0]) >= 33 else "sync"

#: name -> (project, roles); the password is NAME-pw.
USERS = {
    "member": ("demo", ["member"]),
    "reader": ("demo", ["reader"]),
    "other": ("other", ["member"]),
    "nova": ("service", ["admin", "service"]),
}

NOVA_CONF = """\
[DEFAULT]
host = {host}
state_path = {state}
transport_url = {transport}
rpc_response_timeout = {rpc_timeout}
my_ip = 127.0.0.1
log_options = false
debug = true
default_log_levels = sqlalchemy=WARN,oslo.messaging=INFO,stevedore=INFO,oslo_policy=INFO
[oslo_concurrency]
lock_path = {state}/locks
[api_database]
connection = sqlite:///{state}/nova_api.sqlite
[database]
connection = sqlite:///{state}/{database}.sqlite
[keystone_authtoken]
www_authenticate_uri = {keystone}
service_token_roles_required = true
{credentials}
[neutron]
endpoint_override = {neutron}/network
{credentials}
[placement]
endpoint_override = {neutron}/placement
{credentials}
[glance]
endpoint_override = {neutron}/image
[mks]
mksproxy_base_url = http://fallback.example.com:6090/
[oslo_policy]
enforce_scope = true
enforce_new_defaults = true
policy_file = {state}/policy.yaml
[workarounds]
disable_compute_service_check_for_ffu = true
"""

CREDENTIALS = """\
auth_type = password
auth_url = {keystone}
username = nova
password = nova-pw
project_name = service
user_domain_name = Default
project_domain_name = Default
"""

KEYSTONE_CONF = """\
[database]
connection = sqlite:///{state}/keystone.sqlite
[fernet_tokens]
key_repository = {state}/fernet-keys
[fernet_receipts]
key_repository = {state}/fernet-keys
[identity]
password_hash_rounds = 4
[cache]
enabled = false
[oslo_policy]
enforce_scope = true
"""

GUNICORN = """\
wsgi_app = "{application}"
bind = "fd://{descriptor}"
worker_class = "{worker}"
threads = 8 if worker_class == "gthread" else 1
timeout = 120
control_socket_disable = True
"""


class Environment:
    """The virtual environment: Nova, Keystone, the client, the filter and two WSGI servers."""

    def __init__(self, release: str = RELEASE) -> None:
        self.release = release
        self.directory = ROOT / "var" / f"nova-{release}"
        self.python = self.directory / "venv" / "bin" / "python"

    def command(self, name: str) -> str:
        """The path of an installed program."""
        return str(self.python.parent / name)

    def make(self) -> None:
        """Install what is missing; a second call has nothing to do."""
        constraints = HERE / f"constraints-{self.release}.txt"
        wanted = [
            f"nova=={self.release}",
            "keystone",
            "python-openstackclient",
            "gunicorn",
            "pyuwsgi",
            *(["-c", str(constraints)] if constraints.exists() else []),
            "-e",
            f"{ROOT}[vcenter]",  # for ticket_at = issue
        ]
        made_of = [sys.version, *wanted, (ROOT / "setup.cfg").read_text()]
        if constraints.exists():
            made_of.append(constraints.read_text())
        stamp = self.directory / "venv" / ".made-of"
        digest = hashlib.sha256("\n".join(made_of).encode()).hexdigest()
        if stamp.exists() and stamp.read_text() == digest:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.python.exists():
            base = getattr(sys, "_base_executable", sys.executable)
            _run([base, "-m", "venv", str(self.directory / "venv")])
        pip = [str(self.python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        _run([*pip, *wanted])
        stamp.write_text(digest)


class Neutron(http.server.ThreadingHTTPServer):
    """Stands for neutron, glance and placement: no ports, no groups, no images."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _NeutronHandler)
        #: ``METHOD path`` of every request so far.
        self.asked: list[str] = []
        self.url = f"http://{HOST}:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _NeutronHandler(http.server.BaseHTTPRequestHandler):
    server: Neutron
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {self.path}")
        collection = path.rpartition("/")[2].replace("-", "_")
        found = path.startswith("/network/v2.0/")
        body = json.dumps({collection: []} if found else {}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *args: Any) -> None:
        """Not on the test's standard error."""


@dataclasses.dataclass
class Service:
    """A program that listens."""

    url: str
    log: Path
    process: subprocess.Popen[str] = dataclasses.field(repr=False)

    def stop(self) -> None:
        """End it, by its process id."""
        self.process.terminate()
        self.process.wait(30)

    def logged(self) -> str:
        """All that it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


class Stack:
    """Keystone with users, Nova's databases with servers, and nova-api as often as wanted.

    :param state: an empty directory for databases, configuration and logs.
    :param transport: ``transport_url`` of Nova's messages. By default there is nobody to talk to,
        and nova-api waits one second for the answers that do not come.
    """

    def __init__(
        self,
        environment: Environment,
        state: Path,
        children: Children,
        *,
        transport: str = "fake://",
    ) -> None:
        self.environment = environment
        self.transport = transport
        self.state = state
        self.neutron = Neutron()
        self.projects: dict[str, str] = {}
        self.users: dict[str, str] = {}
        #: Tokens of Nova's own consoles by server UUID.
        self.console_tokens: dict[str, str] = {}
        self._children = children
        # The catalogue holds nova-api's address, so it is chosen before anything starts.
        self._sockets = {name: _listen() for name in ("keystone", "nova-api")}
        self.keystone_url = f"{_url(self._sockets['keystone'])}/v3"
        self.nova_url = _url(self._sockets["nova-api"])

    def start(self, servers: Sequence[dict[str, Any]]) -> None:
        """Bring up Keystone, and put users and *servers* (see ``seed.py``) into the databases."""
        self._configure()
        self._databases()
        self._keystone()
        self._identity()
        self._run_seed(servers)

    def close(self) -> None:
        """Close what is in this process; the programs end with *children*."""
        self.neutron.shutdown()
        self.neutron.server_close()
        for listener in self._sockets.values():
            listener.close()

    def nova_api(
        self, paste: str, name: str = "nova-api", *, options: str = "", worker: str = WORKER
    ) -> Service:
        """Start a nova-api.

        :param paste: the text of its api-paste.ini.
        :param name: ``nova-api`` is the one in the catalogue.
        :param options: more of nova.conf.
        :param worker: ``gthread`` or ``sync`` (gunicorn), or ``uwsgi``.
        """
        directory = self.nova_configuration(paste, name, options)
        listener = self._sockets.get(name) or _listen()
        self._sockets[name] = listener
        return self._serve(
            name,
            "nova.wsgi.osapi_compute:application",
            listener,
            worker=worker,
            env={"OS_NOVA_CONFIG_DIR": str(directory)},
        )

    def nova_configuration(self, paste: str, name: str, options: str = "") -> Path:
        """Write what a nova-api reads; the directory is its ``OS_NOVA_CONFIG_DIR``."""
        directory = self.state / name
        directory.mkdir()
        (directory / "api-paste.ini").write_text(paste)
        (directory / "nova.conf").write_text(
            self._nova_conf("nova_cell0", host=name) + "\n" + options
        )
        return directory

    def stock_paste(self) -> str:
        """Nova's own api-paste.ini."""
        path = self.environment.directory / "venv" / "etc" / "nova" / "api-paste.ini"
        return path.read_text()

    def token(self, user: str) -> str:
        """A Keystone token, scoped to the user's project; one per user."""
        return self._token(user)

    def credentials(self, user: str) -> dict[str, str]:
        """``OS_*`` for the command-line client."""
        project = USERS[user][0] if user in USERS else user
        return {
            "OS_AUTH_URL": self.keystone_url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": user,
            "OS_PASSWORD": f"{user}-pw",
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
        }

    def openstack(
        self, user: str, *arguments: str, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the real ``openstack`` client as *user*."""
        return subprocess.run(
            [self.environment.command("openstack"), *arguments],
            env={**_clean_environment(), **self.credentials(user), **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def set_policy(self, rules: dict[str, str]) -> None:
        """Write policy.yaml; a running nova-api reads it again at its next decision."""
        text = "".join(
            f"{json.dumps(rule)}: {json.dumps(check)}\n" for rule, check in rules.items()
        )
        (self.state / "policy.yaml").write_text(text or "{}\n")

    def _configure(self) -> None:
        self.set_policy({})
        (self.state / "locks").mkdir()
        (self.state / "keystone.conf").write_text(KEYSTONE_CONF.format(state=self.state))
        for cell in ("nova_cell0", "nova_cell1"):
            (self.state / f"{cell}.conf").write_text(self._nova_conf(cell, host="compute1"))

    def _nova_conf(self, database: str, *, host: str) -> str:
        return NOVA_CONF.format(
            host=host,
            state=self.state,
            database=database,
            transport=self.transport,
            rpc_timeout=1 if self.transport == "fake://" else 60,
            keystone=self.keystone_url,
            neutron=self.neutron.url,
            credentials=CREDENTIALS.format(keystone=self.keystone_url),
        )

    def _databases(self) -> None:
        """Empty databases; the schema is laid once per environment, then copied."""
        template = self.environment.directory / "databases"
        if not template.exists():
            manage = [self.environment.command("nova-manage"), "--config-file"]
            cell = str(self.state / "nova_cell0.conf")
            _run([*manage, cell, "api_db", "sync"])
            _run([*manage, cell, "db", "sync", "--local_cell"])
            self._keystone_manage("db_sync")
            unfinished = template.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for name in ("keystone", "nova_api", "nova_cell0"):
                shutil.copy(self.state / f"{name}.sqlite", unfinished)
            unfinished.rename(template)
        for name in ("keystone", "nova_api", "nova_cell0"):
            shutil.copy(template / f"{name}.sqlite", self.state)
        shutil.copy(template / "nova_cell0.sqlite", self.state / "nova_cell1.sqlite")

    def _keystone_manage(self, *arguments: str) -> None:
        program = self.environment.command("keystone-manage")
        _run([program, "--config-file", str(self.state / "keystone.conf"), *arguments])

    def _keystone(self) -> None:
        # What `keystone-manage fernet_setup` does, without its seconds.
        keys = self.state / "fernet-keys"
        keys.mkdir(mode=0o700)
        for number in ("0", "1"):
            (keys / number).write_bytes(Fernet.generate_key())
        self._keystone_manage(
            *("bootstrap", "--bootstrap-password", "admin-pw"),
            *("--bootstrap-region-id", "RegionOne"),
            *("--bootstrap-public-url", self.keystone_url),
            *("--bootstrap-internal-url", self.keystone_url),
        )
        self._serve(
            "keystone",
            "keystone.wsgi.api:application",
            self._sockets["keystone"],
            env={"OS_KEYSTONE_CONFIG_DIR": str(self.state)},
        )

    def _identity(self) -> None:
        keystone = requests.Session()
        keystone.headers["X-Auth-Token"] = self._token("admin")

        def post(kind: str, **values: Any) -> str:
            answer = keystone.post(f"{self.keystone_url}/{kind}s", json={kind: values}, timeout=30)
            answer.raise_for_status()
            return str(answer.json()[kind]["id"])

        roles = {
            role["name"]: role["id"]
            for role in keystone.get(f"{self.keystone_url}/roles", timeout=30).json()["roles"]
        }
        for name in ("demo", "other", "service"):
            self.projects[name] = post("project", name=name, domain_id="default")
        for name, (project, granted) in USERS.items():
            self.users[name] = post("user", name=name, password=f"{name}-pw", domain_id="default")
            for role in granted:
                keystone.put(
                    f"{self.keystone_url}/projects/{self.projects[project]}"
                    f"/users/{self.users[name]}/roles/{roles[role]}",
                    timeout=30,
                ).raise_for_status()
        service = post("service", type="compute", name="nova")
        post(
            "endpoint",
            service_id=service,
            interface="public",
            region_id="RegionOne",
            url=f"{self.nova_url}/v2.1",
        )

    @functools.cache  # noqa: B019 - a stack lives as long as the test run
    def _token(self, user: str) -> str:
        project = USERS[user][0] if user in USERS else user
        domain = {"id": "default"}
        answer = requests.post(
            f"{self.keystone_url}/auth/tokens",
            json={
                "auth": {
                    "identity": {
                        "methods": ["password"],
                        "password": {
                            "user": {"name": user, "password": f"{user}-pw", "domain": domain}
                        },
                    },
                    "scope": {"project": {"name": project, "domain": domain}},
                }
            },
            timeout=30,
        )
        answer.raise_for_status()
        return answer.headers["X-Subject-Token"]

    def _run_seed(self, servers: Sequence[dict[str, Any]]) -> None:
        plan = {
            "config_file": str(self.state / "nova_cell0.conf"),
            "transport": self.transport,
            "cells": {
                name: f"sqlite:///{self.state}/nova_{name}.sqlite" for name in ("cell0", "cell1")
            },
            "projects": self.projects,
            "users": self.users,
            "servers": list(servers),
        }
        path = self.state / "seed.json"
        path.write_text(json.dumps(plan))
        told = _run([str(self.environment.python), str(HERE / "seed.py"), str(path)])
        self.console_tokens = json.loads(told.splitlines()[-1])

    def _serve(
        self,
        name: str,
        application: str,
        listener: socket.socket,
        *,
        worker: str = "gthread",
        env: dict[str, str] | None = None,
    ) -> Service:
        descriptor = listener.fileno()
        environ = {**(env or {}), "PYTHONWARNINGS": "ignore"}
        if worker == "uwsgi":
            command = [self.environment.command("pyuwsgi")]
            command += ["--http-socket", f"fd://{descriptor}", "--module", application]
            command += ["--enable-threads", "--lazy-apps", "--die-on-term", "--need-app"]
            command += ["--virtualenv", str(self.environment.python.parents[1])]
            command += ["--buffer-size", "65535", "--threads", "4"]
        else:
            # Nova parses sys.argv and would not know gunicorn's options.
            command = [self.environment.command("gunicorn")]
            settings = self.state / f"{name}.gunicorn.py"
            settings.write_text(
                GUNICORN.format(application=application, descriptor=descriptor, worker=worker)
            )
            environ["GUNICORN_CMD_ARGS"] = f"--config {settings}"
        log = self.state / f"{name}.log"
        with log.open("w", encoding="utf-8") as output:
            process = self._children.start(
                command, env=environ, stdout=output, stderr=output, pass_fds=[descriptor]
            )
        service = Service(_url(listener), log, process)
        _wait_until_it_answers(service)
        return service


def with_filter(paste: str, section: str, name: str = "mksfilter") -> str:
    """*paste* with filter *name* in both v2.1 pipelines, as docs/nova.md tells an operator."""
    text, changed = re.subn(
        r"^(keystone = .*) osapi_compute_app_v21$",
        rf"\1 {name} osapi_compute_app_v21",
        paste,
        flags=re.M,
    )
    assert changed == 2, paste
    return f"{text}\n{section}\n"


def _listen() -> socket.socket:
    """A port that is ours from now on, so that nobody takes it before the service starts."""
    return socket.create_server((HOST, 0))


def _url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"


def _wait_until_it_answers(service: Service) -> None:
    """The socket listens already, so one request waits in it until the service takes it."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            requests.get(service.url, timeout=1)
            return
        except (requests.ConnectionError, requests.Timeout):
            if service.process.poll() is not None:
                break
    raise AssertionError(f"{service.log.stem} did not start:\n{service.logged()[-4000:]}")


def _clean_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
    return {**kept, "PYTHONWARNINGS": "ignore"}


def _run(command: Sequence[str]) -> str:
    """Run *command* and return what it printed; when it fails, that is the error."""
    done = subprocess.run(
        command,
        # For the tools: the API itself runs as shipped.
        env={**_clean_environment(), "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout
