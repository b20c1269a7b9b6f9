"""``mksfilter serve`` and gunicorn with paste: from a configuration file alone."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.support.gunicorn import gunicorn
from tests.support.ports import free_port
from tests.support.proxy import configuration, fetch, start_proxy

ETC = Path(__file__).parents[2] / "etc"


PORT = ("--bind", "127.0.0.1:0")


def serve(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(sys.executable, "-m", "mksfilter", "serve"), *PORT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    *events, line = done.stderr.splitlines()
    assert [event for event in events if "[INFO]" not in event] == []
    assert line.startswith("mksfilter: ")
    assert done.stdout == ""
    return line


@pytest.fixture
def config(tmp_path):
    """A configuration that needs no vCenter."""
    return configuration(tmp_path, ticket_at="issue")


class TestBadInput:
    def test_a_busy_port_is_one_line_and_exit_code_1(self, config):
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            done = serve("--config-file", config, "--bind", f"127.0.0.1:{port}")
        assert done.returncode == 1
        assert f"127.0.0.1:{port}" in only_line(done)
        assert "already in use" in done.stderr

    @pytest.mark.parametrize("bind", ["6090", "127.0.0.1:", ":6090x", "127.0.0.1:99999"])
    def test_a_malformed_address_is_exit_code_2(self, config, bind):
        done = serve("--config-file", config, "--bind", bind)
        assert done.returncode == 2
        assert "HOST:PORT" in only_line(done)

    def test_a_missing_configuration_file(self, tmp_path):
        done = serve("--config-file", tmp_path / "none.conf")
        assert done.returncode == 2
        assert "none.conf" in only_line(done)

    @pytest.mark.page
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"key_repository": "/nonexistent/keys"}, "/nonexistent/keys"),
            ({"clock_skew": "many"}, "clock_skew"),
            ({"trusted_proxies": "10.0.0.1/8"}, "trusted_proxies"),
            ({"allowed_origins": "horizon"}, "allowed_origins"),
            ({"frame_ancestors": "*"}, "frame_ancestors"),
            ({"metrics_networks": "here"}, "metrics_networks"),
            ({"management_bind": "6091"}, "management_bind"),
            ({"allowed_networks": "there"}, "allowed_networks"),
            ({"tls_groups": "P-255"}, "tls_groups: P-255"),
            ({"replay_cache": "carrier-pigeon://x"}, "replay_cache"),
            ({"ticket_at": "connect"}, "vcenters"),
        ],
    )
    def test_a_broken_option_is_one_line_that_names_it(self, tmp_path, options, words):
        path = configuration(tmp_path, **{"ticket_at": "issue", **options})
        done = serve("--config-file", path)
        assert done.returncode == 2
        assert words in only_line(done)

    def test_a_vcenter_without_its_group(self, config):
        config.write_text(config.read_text().replace("vcenters = ", "vcenters = dc1"))
        done = serve("--config-file", config)
        assert done.returncode == 2
        assert "[vcenter.dc1]" in only_line(done)

    @pytest.mark.page
    def test_a_key_that_others_can_read(self, config, tmp_path):
        (tmp_path / "keys" / "1").chmod(0o644)
        done = serve("--config-file", config)
        assert done.returncode == 2
        assert "0600" in only_line(done)

    def test_a_certificate_that_is_none(self, config):
        done = serve("--config-file", config, "--certfile", config)
        assert done.returncode == 2
        assert "--certfile" in only_line(done)
        assert serve("--config-file", config, "--keyfile", config).returncode == 2
        assert serve("--config-file", config, "--certfile", "/nonexistent").returncode == 2

    @pytest.mark.page
    def test_a_management_address_that_cannot_be_had_is_one_line_and_exit_code_1(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as busy:
            bind = f"127.0.0.1:{busy.getsockname()[1]}"
            done = serve(
                "--config-file", configuration(tmp_path, ticket_at="issue", management_bind=bind)
            )
        assert done.returncode == 1
        assert f"management_bind {bind}" in only_line(done)

    def test_help_has_every_option(self):
        done = serve("--help")
        assert done.returncode == 0
        for option in ("--bind", "--workers", "--certfile", "--keyfile", "--config-file"):
            assert option in done.stdout


def test_it_says_where_it_listens_and_leaves_no_process_behind(config):
    with start_proxy(ticket_at="issue") as proxy:
        assert f"listening on {proxy.base_url.rstrip('/')}" in proxy.log()
        children = psutil.Process(proxy.process.pid).children()
        assert children
        assert proxy.stop() == 0
    assert not any(child.is_running() for child in children)


def test_a_worker_that_dies_is_replaced(config):
    with start_proxy(ticket_at="issue") as proxy:
        (worker,) = psutil.Process(proxy.process.pid).children()
        worker.kill()
        deadline = time.monotonic() + 15
        while not (new := psutil.Process(proxy.process.pid).children()) or new == [worker]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert proxy.get("/healthz").status == 200


def test_sighup_leaves_nothing_of_the_old_configuration():
    with start_proxy(
        ticket_at="issue", proxy_protocol="true", trusted_proxies="127.0.0.0/8"
    ) as proxy:
        assert proxy.exchange(b"GET /healthz HTTP/1.0\r\n\r\n") == b"", "no PROXY header"
        path = proxy.directory / "mksfilter.conf"
        path.write_text(path.read_text().replace("proxy_protocol = true", "proxy_protocol = false"))
        proxy.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 15
        while not proxy.exchange(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def paste_file(config: Path) -> Path:
    """The paste file as packagers ship it, for *config*."""
    text = (ETC / "mksproxy-paste.ini").read_text()
    path = config.parent / "mksproxy-paste.ini"
    path.write_text(text.replace("/etc/mksfilter/mksfilter.conf", str(config)))
    return path


@pytest.mark.page
@pytest.mark.parametrize("arguments", [[], ["--preload"], ["--workers", "2", "--preload"]])
def test_gunicorn_serves_it_with_paste(config, arguments):
    management = free_port()
    config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{management}"))
    with gunicorn(paste_file(config), *arguments) as (process, url):
        with urllib.request.urlopen(f"{url}/healthz", timeout=30) as answer:
            assert answer.read() == b"ok\n"
        assert b"mksfilter_sessions_active 0.0" in fetch(management, "/metrics").body
        assert fetch(management, "/readyz").status == 200
        process.terminate()
        assert process.wait(20) == 0


def test_a_broken_option_under_gunicorn_is_one_line_without_a_traceback(config):
    config.write_text(config.read_text() + "clock_skew = many\n")
    with gunicorn(paste_file(config)) as (process, _):
        output = process.communicate(timeout=30)[0]
        assert process.returncode != 0
    assert "option clock_skew" in output
    assert "Traceback" not in output


def test_the_paste_section_wins_over_the_file(config):
    paste = paste_file(config)
    paste.write_text(paste.read_text() + "frame_ancestors = https://horizon.example.com\n")
    from paste.deploy import loadapp

    app = loadapp(f"config:{paste}")
    headers: list[tuple[str, str]] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_HOST": "h"}
    list(app(environ, lambda status, given: headers.extend(given)))
    assert "https://horizon.example.com" in dict(headers)["Content-Security-Policy"]
