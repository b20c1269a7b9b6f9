"""The proxy as processes: its logs, its reload, its drain, and what is left when one is killed."""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import subprocess
import sys

import pytest

from tests.support.proxy import configuration

_F_SETPIPE_SZ = 1031


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_that_nobody_reads_stops_neither_workers_nor_master(tmp_path, form):
    config = configuration(tmp_path, ticket_at="issue", log_level="DEBUG", log_format=form)
    command = [sys.executable, "-m", "mksfilter", "serve", "--config-file", str(config)]
    command += ["--bind", "127.0.0.1:0", "--access-log", "-"]
    reader, writer = os.pipe()
    fcntl.fcntl(writer, _F_SETPIPE_SZ, 4096)
    with os.fdopen(reader, "rb", buffering=0) as log:
        process = subprocess.Popen(command, stdout=writer, stderr=writer)
        try:
            os.close(writer)
            said = b""
            while b"listening on" not in said:
                said += log.read(4096)
            port = int(said.partition(b"listening on http://127.0.0.1:")[2].split()[0])
            for _ in range(200):  # several times what the pipe holds
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("GET", "/healthz", headers={"User-Agent": "x" * 100})
                assert connection.getresponse().status == 200
                connection.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
