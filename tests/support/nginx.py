"""Debian's nginx as a load balancer in front of a proxy."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["start_nginx", "start_nginx_with"]

_CONF = """\
daemon off; worker_processes 1; pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 200; }}
http {{
    access_log off;
    {temporary}
    {block}
}}
"""
_LOCATIONS = """\
map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
proxy_http_version 1.1;
proxy_set_header Host $http_host;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
server {{
    listen 127.0.0.1:{port};
    {locations}
}}
"""


def start_nginx(port: int, locations: str) -> contextlib.AbstractContextManager[None]:
    """Run nginx on *port* with these ``location`` blocks for as long as the context lasts."""
    return start_nginx_with(port, _LOCATIONS.format(port=port, locations=locations))


@contextlib.contextmanager
def start_nginx_with(port: int, block: str) -> Iterator[None]:
    """Run nginx, which listens on *port*, with this content of its ``http`` block."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program, "nginx is missing; run tools/install-test-tools"
    with tempfile.TemporaryDirectory(prefix="mksfilter-nginx-") as name:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        conf = Path(name) / "nginx.conf"
        conf.write_text(
            _CONF.format(
                directory=name,
                block=block,
                temporary=" ".join(f"{kind}_temp_path {name}/{kind};" for kind in kinds),
            )
        )
        errors = Path(name) / "error.log"
        process = subprocess.Popen(
            [program, "-e", str(errors), "-c", str(conf)], stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                assert process.poll() is None, errors.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait(10)
