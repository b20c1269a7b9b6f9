"""What has gone wrong in console proxies and in the libraries we use, and does not go wrong here.

One test per published fault, its id in the name; docs/ maps id to test.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import importlib.metadata
import json
import re
import subprocess
import sys
import time

import psutil
import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from websockets.exceptions import ConnectionClosed

from mksfilter.simulator.client import DB_1, OFF_1, OTHER_1, WEB_1
from tests.support.page_client import open_page, told, until_closed, view_page
from tests.support.proxy import configuration, parse_head, read_head, read_to_end

UNKNOWN = "5f1c7e20-0000-4000-8000-00000000dead"


def claims_in(token: str) -> dict:
    payload = token.split(".")[2]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def worker_of(proxy) -> psutil.Process:
    (worker,) = psutil.Process(proxy.process.pid).children()
    return worker


class TestWhoseConsole:
    def test_cve_2013_0335_a_token_dies_with_its_machine(self, proxy, vsphere):
        token = proxy.token(OTHER_1)
        vsphere.delete("other-1")
        answer = proxy.upgrade(token)
        assert (answer.status, answer.body) == (404, b"")
        assert "AcquireTicket" not in vsphere.calls()["calls"]

    def test_cve_2013_0335_even_when_its_console_was_open_a_moment_ago(self, proxy, vsphere):
        token = proxy.token(WEB_1)
        with proxy.viewer(token):
            vsphere.delete("web-1")
        assert proxy.upgrade(token).status == 404
        assert vsphere.connections("web-1", count=0) == []

    def test_cve_2013_0335_a_token_names_no_host_port_or_object(self, proxy):
        claims = claims_in(proxy.token(WEB_1, project_id="p", user_id="u", request_id="r"))
        assert set(claims) == {
            *("jti", "aud", "iid", "iat", "exp", "use", "mode", "pid", "uid", "rid")
        }

    def test_cve_2014_8750_parallel_sessions_show_their_own_machine(self, proxy, vsphere):
        def look(number: int) -> bool:
            instance, name = ((WEB_1, "web-1"), (DB_1, "db-1"))[number % 2]
            with proxy.viewer(proxy.token(instance)) as viewer:
                viewer.framebuffer()
                return viewer.name == name

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert all(pool.map(look, range(40)))

    def test_cve_2014_8750_the_machine_found_must_bear_the_uuid_asked_for(self, proxy, vsphere):
        vsphere.set_vm("web-1", reported_uuid=DB_1)
        assert proxy.upgrade(proxy.token(WEB_1)).status in (404, 502)
        assert vsphere.connections("web-1") == []

    def test_cve_2026_25199_a_machine_is_found_by_instance_uuid_and_nothing_else(
        self, proxy, vsphere
    ):
        machine = vsphere.vm("web-1")
        assert proxy.upgrade(proxy.token(UNKNOWN)).status == 404
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101
        lookups = {name for name in vsphere.calls()["calls"] if name.startswith("Find")}
        assert lookups <= {"FindByUuid", "FindAllByUuid"}
        # A machine's own BIOS UUID and name are settings that its owner can choose.
        with pytest.raises(ValueError, match="iid"):
            proxy.token(machine["name"])


class TestOrigin:
    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example.net",
            "null",
            "http://127.0.0.1.evil.net:{port}",
            "http://evil127.0.0.1:{port}",
            "https://127.0.0.1:{port}",
            "http://127.0.0.1:1",
            "http://127.0.0.1",
        ],
    )
    def test_cve_2015_0259_another_sites_origin_is_refused(self, proxy, vsphere, origin):
        headers = {"Origin": origin.format(port=proxy.port)}
        answer = proxy.upgrade(proxy.token(WEB_1), headers=headers)
        assert (answer.status, answer.body) == (403, b"")
        assert "AcquireTicket" not in vsphere.calls()["calls"]

    def test_cve_2015_0259_forwarded_headers_of_a_stranger_change_nothing(self, proxy):
        headers = {
            "Origin": "https://evil.example.net",
            "X-Forwarded-Host": "evil.example.net",
            "X-Forwarded-Proto": "https",
            "Forwarded": "host=evil.example.net;proto=https",
        }
        assert proxy.upgrade(proxy.token(WEB_1), headers=headers).status == 403

    def test_cve_2015_0259_our_own_page_and_programs_pass(self, proxy):
        own = {"Origin": f"http://127.0.0.1:{proxy.port}"}
        assert proxy.upgrade(proxy.token(WEB_1), headers=own).status == 101
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101

    def test_ossn_0101_hosts_of_requests_are_not_remembered(self, proxy_factory):
        proxy = proxy_factory(log_level="WARNING")
        token = proxy.token(WEB_1)
        assert proxy.upgrade(token).status == 101
        before = worker_of(proxy).memory_info().rss
        for number in range(1000):
            evil = f"evil{number}.example.net"
            headers = {"Host": evil, "Origin": f"https://{evil}"}
            assert proxy.upgrade(token, headers=headers).status == 403
        for number in range(1000):
            headers = {"Origin": f"https://evil{number}.example.net"}
            assert proxy.upgrade(token, headers=headers).status == 403
        assert worker_of(proxy).memory_info().rss - before < 8 << 20


class TestSecrets:
    def test_cve_2015_9543_no_secret_in_any_output(self, proxy_factory, vsphere):
        proxy = proxy_factory(
            "--access-log",
            "-",
            log_level="DEBUG",
            env={"GUNICORN_CMD_ARGS": "--log-level debug"},
        )
        tokens = [proxy.token(WEB_1, mode=mode) for mode in ("full", "view")]
        for token in tokens:
            proxy.get(f"/?token={token}", referer=f"{proxy.base_url}?token={token}")
            proxy.get(f"/{token}")
            proxy.get(f"/static/console.css?token={token}", cookie=f"token={token}")
            with view_page(proxy, token) as viewer:
                viewer.framebuffer()
            with open_page(proxy, token) as client:
                tokens.append(told(client)["resume"])
                client.send("a text frame is a violation")
                until_closed(client)
            proxy.exchange(proxy.handshake(token, headers={"Sec-WebSocket-Key": "x"}))
            proxy.upgrade(token, headers={"Authorization": f"Bearer {token}"})
            proxy.exchange(f"GET /?token={token} HTTP/3.0\r\n\r\n".encode())
            if len(tokens) > 4:
                break
        for fault in ("redirect", "bad-accept", "other-subprotocol", "reason", "huge"):
            vsphere.set_vm("web-1", hostile=fault)
            with contextlib.suppress(ConnectionClosed), open_page(proxy, tokens[0]) as client:
                client.send(b"RFB 003.008\n")
                for _ in range(5):  # one of them never stops
                    client.recv(timeout=5)
        vsphere.set_vm("web-1", hostile="")
        for faults in ({"refuse_tickets": True}, {"wrong_certificate": True}):
            vsphere.set_all("host", **faults)
            proxy.upgrade(tokens[0])
            vsphere.set_all("host", **dict.fromkeys(faults, False))
        assert proxy.stop() == 0
        log = proxy.log()
        assert "session-ended" in log
        assert "GET /?*** HTTP/1.1" in log, "a query is not logged at all"
        assert len(tokens) >= 4
        for token in tokens:
            for part in token.split(".")[2:]:
                assert part not in log
        assert vsphere.vcenter["password"] not in log
        # The simulator's tickets are sixteen hexadecimal digits.
        assert re.findall(r"(?<![\w-])[0-9a-f]{16}(?![\w-])", log) == []

    @pytest.mark.parametrize(
        "key",
        [
            "c2VjcmV0",  # short
            base64.urlsafe_b64encode(bytes(32)).decode(),
            base64.urlsafe_b64encode(b"changeme" * 4).decode(),
        ],
        ids=["short", "zeroes", "example"],
    )
    def test_cve_2013_2756_a_known_key_is_not_started_with(self, tmp_path, key):
        keys = tmp_path / "keys"
        keys.mkdir(0o700)
        (keys / "0").touch(0o600)
        (keys / "0").write_text(key)
        (keys / "1").touch(0o600)
        (keys / "1").write_text(key)
        path = configuration(tmp_path, key_repository=keys, ticket_at="issue")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mksfilter", "serve"),
                *("--bind", "127.0.0.1:0", "--config-file", path),
            ],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert key not in done.stderr

    def test_ossn_0044_no_cookie_is_ever_set(self, proxy):
        token = proxy.token(WEB_1)
        for path in (
            "/",
            f"/?token={token}",
            "/?token=bad",
            "/static/console.css",
            "/x",
            "/metrics",
            "/healthz",
        ):
            assert "set-cookie" not in proxy.get(path).headers
        assert "set-cookie" not in proxy.upgrade(token).headers


class TestRequests:
    @pytest.mark.parametrize(
        "target",
        [
            "//evil.example.net/%2F..",
            "//evil.example.net/%2f..",
            "///evil.example.net/%2F..",
            "//evil.example.net",
            "//",
            "///",
            "/%2f",
            "/%2f%2fevil.example.net",
            "/\\evil.example.net",
            "/%5cevil.example.net",
            "/..",
            "/../",
            "/.",
            "/static/..",
            "/static/../",
            "/static//",
            "/static",
            "/static/",
            "/static/novnc/",
            "/static/%2e%2e/app.py",
            "/static/..%2fapp.py",
            "/websockify/",
            "/healthz/",
            "/%00",
            "http://evil.example.net/",
            "evil",
            "*",
        ],
    )
    def test_cve_2021_3654_no_path_is_ever_redirected(self, proxy, target):
        for method in ("GET", "HEAD"):
            request = f"{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            answer = parse_head(
                proxy.exchange(request.encode()).split(b"\r\n\r\n")[0] + b"\r\n\r\n"
            )
            assert answer.status in (400, 404)
            assert "location" not in answer.headers

    def test_cve_2022_36436_nothing_reaches_the_console_before_the_token_is_verified(
        self, proxy, vsphere
    ):
        masked = b"\x82\x8c" + bytes(4) + b"RFB 003.008\n"
        for token, status in (("", 400), (proxy.token(WEB_1), 400)):
            answer = parse_head(proxy.exchange(proxy.handshake(token) + masked))
            assert answer.status == status
        assert vsphere.calls()["calls"].get("AcquireTicket", 0) == 0
        assert vsphere.connections("web-1") == []

    def test_cve_2022_36436_nor_while_the_console_is_being_dialled(self, proxy, vsphere):
        vsphere.set_vcenter(delay=0.5)
        with proxy.connect() as sock:
            sock.sendall(proxy.handshake(proxy.token(WEB_1)))
            time.sleep(0.3)
            sock.sendall(b"\x82\x8c" + bytes(4) + b"RFB 003.008\n")
            assert parse_head(read_head(sock)).status == 400

    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
                id="cve_2024_1135_te_and_cl",
            ),
            pytest.param(
                "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="cve_2023_41419_chunked"
            ),
            pytest.param(
                "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="cve_2024_6827_te_list"
            ),
            pytest.param("Transfer-Encoding: identity\r\n\r\n", id="te_identity"),
            pytest.param("Content-Length: 0x1\r\n\r\n", id="cl_hex"),
            pytest.param("Content-Length: 1, 1\r\n\r\nx", id="cl_list"),
        ],
    )
    def test_smuggling_a_request_behind_another_is_refused(self, proxy, lines):
        """CVE-2023-41419, CVE-2024-1135, CVE-2024-6827."""
        smuggled = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
        for method, status in (("GET", b" 400 "), ("POST", b" 405 ")):
            answer = proxy.exchange(f"{method} / HTTP/1.1\r\nHost: h\r\n{lines}{smuggled}".encode())
            assert answer.count(b"HTTP/1.1") == 1
            assert status in answer.split(b"\r\n")[0]

    @pytest.mark.parametrize(("name", "floor"), [("gevent", "23.9"), ("gunicorn", "22.0")])
    def test_cve_2023_41419_and_cve_2024_1135_the_fixed_releases_are_required(self, name, floor):
        (required,) = (
            line
            for line in importlib.metadata.requires("mksfilter") or ()
            if re.match(rf"{name}\b(?!-)", line)
        )
        assert "extra" in required
        assert "proxy" in required
        (lowest,) = Requirement(required).specifier
        assert lowest.operator == ">="
        assert Version(lowest.version) >= Version(floor)


class TestResources:
    def test_ossn_0008_the_session_after_the_last_is_refused_before_any_call(
        self, proxy_factory, vsphere
    ):
        proxy = proxy_factory(max_sessions=2)
        with proxy.viewer(proxy.token(WEB_1)), proxy.viewer(proxy.token(DB_1)):
            calls = vsphere.calls()["total"]
            assert proxy.upgrade(proxy.token(WEB_1)).status == 503
            with open_page(proxy, proxy.token(WEB_1)) as client:
                said, code = until_closed(client)
            assert [message["reason"] for message in said] == ["node-session-limit"]
            assert code == 1013
            assert vsphere.calls()["total"] == calls
        proxy.wait_for_metric("mksfilter_sessions_active", 0)
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101
        assert proxy.metric("mksfilter_refusals_total", reason="node-session-limit") == 2

    def test_ossn_0008_one_machine_and_one_user_have_limits_too(self, proxy_factory):
        proxy = proxy_factory(max_sessions_per_instance=1, max_sessions_per_user=1)
        with proxy.viewer(proxy.token(WEB_1, user_id="alice")):
            assert proxy.upgrade(proxy.token(WEB_1, user_id="bob")).status == 429
            assert proxy.upgrade(proxy.token(DB_1, user_id="alice")).status == 429
            assert proxy.upgrade(proxy.token(DB_1, user_id="bob")).status == 101

    def test_ossn_0008_one_address_has_a_rate(self, proxy_factory):
        proxy = proxy_factory(connection_rate="0.2")
        token = proxy.token(OFF_1)
        assert [proxy.upgrade(token).status for _ in range(4)] == [409, 409, 429, 429]

    def test_ossn_0008_a_place_is_given_back_whatever_happened(self, proxy_factory, vsphere):
        proxy = proxy_factory(max_sessions=1)
        for _ in range(3):
            assert proxy.upgrade(proxy.token(OFF_1)).status == 409
            assert proxy.upgrade(proxy.token(UNKNOWN)).status == 404
        with proxy.viewer(proxy.token(WEB_1)) as viewer:
            vsphere.drop("web-1")
            with pytest.raises(Exception):  # noqa: B017, PT011 - however it is told
                viewer.framebuffer()
        proxy.wait_for_metric("mksfilter_sessions_active", 0)
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101

    @pytest.mark.parametrize("mode", ["full", "view"])
    def test_launchpad_2155052_a_reason_of_four_gigabytes_is_not_kept(
        self, proxy_factory, vsphere, mode
    ):
        """What a client that reads it pays for is not the proxy's memory."""
        vsphere.set_vm("web-1", hostile="reason")
        proxy = proxy_factory()
        worker = worker_of(proxy)
        with proxy.connect() as sock:
            sock.sendall(proxy.handshake(proxy.token(WEB_1, mode=mode)))
            assert parse_head(read_head(sock)).status == 101
            before = worker.memory_info().rss
            sock.sendall(b"\x82\x8c" + bytes(4) + b"RFB 003.008\n")
            read = 0
            while read < 20 << 20:
                read += len(sock.recv(65536))
            time.sleep(0.5)  # the host goes on sending to a client that has stopped reading
            assert worker.memory_info().rss - before < 16 << 20

    @pytest.mark.parametrize("hostile", ["masked", "rsv", "huge", "long-control"])
    def test_launchpad_2155052_frames_no_server_may_send_end_the_session(
        self, proxy, vsphere, hostile
    ):
        vsphere.set_vm("web-1", hostile=hostile)
        with open_page(proxy, proxy.token(WEB_1)) as client:
            said, code = until_closed(client)
        assert said[-1]["reason"] == "upstream-protocol-error"
        assert code in (1002, 1011, 1014)

    def test_cve_2017_18635_nothing_from_outside_is_rendered(self, proxy):
        markup = "%3Cscript%3Ealert(1)%3C/script%3E"
        for path in (
            f"/?token={proxy.token(WEB_1)}&title={markup}",
            f"/?token={markup}&title={markup}",
            f"/{markup}",
        ):
            answer = proxy.get(path)
            assert b"alert(1)" not in answer.body
            assert "script-src 'self'" in answer.headers.get("content-security-policy", "") or (
                answer.headers["content-type"] == "text/plain"
            )

    def test_a_connection_that_never_finishes_its_request_is_closed(self, proxy_factory):
        proxy = proxy_factory(handshake_timeout="0.5")
        with proxy.connect() as silent, proxy.connect() as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX-")
            started = time.monotonic()
            assert read_to_end(silent) == b""
            assert read_to_end(slow) == b""
            assert time.monotonic() - started < 5
        assert proxy.metric("mksfilter_refusals_total", reason="request-timeout") == 2

    def test_a_request_head_without_end_is_cut_off(self, proxy):
        answer = proxy.exchange(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X-Y: z\r\n" * 20000)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert proxy.exchange(b"GET /" + b"a" * 100000).startswith(b"HTTP/1.1 414 ")
