"""The filter under each WSGI server, and what it leaves out of nova-api's process."""

from __future__ import annotations

import json
import subprocess

import pytest

from . import servers
from .stack import WORKER

MKS = {"remote_console": {"protocol": "mks", "type": "webmks"}}

# Nova logs to its standard output or error where no log_file is set.
UNKNOWN = """\
import sys
sys.argv = ["nova-api"]
import nova.version
nova.version.version_string = lambda: "35.0.0"
import nova.wsgi.osapi_compute
"""

LOADED = """\
import json, os, sys
sys.argv = ["nova-api"]
if {poison}:
    class Poison:
        def find_spec(self, name, path, target=None):
            if name.partition(".")[0] in ("eventlet", "gevent"):
                raise ImportError("mksfilter must not import " + name)
    sys.meta_path.insert(0, Poison())
import nova.wsgi.osapi_compute
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("worker", ["gthread", "sync", "uwsgi"])
def test_console_under(worker, stack, filtered_paste, options, ask):
    if worker == "gthread" != WORKER:
        pytest.skip("this Nova itself does not run under gthread")
    api = stack.nova_api(filtered_paste, f"under-{worker}", options=options, worker=worker)
    try:
        answer = ask("member", f"/servers/{servers.ACTIVE}/remote-consoles", MKS, api=api)
        assert answer.status_code == 200
        assert answer.json()["remote_console"]["url"].startswith("https://console.example.com/?")
    finally:
        api.stop()


def test_filter_loads_where_green_threads_are_forbidden(stack, nova_api):
    done = load(stack, LOADED.format(poison=True))

    assert done.returncode == 0, done.stderr[-2000:]


def test_filter_brings_no_green_threads_proxy_or_pyvmomi_into_nova_api(stack, nova_api):
    done = load(stack, LOADED.format(poison=False))

    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "mksfilter.api.nova" in loaded
    unwanted = ("gevent", "geventwebsocket", "pyVmomi", "gunicorn", "mksfilter.proxy")
    assert [name for name in loaded if name.startswith(unwanted)] == []


def test_release_of_nova_that_we_do_not_know_is_told_once(stack, nova_api):
    done = load(stack, UNKNOWN)

    told = [line for line in (done.stdout + done.stderr).splitlines() if "35.0.0" in line]

    assert len(told) == 1, done.stderr[-3000:]
    assert "WARNING mksfilter.api.nova" in told[0]
    assert "event=nova-release-unknown release=35.0.0 known=28,29,30,31,32,33,34" in told[0]


def test_release_of_nova_that_we_know_is_nothing_to_tell(stack, nova_api):
    assert "nova-release-unknown" not in nova_api.logged()


def load(stack, program):
    """Load the pipelines in a process of their own, as a worker does."""
    return subprocess.run(
        [str(stack.environment.python), "-c", program],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONWARNINGS": "ignore",
            "OS_NOVA_CONFIG_DIR": str(stack.state / "nova-api"),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
