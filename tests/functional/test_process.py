"""The proxy as processes: its logs, its reload, its drain, and what is left when one is killed."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import psutil
import pytest
from websockets.sync.client import connect

from mksfilter.simulator.client import WEB_1
from tests.support.page_client import open_page, told, until_closed
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


def stock_client(proxy):
    """A client that knows nothing of the control channel: it cannot come back."""
    url = f"ws://127.0.0.1:{proxy.port}/?token={proxy.token(WEB_1)}"
    return connect(url, subprotocols=["binary"], proxy=None)


def is_alive(client) -> bool:
    client.ping().wait(10)
    return client.close_code is None


def until(condition, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def refuses_connections(proxy):
    try:
        proxy.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def drain(proxy, *arguments):
    command = [sys.executable, "-m", "mksfilter", "drain", *arguments]
    command += ["--management", f"127.0.0.1:{proxy.management}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def workers(proxy):
    return psutil.Process(proxy.process.pid).children()


class TestDrain:
    def test_sigterm_moves_the_page_at_once_and_keeps_the_client_that_cannot_come_back(
        self, proxy_factory
    ):
        proxy = proxy_factory("--graceful-timeout", "100")
        with open_page(proxy, proxy.token(WEB_1)) as page, stock_client(proxy) as stock:
            assert told(page)["type"] == "hello"
            proxy.process.send_signal(signal.SIGTERM)
            assert told(page) == {"type": "notice", "notice": "draining", "in": 4}
            assert until_closed(page)[1] == 1012
            until(lambda: refuses_connections(proxy))
            assert is_alive(stock)
            assert proxy.process.poll() is None
        assert proxy.process.wait(10) == 0, "the last has left, and there is no need to wait"

    def test_drain_time_is_the_end_with_a_close_frame(self, proxy_factory):
        proxy = proxy_factory("--graceful-timeout", "1")
        with stock_client(proxy) as stock:
            proxy.process.send_signal(signal.SIGTERM)
            assert until_closed(stock)[1] == 1012
        assert proxy.process.wait(10) == 0
        assert "reason=server-draining" in proxy.log()

    def test_sigint_cuts_a_drain_short(self, proxy_factory):
        proxy = proxy_factory("--graceful-timeout", "100")
        with stock_client(proxy) as stock:
            proxy.process.send_signal(signal.SIGTERM)
            until(lambda: refuses_connections(proxy))
            proxy.process.send_signal(signal.SIGINT)
            assert until_closed(stock)[1] == 1012
        assert proxy.process.wait(10) == 0

    def test_the_command_takes_the_node_out_of_service_and_a_reload_puts_it_back(
        self, proxy_factory
    ):
        proxy = proxy_factory("--graceful-timeout", "0")
        assert drain(proxy, "--status").returncode == 0
        with open_page(proxy, proxy.token(WEB_1)) as page, stock_client(proxy) as stock:
            assert told(page)["type"] == "hello"
            done = drain(proxy)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith("draining: ")
            assert told(page)["notice"] == "draining"
            page.close()
            assert proxy.wait_for_log("event=session-ended")
            until(lambda: '"moving": 0' in drain(proxy, "--status", "--json").stdout)
            status = drain(proxy, "--status", "--json")
            assert status.returncode == 1
            assert json.loads(status.stdout)["sessions"] == {"moving": 0, "kept": 1}
            assert proxy.get("/healthz").status == proxy.manage("/readyz").status == 503
            assert proxy.upgrade(proxy.token(WEB_1)).status == 503
            assert is_alive(stock)
            assert drain(proxy, "--wait", "0.1").returncode == 1
        assert drain(proxy, "--wait", "20").returncode == 0
        proxy.process.send_signal(signal.SIGHUP)
        # For a moment the old worker listens beside the new one.
        until(lambda: proxy.upgrade(proxy.token(WEB_1)).status == 101)

    def test_a_reload_serves_anew_and_keeps_who_cannot_come_back(self, proxy_factory):
        proxy = proxy_factory("--graceful-timeout", "100", "--workers", "2")
        old = workers(proxy)
        with open_page(proxy, proxy.token(WEB_1)) as page, stock_client(proxy) as stock:
            assert told(page)["type"] == "hello"
            proxy.process.send_signal(signal.SIGHUP)
            proxy.wait_for_log("event=draining", timeout=60)
            assert told(page)["notice"] == "draining"
            assert until_closed(page)[1] == 1012
            until(lambda: len(set(workers(proxy)) & set(old)) == 1)
            new = until(lambda: set(workers(proxy)) - set(old))
            assert is_alive(stock)
            # The worker that only keeps a client does not count: one that dies is replaced.
            for worker in new:
                worker.kill()
            until(lambda: len(set(workers(proxy)) - set(old) - new) == 2)
            assert proxy.upgrade(proxy.token(WEB_1)).status == 101
            assert is_alive(stock)


class TestReload:
    @pytest.fixture
    def proxy(self, proxy_factory, certificate, tmp_path):
        for name in ("cert.pem", "key.pem"):
            (tmp_path / name).write_bytes((certificate / name).read_bytes())
        return proxy_factory(
            *("--certfile", str(tmp_path / "cert.pem"), "--keyfile", str(tmp_path / "key.pem")),
            tls=True,
        )

    @pytest.mark.parametrize("what", ["key", "ca_file", "option", "missing"])
    def test_what_cannot_be_used_changes_nothing_and_one_line_says_so(self, proxy, tmp_path, what):
        before = workers(proxy)
        config = proxy.directory / "mksfilter.conf"
        if what == "key":
            command = ["openssl", "genrsa", "-out", str(tmp_path / "key.pem"), "2048"]
            subprocess.run(command, check=True, capture_output=True)
            words = "key.pem"
        elif what == "missing":
            (tmp_path / "cert.pem").unlink()
            words = "cert.pem"
        elif what == "ca_file":
            lines = config.read_text().splitlines()
            lines = [line for line in lines if not line.startswith(("thumbprint", "insecure"))]
            config.write_text("\n".join([*lines, f"ca_file = {tmp_path}/gone.pem", ""]))
            words = "gone.pem"
        else:
            config.write_text(config.read_text() + "timeout = soon\n")
            words = "timeout"
        proxy.process.send_signal(signal.SIGHUP)
        line = proxy.wait_for_log("event=configuration-not-reloaded", timeout=60)
        assert words in line
        assert "kept=" in line
        assert workers(proxy) == before
        # Not even a worker that has to be replaced looks at what is there now, but for CAs.
        before[0].kill()
        until(lambda: workers(proxy) not in ([], before))
        with proxy.viewer(
            proxy.token(WEB_1), ssl_context=ssl._create_unverified_context()
        ) as viewer:
            assert viewer.name == "web-1"
        assert "Traceback" not in proxy.log()

    def test_a_worker_that_cannot_start_any_more_leaves_nobody_waiting_and_tries_again(
        self, proxy_factory
    ):
        proxy = proxy_factory()
        unreadable = proxy.directory / "keys" / "revocations"
        unreadable.touch(0o600)
        unreadable.write_text("not a signed list")
        workers(proxy)[0].kill()
        until(lambda: _status_of(proxy) == 503)
        unreadable.unlink()
        until(lambda: _status_of(proxy) == 200)
        assert proxy.process.poll() is None
        assert "Traceback" not in proxy.log()


def _status_of(proxy):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return proxy.get("/healthz").status


class TestKilled:
    def test_the_sessions_of_a_killed_worker_have_an_end_in_every_record(
        self, proxy_factory, tmp_path
    ):
        audit = tmp_path / "audit.log"
        proxy = proxy_factory(audit_file=audit)
        with stock_client(proxy) as stock:
            opened = proxy.wait_for_log("event=session-opened")
            workers(proxy)[0].kill()
            ended = proxy.wait_for_log("event=session-ended")
            until_closed(stock)
        for field in ("session", "connection", "request", "instance"):
            assert value(opened, field) == value(ended, field)
        assert value(ended, "reason") == "worker-lost"
        # The worker that takes its place records what the dead one cannot.
        until(lambda: '"action":"ended"' in audit.read_text().replace(" ", ""))
        event = json.loads(audit.read_text().splitlines()[-1])
        assert (event["action"], event["reason"]) == ("ended", "worker-lost")
        assert event["connection"] == value(opened, "connection")
        proxy.wait_for_metric("mksfilter_sessions_ended_total", 1, reason="worker-lost")
        proxy.wait_for_metric("mksfilter_sessions_active", 0)
        assert "Traceback" not in proxy.log()

    def test_workers_without_a_master_move_their_pages_and_end(self, proxy_factory):
        proxy = proxy_factory("--graceful-timeout", "1")
        alone = workers(proxy)
        with open_page(proxy, proxy.token(WEB_1)) as page, stock_client(proxy) as stock:
            told(page)
            proxy.process.kill()
            assert told(page)["notice"] == "draining"
            assert until_closed(page)[1] == until_closed(stock)[1] == 1012
        psutil.wait_procs(alone, 10)
        assert not any(each.is_running() for each in alone)
        assert proxy.log().count("event=session-ended") == 2
        assert "Traceback" not in proxy.log()

    def test_their_addresses_are_free_for_the_next_master_at_once(self, proxy_factory):
        proxy = proxy_factory("--graceful-timeout", "30")
        with stock_client(proxy) as stock:
            proxy.process.kill()
            for port in (proxy.port, proxy.management):
                deadline = time.monotonic() + 10
                while True:
                    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                        break
                    assert time.monotonic() < deadline, f"port {port} is still taken"
            stock.send(b"RFB 003.008\n")  # its console goes on
            assert stock.recv(timeout=10)
            os.killpg(proxy.process.pid, signal.SIGKILL)

    def test_clients_that_leave_while_opening_are_lines_and_no_tracebacks(self, proxy_factory):
        proxy = proxy_factory()
        for number in range(60):
            with contextlib.suppress(OSError), proxy.connect() as sock:
                sock.sendall(proxy.handshake(proxy.token(WEB_1)))
                if number % 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                time.sleep(number / 1000)
        opened = lambda: proxy.log().count("event=session-opened")  # noqa: E731
        ended = lambda: proxy.log().count("event=session-ended")  # noqa: E731
        proxy.wait_for_metric("mksfilter_sessions_active", 0)
        until(lambda: opened() == ended())
        assert "Traceback" not in proxy.log()


def value(line: str, field: str) -> str:
    return line.partition(f" {field}=")[2].split()[0]


def test_sigusr2_starts_a_second_master_that_takes_over(proxy_factory):
    proxy = proxy_factory("--graceful-timeout", "100")
    old = psutil.Process(proxy.process.pid)
    with stock_client(proxy) as stock:
        proxy.process.send_signal(signal.SIGUSR2)
        new = until(lambda: [each for each in old.children() if each.children()])[0]
        try:
            until(lambda: proxy.log().count("listening on") == 2)
            proxy.process.send_signal(signal.SIGTERM)
            assert proxy.upgrade(proxy.token(WEB_1)).status == 101
            assert is_alive(stock)
            stock.close()
            assert proxy.process.wait(20) == 0
            assert proxy.upgrade(proxy.token(WEB_1)).status == 101
        finally:
            new.send_signal(signal.SIGINT)
            psutil.wait_procs([new], 10)
