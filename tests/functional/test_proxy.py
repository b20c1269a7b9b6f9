"""The proxy as its users and its load balancer see it: real command, real gunicorn, simulated
vSphere."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import ssl
import time

import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mksfilter.simulator.client import DB_1, OFF_1, WEB_1
from tests.support.page_client import open_page, told, until_closed
from tests.support.proxy import parse_head, read_head


class TestSession:
    def test_a_token_leads_to_the_machines_pixels(self, proxy, vsphere):
        with proxy.viewer(proxy.token(WEB_1)) as viewer:
            assert viewer.name == "web-1"
            assert viewer.framebuffer().getextrema() != ((0, 0), (0, 0), (0, 0))
            assert len(vsphere.connections("web-1", count=1)) == 1
        assert vsphere.connections("web-1", count=0) == []

    def test_what_is_typed_arrives(self, proxy, vsphere):
        with proxy.viewer(proxy.token(DB_1)) as viewer:
            viewer.type("hello there\n")
            vsphere.screen("db-1", text="hello there")

    def test_a_client_without_control_channel_sees_no_text_frame(self, proxy):
        url = f"ws://127.0.0.1:{proxy.port}/?token={proxy.token(WEB_1)}"
        with connect(url, subprotocols=["binary"], proxy=None) as client:
            assert client.subprotocol == "binary"
            assert client.recv(timeout=10) == b"RFB 003.008\n"

    def test_a_page_is_greeted_and_can_come_back_with_its_resume_token(self, proxy):
        with open_page(proxy, proxy.token(WEB_1)) as client:
            assert client.subprotocol == "mks.v1"
            hello = told(client)
        assert (hello["type"], hello["mode"]) == ("hello", "full")
        assert abs(hello["expires"] - time.time() - 12 * 3600) < 60
        with open_page(proxy, hello["resume"]) as client:
            assert told(client)["resume"] != hello["resume"]

    def test_a_session_ends_when_its_machine_is_switched_off_and_the_page_is_told(
        self, proxy, vsphere
    ):
        with open_page(proxy, proxy.token(WEB_1)) as client:
            assert told(client)["type"] == "hello"
            vsphere.power_off("web-1")
            said, code = until_closed(client)
        assert [(each["reason"], each["retry"]) for each in said] == [
            ("upstream-lost", "automatic")
        ]
        assert code == 1011

    def test_a_session_has_an_end_that_is_announced(self, proxy):
        end = int(time.time()) + 5
        with open_page(proxy, proxy.token(WEB_1, session_end=end)) as client:
            hello, notice, *rest = until_closed(client)[0]
        assert hello["expires"] == end
        assert (notice["type"], notice["notice"]) == ("notice", "lifetime")
        assert notice["in"] <= 5
        assert [message["reason"] for message in rest] == ["lifetime-reached"]

    def test_more_sessions_than_there_are_descriptors_for_are_refused_in_order(self, proxy_factory):
        proxy = proxy_factory(descriptors=200, max_sessions_per_instance=0)
        told = proxy.wait_for_log("event=few-descriptors")
        room = int(re.search(r" room=(\d+) ", told)[1])
        with contextlib.ExitStack() as stack:
            for _ in range(room):
                stack.enter_context(open_page(proxy, proxy.token(WEB_1, ttl=600)))
            with pytest.raises(InvalidStatus) as refused, proxy.viewer(proxy.token(DB_1)):
                pass
            assert refused.value.response.status_code == 503
            assert proxy.get("/healthz").status == 200
            full = proxy.manage("/readyz")
            assert (full.status, json.loads(full.body)["checks"]["room"]) == (
                503,
                f"max_sessions ({room}) is reached",
            )
            assert proxy.manage("/livez").status == 200
        assert f"max_sessions ({room}) is reached" in proxy.log()
        assert "Traceback" not in proxy.log()

    def test_the_log_has_a_line_for_the_beginning_and_one_for_the_end(self, proxy):
        token = proxy.token(WEB_1, project_id="p1", user_id="u1", request_id="req-1", mode="view")
        jti = proxy.codec.verify(token).jti
        with proxy.viewer(token):
            pass
        ended = proxy.wait_for_log(f"jti={jti} instance={WEB_1} request=req-1 reason=")
        opened = next(
            line for line in proxy.log().splitlines() if "session-opened" in line and jti in line
        )
        for fact in (f"instance={WEB_1}", "project=p1", "user=u1", "request=req-1", "mode=view"):
            assert fact in opened
        assert "client=127.0.0.1" in opened
        assert "bytes_out=" in ended
        assert "seconds=" in ended


class TestRefusal:
    @pytest.mark.parametrize("path", ["/", "/websockify"])
    def test_a_machine_that_is_off_is_a_plain_status_for_most(self, proxy, path):
        answer = proxy.upgrade(proxy.token(OFF_1), path=path)
        assert (answer.status, answer.body) == (409, b"")
        assert answer.headers["connection"] == "close"

    def test_and_words_for_our_page(self, proxy):
        with open_page(proxy, proxy.token(OFF_1)) as client:
            said, code = until_closed(client)
        assert [message["reason"] for message in said] == ["powered-off"]
        assert "powered off" in said[0]["message"]
        assert code == 4409

    def test_a_question_is_told_before_the_words(self, proxy, vsphere):
        vsphere.set_vm(WEB_1, fault="InvalidState", question="Moved, or copied?")
        with open_page(proxy, proxy.token(WEB_1)) as client:
            (asked, ended), code = until_closed(client)
        assert asked == {"type": "notice", "notice": "question", "text": "Moved, or copied?"}
        assert (ended["reason"], ended["retry"], ended["after"]) == ("question-pending", "wait", 1)
        assert code == 4409

    def test_a_bad_token_has_no_words_for_anybody(self, proxy):
        with pytest.raises(InvalidStatus) as refused, open_page(proxy, proxy.token(WEB_1) + "A"):
            pass
        assert refused.value.response.status_code == 403

    def test_an_unreachable_vcenter_is_told_and_the_proxy_starts_all_the_same(
        self, proxy_factory, vsphere
    ):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            settings = vsphere.vcenter_settings(port=nobody.getsockname()[1], timeout=1)
            proxy = proxy_factory(vcenters=[settings])
            assert proxy.get("/healthz").status == 200
            with open_page(proxy, proxy.token(WEB_1)) as client:
                said, code = until_closed(client)
        assert [message["reason"] for message in said] == ["vcenter-unreachable"]
        assert code == 1014

    def test_a_refusal_is_counted_by_its_reason(self, proxy):
        before = proxy.metric("mksfilter_refusals_total", reason="powered-off")
        proxy.upgrade(proxy.token(OFF_1))
        assert proxy.metric("mksfilter_refusals_total", reason="powered-off") == before + 1


class TestPage:
    def test_a_good_token_shows_the_console_page(self, proxy):
        answer = proxy.get(f"/?token={proxy.token(WEB_1)}&title=web-1({WEB_1})")
        assert answer.status == 200
        assert b"noVNC" in answer.body

    def test_a_bad_token_shows_a_page_that_says_so(self, proxy):
        answer = proxy.get("/?token=mks1.x.y.z")
        assert answer.status == 403
        assert b"not valid or has expired" in answer.body
        assert answer.headers["content-type"].startswith("text/html")

    def test_no_token_shows_the_page_too_since_a_reload_has_its_own(self, proxy):
        assert proxy.get("/").status == 200

    def test_opening_the_page_does_not_use_up_a_once_only_token(self, proxy_factory):
        proxy = proxy_factory(replay_cache="local")
        token = proxy.token(WEB_1)
        for _ in range(2):
            assert proxy.get(f"/?token={token}").status == 200
        with proxy.viewer(token):
            assert proxy.upgrade(token).status == 403

    def test_head_is_get_without_a_body(self, proxy):
        answer = proxy.get("/", method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["content-length"]) > 0

    def test_the_page_and_its_files_come_over_one_connection(self, proxy):
        with proxy.connect() as sock:
            for path in (b"/", b"/static/console.css", b"/healthz"):
                sock.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
                head = parse_head(read_head(sock))
                assert head.status == 200
                left = int(head.headers["content-length"])
                while left:
                    left -= len(sock.recv(left))

    def test_requests_sent_in_one_go_are_answered_one_after_the_other(self, proxy):
        request = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
        last = b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        assert proxy.exchange(request * 3 + last).count(b"\r\n\r\nok\n") == 4

    def test_websockify_without_an_upgrade_says_what_it_wants(self, proxy):
        answer = proxy.get("/websockify")
        assert answer.status == 426
        assert answer.headers["sec-websocket-version"] == "13"


class TestOperation:
    def test_metrics_tell_of_a_session(self, proxy):
        opened = proxy.metric("mksfilter_sessions_opened_total", mode="full")
        with proxy.viewer(proxy.token(WEB_1)) as viewer:
            proxy.wait_for_metric("mksfilter_sessions_active", 1)
            viewer.framebuffer()
        proxy.wait_for_metric("mksfilter_sessions_active", 0)
        assert proxy.metric("mksfilter_sessions_opened_total", mode="full") == opened + 1
        assert proxy.metric("mksfilter_bytes_total", direction="out") > 100_000
        assert proxy.metric("mksfilter_vcenter_up", vcenter="vc1") == 1
        assert proxy.metric("mksfilter_first_byte_seconds_count", vcenter="vc1") >= 1
        ends = "mksfilter_certificate_expiry_timestamp_seconds"
        assert proxy.metric(ends, certificate="vcenter vc1") > time.time()

    def test_two_workers_tell_their_sum(self, proxy_factory):
        proxy = proxy_factory("--workers", "2")
        for _ in range(6):
            proxy.upgrade(proxy.token(WEB_1))
        proxy.wait_for_metric("mksfilter_sessions_opened_total", 6, mode="full")
        proxy.wait_for_metric("mksfilter_sessions_active", 0)

    def test_a_worker_that_dies_takes_its_gauges_along(self, proxy_factory):
        proxy = proxy_factory("--workers", "2")
        with proxy.viewer(proxy.token(WEB_1)):
            proxy.wait_for_metric("mksfilter_sessions_active", 1)
            for worker in psutil.Process(proxy.process.pid).children():
                worker.kill()
            proxy.wait_for_metric("mksfilter_sessions_active", 0)

    def test_metrics_and_probes_are_not_on_the_public_port(self, proxy):
        for path in ("/metrics", "/livez", "/readyz"):
            assert proxy.get(path).status == 404
            assert proxy.manage(path).status == 200
        assert proxy.manage("/").status == 404

    def test_metrics_are_for_the_networks_that_may_have_them(self, proxy_factory, proxy):
        assert proxy_factory(metrics_networks="192.0.2.0/24").manage("/metrics").status == 404
        assert proxy.manage("/metrics", x_forwarded_for="203.0.113.9").status == 404

    def test_a_file_takes_the_node_out_of_the_load_balancer(self, proxy_factory, tmp_path):
        file = tmp_path / "disable"
        proxy = proxy_factory(healthz_disable_file=file)
        assert proxy.get("/healthz").status == 200
        file.touch()
        assert proxy.get("/healthz").status == 503
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101

    def test_sigterm_tells_the_pages_and_ends_their_sessions_in_time(self, proxy_factory):
        proxy = proxy_factory("--graceful-timeout", "6")
        # In this order, or the idle one may still wait to be accepted when the signal comes.
        with proxy.connect() as idle, open_page(proxy, proxy.token(WEB_1)) as client:
            assert told(client)["type"] == "hello"
            started = time.monotonic()
            proxy.process.send_signal(signal.SIGTERM)
            assert told(client) == {"type": "notice", "notice": "draining", "in": 4}
            said, code = until_closed(client)
            assert [message["reason"] for message in said] == ["server-draining"]
            assert code == 1012
            assert idle.recv(1) == b""
        assert proxy.process.wait(10) == 0
        assert time.monotonic() - started < 8
        assert "reason=server-draining" in proxy.log()

    def test_sigint_ends_sessions_at_once_with_their_close_code(self, proxy_factory):
        proxy = proxy_factory("--graceful-timeout", "30")
        with open_page(proxy, proxy.token(WEB_1)) as client:
            told(client)
            proxy.process.send_signal(signal.SIGINT)
            _, code = until_closed(client)
        assert code == 1012
        assert proxy.process.wait(10) == 0

    def test_sighup_reads_the_configuration_again_and_keeps_the_old_one_if_it_is_broken(
        self, proxy_factory
    ):
        proxy = proxy_factory()
        path = proxy.directory / "mksfilter.conf"
        good = path.read_text()
        path.write_text(
            good.replace("[mksfilter]", "[mksfilter]\naudience_typo = x\nclock_skew = x")
        )
        proxy.process.send_signal(signal.SIGHUP)
        proxy.wait_for_log("event=configuration-not-reloaded")
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101
        path.write_text(good.replace("[mksfilter]", "[mksfilter]\nmetrics_networks = 192.0.2.0/24"))
        proxy.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 15
        while proxy.manage("/metrics").status != 404:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def test_silent_connections_lock_nobody_out(self, proxy_factory):
        """Each would hold one of gunicorn's 1000 places until its deadline."""
        proxy = proxy_factory(handshake_timeout=60)
        silent = [proxy.connect() for _ in range(1500)]
        try:
            with proxy.viewer(proxy.token(WEB_1)) as viewer:
                assert viewer.name == "web-1"
            assert proxy.manage("/readyz").status == 200
        finally:
            for sock in silent:
                sock.close()


class TestTLS:
    @pytest.fixture
    def proxy(self, proxy_factory, certificate):
        return proxy_factory(
            *("--certfile", str(certificate / "cert.pem")),
            *("--keyfile", str(certificate / "key.pem")),
            tls=True,
            hsts_max_age=3600,
        )

    @pytest.fixture
    def context(self, certificate):
        return ssl.create_default_context(cafile=certificate / "cert.pem")

    def test_a_session_over_tls(self, proxy, context):
        with proxy.viewer(proxy.token(WEB_1), ssl_context=context) as viewer:
            assert viewer.name == "web-1"
            viewer.framebuffer()

    def test_the_page_over_tls_says_that_it_wants_to_stay_there_where_the_operator_does(
        self, proxy, context
    ):
        with context.wrap_socket(proxy.connect(), server_hostname="127.0.0.1") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"Strict-Transport-Security" in read_head(sock)

    def test_plain_http_on_the_tls_port_is_cut_off(self, proxy):
        assert b"200" not in proxy.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    def test_our_pages_refusal_arrives_over_tls(self, proxy, context):
        with connect(
            f"wss://127.0.0.1:{proxy.port}/websockify",
            ssl=context,
            subprotocols=["mks.v1", f"mks.token.{proxy.token(OFF_1)}"],
            proxy=None,
        ) as client:
            said, code = until_closed(client)
        assert [message["reason"] for message in said] == ["powered-off"]
        assert code == 4409
