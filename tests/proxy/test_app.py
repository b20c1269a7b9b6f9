"""The routes, without a server around them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import weakref

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import ConfigurationError, KeyRepositoryError
from mksfilter.proxy.app import app_factory
from mksfilter.proxy.server.state import ServerState, constructed
from mksfilter.request import ConsoleRequest
from tests.support.proxy import configuration

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"


@pytest.fixture
def make(tmp_path):
    def make(**options):
        path = configuration(tmp_path, ticket_at="issue", **options)
        return app_factory({"config_file": str(path)})

    return make


class Response:
    def __init__(self, app, path: str, method: str = "GET", query: str = "", **environ: str):
        def start_response(status, headers):
            self.status = int(status.split()[0])
            self.headers = {name.lower(): value for name, value in headers}

        fields = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "console.example.com",
            "wsgi.url_scheme": "http",
            **environ,
        }
        self.body = b"".join(app(fields, start_response))


def test_a_page_whose_websocket_did_not_open_is_told_whether_its_link_is_good(make):
    """Browsers hide why: a network that lets no WebSocket through is not a link that is refused."""
    app = make(replay_cache="local")
    codec = TokenCodec(KeyRepository(app._settings.key_repository), app._settings.audience)
    issued = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60)
    own = {"HTTP_MKS_ORIGIN": "http://console.example.com"}

    def judge(token: str, **environ: str) -> Response:
        return Response(app, "/websockify", HTTP_MKS_TOKEN=token, **{**own, **environ})

    good = judge(issued.token)
    assert (good.status, good.body) == (204, b"")
    assert "content-length" not in good.headers
    foreign = judge(issued.token, HTTP_MKS_ORIGIN="https://evil.example.net")
    assert (foreign.status, foreign.headers["mks-reason"]) == (403, "origin-denied")
    resume = codec.renew(issued.claims, ttl=60, cnf="A" * 43)
    assert judge(resume).status == 204
    for bad in ("x", issued.token[:-4] + "AAAA"):
        refused = judge(bad)
        assert (refused.status, refused.body) == (403, b"")
        assert "mks-reason" not in refused.headers
    app._running().authorization.use_up(issued.claims)
    assert judge(issued.token).status == 403
    assert judge(resume).status == 204


@pytest.mark.page
def test_every_route(make):
    app = make()
    assert Response(app, "/").status == 200
    assert Response(app, "/healthz").body == b"ok\n"
    assert Response(app, "/static/console.css").status == 200
    assert Response(app, "/websockify").status == 426
    assert Response(app, "/anything-else").status == 404
    for path in ("/metrics", "/livez", "/readyz"):
        assert Response(app, path).status == 404, "it is for the management listener alone"


@pytest.mark.page
@pytest.mark.parametrize("path", ["/vnc_auto.html", "/vnc_lite.html", "/vnc.html"])
def test_the_page_is_also_where_links_for_novnc_point(make, path):
    app = make()
    page, other = Response(app, "/"), Response(app, path)
    assert (other.status, other.headers, other.body) == (200, page.headers, page.body)
    assert Response(app, path, query="token=mks1.bad").status == 403
    assert Response(app, path, query="path=websockify%3Ftoken%3Dmks1.bad").status == 403
    assert Response(app, path, HTTP_UPGRADE="websocket").status == 404


@pytest.mark.page
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_route_below_a_prefix_and_without_it(make, slash):
    app = make(webmks_proxy_base_url=f"https://console.example.com/cell1/mks{slash}")
    for prefix in ("", "/cell1/mks"):
        assert Response(app, f"{prefix}/").status == 200
        assert Response(app, f"{prefix}/vnc.html").status == 200
        assert Response(app, f"{prefix}/healthz").body == b"ok\n"
        assert Response(app, f"{prefix}/static/console.css").status == 200
        assert Response(app, f"{prefix}/websockify").status == 426
    page = Response(app, "/cell1/mks").body
    (script,) = re.findall(rb'src="/cell1/mks(/static/[0-9a-f]{16}/novnc/first\.js)"', page)
    for prefix in ("", "/cell1/mks"):
        answer = Response(app, prefix + script.decode())
        assert (answer.status, "immutable" in answer.headers["cache-control"]) == (200, True)
    assert Response(app, "/cell2/mks/").status == 404


@pytest.mark.page
def test_mounted_below_a_path_the_page_is_at_the_path_itself(make):
    answer = Response(make(), "", SCRIPT_NAME="/mks")
    assert answer.body.count(b'="/mks/static/') == 4


def test_a_worker_that_drains_is_out_of_service(make):
    app = make()
    server_state = ServerState([app])
    server_state.start()
    assert Response(app, "/healthz").status == 200
    server_state.drain(0)
    answer = Response(app, "/healthz")
    assert (answer.status, answer.body) == (503, b"draining\n")


def test_a_worker_finds_an_application_for_as_long_as_somebody_uses_it(make):
    app = make()
    assert app in constructed()
    found = weakref.ref(app)
    del app
    assert found() is None, "after a reload, an application that nobody can reach would be started"


@pytest.mark.parametrize("path", ["/", "/healthz", "/x", "/static/console.css", "/websockify"])
def test_other_methods_are_not_allowed(make, path):
    answer = Response(make(), path, "POST")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_options_is_a_health_check_as_haproxys_bare_one(make):
    app = make()
    server_state = ServerState([app])
    server_state.start()
    answer = Response(app, "/", "OPTIONS")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "0"
    server_state.drain(0)
    assert Response(app, "/", "OPTIONS").status == 503


def test_head_has_the_length_and_no_body(make):
    answer = Response(make(), "/", "HEAD")
    assert answer.body == b""
    assert int(answer.headers["content-length"]) > 100


def test_an_unchanged_file_is_not_sent_again(make):
    app = make()
    etag = Response(app, "/static/console.css").headers["etag"]
    answer = Response(app, "/static/console.css", HTTP_IF_NONE_MATCH=etag)
    assert (answer.status, answer.body) == (304, b"")
    assert "content-length" not in answer.headers


def test_an_upgrade_elsewhere_is_not_found(make):
    assert Response(make(), "/x", HTTP_UPGRADE="websocket").status == 404


def test_a_refused_upgrade_is_a_status_without_a_body_and_the_end_of_the_connection(make):
    answer = Response(make(), "/websockify", HTTP_UPGRADE="websocket")
    assert (answer.status, answer.body) == (400, b"")
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-length"] == "0"


def test_the_page_says_no_in_words_and_the_reason_is_in_the_log(make, caplog):
    caplog.set_level("INFO", logger="mksfilter")
    answer = Response(make(), "/", query="token=bad&title=x")
    assert answer.status == 403
    assert b"not valid or has expired" in answer.body
    assert "reason=token-malformed" in caplog.text


@pytest.mark.page
def test_a_good_token_gets_the_page(make, tmp_path):
    app = make()
    codec = TokenCodec(KeyRepository(str(tmp_path / "keys")), "tests")
    token = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token
    assert Response(app, "/", query=f"token={token}&title=web-1(uuid)").status == 200


def test_without_its_keys_the_node_says_so_and_not_that_the_token_is_bad(make, tmp_path, caplog):
    app = make()
    codec = TokenCodec(KeyRepository(str(tmp_path / "keys")), "tests")
    token = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token
    (tmp_path / "keys").rename(tmp_path / "gone")
    answer = Response(app, "/", query=f"token={token}")
    assert answer.status == 503
    assert b"cannot check your link at the moment" in answer.body
    assert b"not valid" not in answer.body
    assert str(tmp_path).encode() not in answer.body
    assert "reason=keys-unavailable" in caplog.text


class TestManagement:
    def test_metrics_are_for_the_networks_that_may_have_them(self, make):
        app = make(metrics_networks="10.0.0.0/8").manage
        answer = Response(app, "/metrics", REMOTE_ADDR="10.1.2.3")
        assert b"mksfilter_sessions_active" in answer.body
        assert Response(app, "/metrics", REMOTE_ADDR="192.0.2.1").status == 404

    def test_metrics_are_not_for_those_whose_requests_somebody_passes_on(self, make):
        app = make(trusted_proxies="127.0.0.0/8").manage
        assert Response(app, "/metrics", HTTP_X_FORWARDED_FOR="127.0.0.1").status == 404
        assert Response(app, "/metrics", HTTP_FORWARDED="for=127.0.0.1").status == 404

    def test_alive_is_who_answers(self, make):
        answer = Response(make().manage, "/livez")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert Response(make().manage, "/livez", "HEAD").body == b""

    @pytest.mark.page
    def test_ready_says_what_was_looked_at(self, make):
        answer = Response(make().manage, "/readyz")
        assert answer.status == 200
        assert json.loads(answer.body)["checks"] == dict.fromkeys(
            ("draining", "keys", "page", "room", "vcenters"), "ok"
        )

    def test_without_its_keys_the_node_is_not_ready_and_names_them(self, make, tmp_path):
        app = make()
        assert app.manage  # a worker has started
        Response(app, "/healthz")
        (tmp_path / "keys").rename(tmp_path / "gone")
        answer = Response(app.manage, "/readyz")
        assert answer.status == 503
        assert str(tmp_path / "keys") in json.loads(answer.body)["checks"]["keys"]
        assert Response(app.manage, "/livez").status == 200

    def test_a_node_that_drains_is_alive_and_not_ready(self, make):
        app = make()
        server_state = ServerState([app])
        server_state.start()
        server_state.drain(0)
        answer = Response(app.manage, "/readyz")
        assert answer.status == 503
        assert json.loads(answer.body)["checks"]["draining"] != "ok"
        assert Response(app.manage, "/livez").status == 200

    def test_a_file_takes_the_node_out(self, make, tmp_path):
        app = make(healthz_disable_file=tmp_path / "disable")
        (tmp_path / "disable").touch()
        assert Response(app.manage, "/readyz").status == 503
        assert Response(app, "/healthz").status == 503

    def test_nothing_else_is_there(self, make):
        app = make().manage
        for path in ("/", "/healthz", "/websockify", "/static/console.css"):
            assert Response(app, path).status == 404
        assert Response(app, "/readyz", "POST").status == 405

    def test_an_address_that_is_none_is_told_at_the_start(self, make):
        with pytest.raises(ConfigurationError, match="management_bind here: not of the form"):
            make(management_bind="here")


class TestConfiguration:
    def test_the_paste_section_wins_and_knows_its_words(self, make, tmp_path):
        path = configuration(tmp_path, ticket_at="issue")
        app = app_factory({}, config_file=str(path), metrics_networks="10.0.0.0/8")
        assert Response(app.manage, "/metrics").status == 404
        with pytest.raises(ConfigurationError, match="unknown option 'metrics_network'"):
            app_factory({}, config_file=str(path), metrics_network="10.0.0.0/8")

    def test_without_keys_it_does_not_start(self, make):
        with pytest.raises(KeyRepositoryError, match="nowhere"):
            make(key_repository="/nowhere")

    def test_a_proxy_header_that_nobody_may_send_is_a_mistake(self, make):
        with pytest.raises(ConfigurationError, match="trusted_proxies is empty"):
            make(proxy_protocol="true")

    def test_without_anybody_to_take_tickets_it_does_not_start(self, tmp_path):
        app = app_factory({"config_file": str(configuration(tmp_path))})
        with pytest.raises(ConfigurationError, match="vcenters is empty"):
            app.start(ServerState())


def test_loading_the_application_leaves_for_later_what_gevent_has_to_patch(tmp_path):
    """With ``preload_app`` it is loaded before the fork, unpatched."""
    path = configuration(tmp_path, ticket_at="issue")
    program = (
        "import sys; from mksfilter.proxy.app import app_factory; "
        f"app_factory({{'config_file': {str(path)!r}}}); "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('gevent', 'pyVmomi', 'pyVim', 'requests', 'urllib3', 'keystoneauth1', 'redis', "
        "'pymemcache', 'prometheus_client')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_proxy_in_a_dmz_never_imports_pyvmomi(tmp_path):
    path = configuration(tmp_path, ticket_at="issue")
    program = (
        "import sys; from mksfilter.proxy.app import app_factory; "
        "from mksfilter.proxy.server.state import ServerState; "
        f"app_factory({{'config_file': {str(path)!r}}}).start(ServerState()); "
        "print([m for m in sys.modules if m.startswith('pyV')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr
