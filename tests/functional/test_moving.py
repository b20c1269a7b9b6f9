"""``docs/moving.md`` as it is written: an older console service and ours behind one HAProxy."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.simulator.viewer import Viewer
from tests.support.cloud import Cloud
from tests.support.ports import free_port

PAGE = (Path(__file__).parents[2] / "docs" / "moving.md").read_text(encoding="utf-8")
DEFAULTS = Path(__file__).parents[2] / "etc" / "haproxy" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
TOKEN = "9f3c5f5e-5b2c-4a7e-9a55-0d5a7e7f0b11"
MOVED = "cell1 mksfilter\n"


class Older(http.server.ThreadingHTTPServer):
    """The older service, as far as a balancer sees it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _OlderHandler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


class _OlderHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"older: " + self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Not on the test's standard error."""


class Balancer:
    """The page's HAProxy, on a free port."""

    def __init__(self, directory, certificate, older, proxies):
        assert HAPROXY, "haproxy is missing; run tools/install-test-tools"
        assert MOVED in PAGE
        self.port = free_port()
        self.cells = directory / "cells.map"
        self.cells.write_text("")
        self.context = ssl.create_default_context(cafile=certificate / "cert.pem")
        self._conf = directory / "haproxy.cfg"
        self._processes = []
        pem = directory / "console.pem"
        pem.write_bytes(
            (certificate / "cert.pem").read_bytes() + (certificate / "key.pem").read_bytes()
        )
        defaults = re.search(r"^defaults\n.*?(?=^frontend)", DEFAULTS.read_text(), re.M | re.S)[0]
        text = re.search(r"```haproxy\n(.*?)```", PAGE, re.S)[1]
        for old, new in (
            ("bind :443", f"bind 127.0.0.1:{self.port}"),
            ("/etc/haproxy/console.pem", str(pem)),
            ("/etc/haproxy/cells.map", str(self.cells)),
            ("192.0.2.21:8080", f"127.0.0.1:{older}"),
            ("192.0.2.11:6090", f"127.0.0.1:{proxies[0].port}"),
            ("192.0.2.12:6090", f"127.0.0.1:{proxies[1].port}"),
        ):
            assert old in text
            text = text.replace(old, new)
        self._conf.write_text(
            f"global\n    maxconn 100\n{defaults.replace('log global', 'no log')}{text}"
        )

    def reload(self):
        """Start, or start anew while consoles of before stay open."""
        before = ["-sf", *[str(process.pid) for process in self._processes]]
        process = subprocess.Popen(
            [HAPROXY, "-db", "-f", self._conf, *(before if self._processes else [])],
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)

    def get(self, path):
        url = f"https://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, context=self.context, timeout=20) as answer:
            return answer.read().decode()

    def wait_for(self, path, text):
        """Until *path* is answered by who says *text*: a reload takes a moment."""
        deadline = time.monotonic() + 20
        while True:
            try:
                if text in self.get(path):
                    return
            except (urllib.error.URLError, OSError):
                assert self._processes[-1].poll() is None
            assert time.monotonic() < deadline, f"{path} is not answered with {text!r}"
            time.sleep(0.05)

    def console(self, cell):
        return Viewer(
            f"wss://127.0.0.1:{self.port}/{cell}/mks/websockify?token={TOKEN}",
            origin=f"https://127.0.0.1:{self.port}",
            ssl_context=self.context,
        )

    def close(self):
        for process in self._processes:
            process.kill()
            process.wait(10)


@pytest.fixture
def cloud():
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def balancer(tmp_path, certificate, cloud, proxy_factory):
    nova = tmp_path / "nova.conf"
    nova.write_text(cloud.configuration() + "ticket = issued\nconsole_insecure = true\n")
    proxies = [
        proxy_factory("--config-file", str(nova), trusted_proxies="127.0.0.0/8") for _ in range(2)
    ]
    with Older() as older:
        balancer = Balancer(tmp_path, certificate, older.server_address[1], proxies)
        balancer.reload()
        yield balancer
        balancer.close()


@pytest.fixture
def link(cloud, vsphere):
    """Issue a token as Nova does; a ticket is good for one console."""

    def issue():
        machine = vsphere.vm("web-1")
        consoles = Consoles([vsphere.vcenter_settings()])
        issued = consoles.connect(machine["uuid"])
        consoles.close()
        stored = {"host": issued.host, "port": issued.port, "instance_uuid": machine["uuid"]}
        cloud.body = json.dumps({"console": {**stored, "internal_access_path": issued.resource}})
        return f"mks/vnc_auto.html?path=cell1/mks/websockify?token={TOKEN}"

    return issue


def test_a_cell_moves_by_one_line_and_back_and_open_consoles_stay(balancer, link):
    page = f"/cell1/{link()}"
    balancer.wait_for(page, f"older: {page}")

    balancer.cells.write_text(MOVED)
    balancer.reload()
    balancer.wait_for(page, "mksfilter with noVNC")
    assert balancer.get("/cell2/mks/vnc_auto.html").startswith("older: ")
    with balancer.console("cell1") as viewer:
        assert viewer.name == "web-1"
        viewer.framebuffer()

        balancer.cells.write_text("")
        balancer.reload()
        balancer.wait_for(page, f"older: {page}")
        viewer.framebuffer()


def test_the_files_of_the_page_come_from_where_the_page_does(balancer, link):
    balancer.cells.write_text(MOVED)
    balancer.reload()
    page = f"/cell1/{link()}"
    balancer.wait_for(page, "mksfilter with noVNC")
    for name in re.findall(r'(?:src|href)="(static/[^"]+)"', balancer.get(page)):
        assert balancer.get(f"/cell1/mks/{name}")


def test_what_the_map_does_not_name_stays_where_it_is(balancer):
    for path in ("/", "/cell1/mks/", "/cell9/mks/vnc_auto.html", "/static/console.css"):
        balancer.wait_for(path, f"older: {path}")
