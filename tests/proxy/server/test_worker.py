"""The worker under gunicorn's own command, which finds the application and looks after it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import time
import urllib.request

import psutil
import pytest

from tests.support.gunicorn import gunicorn
from tests.support.ports import free_port
from tests.support.proxy import configuration, fetch, read_to_end

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
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("arguments", [[], ["--preload"]], ids=["", "preload"])
def test_an_application_behind_middleware_says_how_long_a_request_may_take(paste, arguments):
    management = free_port()
    options = {"handshake_timeout": 1, "management_bind": f"127.0.0.1:{management}"}
    with gunicorn(paste(**options), *arguments) as (process, url):
        assert get(f"{url}/healthz") == b"ok\n"
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"GET /")
            assert read_to_end(sock) == b""
        refused = rb'mksfilter_refusals_total\{reason="request-timeout"\} 1\.0'
        assert re.search(refused, fetch(management, "/metrics").body)
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


def settled(management: int, **workers: int) -> None:
    """Wait until the node has so many workers of each kind."""

    def as_wanted():
        with contextlib.suppress(OSError):
            found = json.loads(fetch(management, "/readyz").body)["workers"]
            return all(found[kind] == number for kind, number in workers.items())

    wait_for(as_wanted)


def refusals(management: int) -> int:
    text = fetch(management, "/metrics").body.decode()
    found = re.search(r'^mksfilter_refusals_total\{reason="token-malformed"\} (\S+)$', text, re.M)
    return int(float(found[1])) if found else 0


class TestNode:
    """Several workers, one management listener."""

    @pytest.fixture
    def management(self):
        return free_port()

    @pytest.fixture
    def paste(self, paste, management):
        return paste(management_bind=f"127.0.0.1:{management}")

    @pytest.mark.parametrize("arguments", [[], ["--preload"]], ids=["", "preload"])
    def test_whoever_answers_answers_for_all(self, paste, management, arguments):
        with gunicorn(paste, "--workers", "3", *arguments) as (_, url):
            settled(management, serving=3)
            port = int(url.rpartition(":")[2])
            for _ in range(30):
                assert fetch(port, "/?token=bad").status == 403
            wait_for(lambda: refusals(management) == 30)
            # Whichever worker is asked now says the same.
            assert {refusals(management) for _ in range(10)} == {30}

    def test_a_worker_that_is_stuck_answers_no_probe_in_the_others_place(self, paste, management):
        with gunicorn(paste, "--workers", "2", "--timeout", "60") as (process, _):
            settled(management, serving=2)
            worker, _other = psutil.Process(process.pid).children()
            worker.suspend()
            for _ in range(20):
                assert fetch(management, "/livez").status == 200
            settled(management, serving=1, stuck=1)
            worker.resume()
            settled(management, serving=2)

    def test_a_worker_that_is_killed_takes_its_counts_nowhere(self, paste, management):
        with gunicorn(paste, "--workers", "1") as (process, url):
            port = int(url.rpartition(":")[2])
            settled(management, serving=1)
            for _ in range(5):
                fetch(port, "/?token=bad")
            assert refusals(management) == 5
            (worker,) = psutil.Process(process.pid).children()
            worker.kill()
            wait_for(lambda: psutil.Process(process.pid).children() not in ([worker], []))
            settled(management, serving=1)
            assert refusals(management) == 5

    def test_a_directory_for_metrics_that_is_set_and_full_harms_nobody(
        self, paste, management, full_disk
    ):
        with gunicorn(paste, "--workers", "2", PROMETHEUS_MULTIPROC_DIR=str(full_disk)) as (
            process,
            url,
        ):
            settled(management, serving=2)
            workers = psutil.Process(process.pid).children()
            port = int(url.rpartition(":")[2])
            for _ in range(20):
                assert fetch(port, "/?token=bad").status == 403
                assert fetch(management, "/metrics").status == 200
            assert psutil.Process(process.pid).children() == workers

    def test_killed_outright_it_leaves_nothing_behind(self, paste, management, tmp_path):
        scratch = tmp_path / "tmp"
        scratch.mkdir()
        with gunicorn(paste, "--workers", "2", TMPDIR=str(scratch)) as (process, _):
            settled(management, serving=2)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert list(scratch.iterdir()) == []

    def test_a_reload_leaves_the_listener_to_the_new_workers(self, paste, management):
        with gunicorn(paste, "--workers", "1") as (process, _):
            settled(management, serving=1)
            (old,) = psutil.Process(process.pid).children()
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: old not in psutil.Process(process.pid).children())
            settled(management, serving=1, draining=0)

    def test_an_address_in_use_is_told_and_taken_when_it_is_free(self, paste, management):
        with contextlib.ExitStack() as stack:
            busy = stack.enter_context(socket.create_server(("127.0.0.1", management)))
            process, url = stack.enter_context(gunicorn(paste))
            assert get(f"{url}/healthz") == b"ok\n", "consoles do not depend on it"
            busy.close()
            settled(management, serving=1)
            process.terminate()
            assert "event=management-not-listening" in process.communicate(timeout=20)[0]
