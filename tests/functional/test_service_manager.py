"""``mksfilter serve`` as systemd's ``Type=notify`` has it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.support.proxy import configuration


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def test_the_service_is_ready_once_it_can_serve_and_feeds_its_watchdog(systemd, tmp_path):
    config = configuration(tmp_path, ticket_at="issue")
    serve = (sys.executable, "-m", "mksfilter", "serve", "--bind", "127.0.0.1:0")
    process = subprocess.Popen(
        [*serve, "--workers", "1", "--config-file", config],
        env={**os.environ, "NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "1500000"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # The first word comes from a worker, not from gunicorn's master.
        assert systemd.recv(1000) == b"READY=1\nSTATUS=serving"
        assert process.stdout is not None
        assert "management on http://127.0.0.1:" in process.stdout.readline()
        assert "listening on http://127.0.0.1:" in process.stdout.readline()
        assert systemd.recv(1000) == b"WATCHDOG=1"
        assert systemd.recv(1000) == b"WATCHDOG=1"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
