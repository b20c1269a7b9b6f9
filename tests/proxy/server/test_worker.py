"""The worker under gunicorn's own command, which finds the application and looks after it."""

from __future__ import annotations

import re
import resource
import socket
import time
import urllib.request

import psutil
import pytest

from tests.support.gunicorn import gunicorn
from tests.support.proxy import configuration, read_to_end

PIPELINE = """\
[pipeline:main]
pipeline = hide hide proxy

[filter:hide]
paste.filter_factory = tests.proxy.server.test_worker:filter_factory

[app:proxy]
use = egg:mksfilter#mksproxy
config_file = {config}
"""


class _Hidden:
    """Middleware in which nobody would find what it wraps."""

    def __init__(self, app):
        self.call = lambda environ, start_response: app(environ, start_response)

    def __call__(self, environ, start_response):
        return self.call(environ, start_response)


def filter_factory(global_conf, **local_conf):
    return _Hidden


@pytest.fixture
def paste(tmp_path):
    """Make a paste file with options of ``[mksfilter]``."""

    def paste(**options):
        path = tmp_path / "paste.ini"
        config = configuration(tmp_path, **{"ticket_at": "issue", **options})
        path.write_text(PIPELINE.format(config=config))
        return path

    return paste


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("arguments", [[], ["--preload"]], ids=["", "preload"])
def test_an_application_behind_middleware_says_how_long_a_request_may_take(paste, arguments):
    with gunicorn(paste(handshake_timeout=1), *arguments) as (process, url):
        assert get(f"{url}/healthz") == b"ok\n"
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"GET /")
            assert read_to_end(sock) == b""
        refused = rb'mksfilter_refusals_total\{reason="request-timeout"\} 1\.0'
        assert re.search(refused, get(f"{url}/metrics"))
        process.terminate()
        assert process.wait(20) == 0


def test_an_application_that_cannot_start_is_one_line_and_no_second_try(paste):
    with gunicorn(paste(ticket_at="connect")) as (process, _):
        output = process.communicate(timeout=30)[0]
    assert process.returncode == 4
    assert output.count("vcenters is empty") == 1
    assert output.count("Booting worker") == 1
    assert "Traceback" not in output


def test_a_worker_takes_all_the_descriptors_that_it_may_have(paste):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 3000))

    with gunicorn(paste(), preexec=limit) as (process, url):
        get(f"{url}/healthz")
        (worker,) = psutil.Process(process.pid).children()
        assert worker.rlimit(psutil.RLIMIT_NOFILE) == (3000, 3000)


def test_an_operators_own_hook_stays_when_metrics_are_shared(paste, tmp_path):
    seen = tmp_path / "seen"
    hooks = tmp_path / "hooks.py"
    hooks.write_text(
        "def child_exit(server, worker):\n"
        f"    with open({str(seen)!r}, 'w') as file:\n"
        "        file.write(str(worker.pid))\n"
    )
    shared = tmp_path / "metrics"
    shared.mkdir()
    arguments = ["--config", str(hooks)]
    with gunicorn(paste(), *arguments, PROMETHEUS_MULTIPROC_DIR=str(shared)) as (process, url):
        get(f"{url}/healthz")
        (worker,) = psutil.Process(process.pid).children()
        worker.kill()
        assert wait_for(lambda: seen.exists() and seen.read_text()) == str(worker.pid)
