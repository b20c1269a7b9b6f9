"""The filter answers console requests; everything else passes as if it were not there."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from paste.deploy import loadapp

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import ConfigurationError, KeyRepositoryError
from mksfilter.filter import MAX_PEEK, ConsoleFilter, filter_factory, is_console_request
from mksfilter.request import ConsoleRequest
from tests.api import wsgi

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
API_PASTE = Path(__file__).parents[1] / "etc" / "api-paste.ini"


class Untouchable(io.RawIOBase):
    """A body that nobody may read."""

    def read(self, *_):
        raise AssertionError("the body was read")


def passed_on(environ):
    """What the API gets and what it answers, with the filter in front."""
    got = []

    def api(environ, start_response):
        got.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"the API's answer"]

    def consoles(_environ, _start_response):
        raise AssertionError("taken for a console request")

    answered = []
    chunks = ConsoleFilter(api, consoles)(environ, lambda *said: answered.append(said))
    assert b"".join(chunks) == b"the API's answer"
    assert answered == [("200 OK", [("Content-Type", "text/plain")])]
    return got[0]


class TestOtherRequests:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("GET", f"/servers/{INSTANCE}/remote-consoles"),
            ("PUT", f"/servers/{INSTANCE}/remote-consoles"),
            ("OPTIONS", f"/servers/{INSTANCE}/remote-consoles"),
            ("post", f"/servers/{INSTANCE}/remote-consoles"),
            ("POST", "/servers"),
            ("POST", "/servers/remote-consoles"),
            ("POST", "/servers//remote-consoles"),
            ("POST", "/remote-consoles"),
            ("POST", "/console"),
            ("POST", "/action"),
            ("POST", f"/servers/{INSTANCE}/remote-consoles/"),
            ("POST", f"/servers/{INSTANCE}/remote-consoles%0A"),
            ("POST", f"/servers/{INSTANCE}/Remote-Consoles"),
            ("POST", f"/servers/{INSTANCE}/my-console"),
            ("POST", f"/servers/{INSTANCE}/ips/console"),
            ("POST", f"/flavors/{INSTANCE}/action"),
            ("POST", "/os-volumes_boot"),
        ],
    )
    def test_pass_with_their_body_untouched(self, method, path):
        environ = wsgi.environ(method, path)
        environ["wsgi.input"] = Untouchable()
        assert not is_console_request(environ)
        assert passed_on(environ) is environ

    def test_an_action_on_a_server_gets_its_body_byte_for_byte(self):
        body = b'{"reboot":\t{"type": "SOFT"}}\r\n'
        environ = passed_on(wsgi.environ("POST", f"/servers/{INSTANCE}/action", body=body))
        assert environ["wsgi.input"].read() == body
        assert environ["CONTENT_LENGTH"] == str(len(body))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{",
            b'["os-getMKSConsole"]',
            b'"os-getMKSConsole"',
            b'{"os-getVNCConsole": {"type": "os-getMKSConsole"}}',
            b'{"os-getMKSConsole": \xff}',
            b"\xff\xfeos-getMKSConsole",
        ],
    )
    def test_an_action_that_is_not_ours_is_the_apis_to_judge(self, body):
        environ = passed_on(wsgi.environ("POST", f"/servers/{INSTANCE}/action", body=body))
        assert environ["wsgi.input"].read() == body

    @pytest.mark.parametrize(
        "more",
        [
            {"CONTENT_LENGTH": str(MAX_PEEK + 1)},
            {"CONTENT_LENGTH": "-1"},
            {"CONTENT_LENGTH": "many"},
            {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"},
        ],
    )
    def test_an_action_that_is_large_or_of_unknown_length_is_not_read(self, more):
        environ = wsgi.environ("POST", f"/servers/{INSTANCE}/action", **more)
        environ["wsgi.input"] = Untouchable()
        passed_on(environ)

    def test_a_chunked_action_gets_its_body_byte_for_byte_however_long_it_is(self):
        for size in (10, MAX_PEEK, MAX_PEEK + 1, 5 * MAX_PEEK):
            body = b'{"reboot": "' + b"x" * size + b'"}'
            chunked = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
            environ = wsgi.environ(
                *("POST", f"/servers/{INSTANCE}/action"),
                body=body,
                **chunked,
                **{"wsgi.input_terminated": True},
            )
            got = passed_on(environ)
            assert got["wsgi.input"].read() == body
            assert got["HTTP_TRANSFER_ENCODING"] == "chunked"

    def test_an_action_whose_sender_stopped_half_way_arrives_half(self):
        environ = wsgi.environ("POST", f"/servers/{INSTANCE}/action", body=b'{"reb')
        environ["CONTENT_LENGTH"] = "30"
        assert passed_on(environ)["wsgi.input"].read() == b'{"reb'


class TestConsoleRequests:
    @pytest.mark.parametrize(
        "path",
        [
            f"/servers/{INSTANCE}/remote-consoles",
            f"/d0d0/servers/{INSTANCE}/remote-consoles",
            f"/v2.1/servers/{INSTANCE}/console",
            "/servers/web-1/remote-consoles",
        ],
    )
    def test_are_known_by_their_path(self, path):
        environ = wsgi.environ("POST", path)
        environ["wsgi.input"] = Untouchable()
        assert is_console_request(environ)

    def test_are_known_by_their_action(self):
        body = b'{"os-getMKSConsole": {"type": "webmks"}}'
        environ = wsgi.environ("POST", f"/servers/{INSTANCE}/action", body=body)
        assert is_console_request(environ)
        assert environ["wsgi.input"].read() == body

    def test_are_known_by_their_action_in_chunks_too_which_the_next_reader_gets_whole(self):
        body = b'{"os-getMKSConsole": {"type": "webmks"}}'
        environ = wsgi.environ(
            *("POST", f"/servers/{INSTANCE}/action"),
            body=body,
            CONTENT_LENGTH="",
            HTTP_TRANSFER_ENCODING="chunked",
            **{"wsgi.input_terminated": True},
        )
        assert is_console_request(environ)
        assert environ["wsgi.input"].read() == body
        assert environ["CONTENT_LENGTH"] == str(len(body))
        assert "HTTP_TRANSFER_ENCODING" not in environ

    def test_for_vnc_are_known_by_their_action_where_that_is_wanted(self):
        body = b'{"os-getVNCConsole": {"type": "novnc"}}'

        def environ():
            return wsgi.environ("POST", f"/servers/{INSTANCE}/action", body=body)

        assert not is_console_request(environ())
        assert is_console_request(environ(), ("os-getMKSConsole", "os-getVNCConsole"))

    def test_do_not_reach_the_api_directly(self):
        def api(_environ, _start_response):
            raise AssertionError("the API was asked")

        def consoles(_environ, start_response):
            start_response("200 OK", [])
            return [b"ours"]

        environ = wsgi.environ("POST", f"/servers/{INSTANCE}/remote-consoles")
        assert list(ConsoleFilter(api, consoles)(environ, lambda *_: None)) == [b"ours"]


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    KeyRepository(str(path)).setup()
    return path


@pytest.fixture
def local_conf(keys):
    return {
        "key_repository": str(keys),
        "webmks_proxy_base_url": "https://console.example.com/",
        "audience": "cloud-a",
    }


def api(_environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"server": {"id": INSTANCE, "tenant_id": "demo"}}).encode()]


def claims_in(url, keys, audience="cloud-a"):
    codec = TokenCodec(KeyRepository(str(keys)), audience)
    return codec.verify(parse_qs(urlsplit(url).query)["token"][-1])


def console_from(app):
    headers = {
        "OpenStack-API-Version": "compute 2.8",
        "X-Roles": "member",
        "X-Project-Id": "demo",
        "X-User-Id": "u1",
    }
    path = f"/v2.1/servers/{INSTANCE}/remote-consoles"
    return wsgi.call(app, wsgi.environ("POST", path, headers, **wsgi.CONFIRMED))


class TestPaste:
    def test_options_in_the_paste_section_are_enough(self, local_conf, keys):
        answered = console_from(filter_factory({}, **local_conf)(api))
        url = answered.json["remote_console"]["url"]
        assert url.startswith("https://console.example.com/?token=")
        assert claims_in(url, keys).uid == "u1"

    def test_options_in_a_configuration_file_are_enough(self, local_conf, tmp_path, keys):
        file = tmp_path / "mksfilter.conf"
        lines = [f"{name} = {value}\n" for name, value in local_conf.items()]
        file.write_text("[mksfilter]\n" + "".join(lines))
        for factory in (
            filter_factory({}, config_file=str(file)),
            filter_factory({"config_file": str(file)}),
        ):
            url = console_from(factory(api)).json["remote_console"]["url"]
            assert claims_in(url, keys)

    def test_the_paste_section_wins_over_the_file(self, local_conf, tmp_path, keys):
        file = tmp_path / "mksfilter.conf"
        file.write_text("[mksfilter]\naudience = from-the-file\ntoken_ttl = 77\n")
        app = filter_factory({}, config_file=str(file), **local_conf)(api)
        claims = claims_in(console_from(app).json["remote_console"]["url"], keys)
        assert (claims.aud, claims.exp - claims.iat) == ("cloud-a", 77)

    def test_the_policy_file_counts(self, local_conf, tmp_path):
        file = tmp_path / "policy.yaml"
        file.write_text('"os_compute_api:os-remote-consoles": "!"\n')
        app = filter_factory({}, policy_file=str(file), **local_conf)(api)
        assert console_from(app).code == 403

    def test_the_demos_pipeline_serves_its_users(self, local_conf, tmp_path, keys):
        conf = tmp_path / "mksfilter.conf"
        conf.write_text(
            "[mksfilter]\n" + "".join(f"{name} = {value}\n" for name, value in local_conf.items())
        )
        servers = tmp_path / "servers.json"
        servers.write_text(
            json.dumps([{"name": "web-1", "uuid": INSTANCE, "project_id": "demo", "host": 0}])
        )
        app = loadapp(
            f"config:{API_PASTE}#demo",
            global_conf={"config_file": str(conf), "servers": str(servers)},
        )
        got = {}
        for token in ("demo-member", "demo-admin", "demo-reader", "demo-other", "nonsense"):
            headers = {"X-Auth-Token": token, "OpenStack-API-Version": "compute 2.8"}
            path = f"/v2.1/servers/{INSTANCE}/remote-consoles"
            got[token] = wsgi.call(app, wsgi.environ("POST", path, headers)).code
        assert got == {
            "demo-member": 200,
            "demo-admin": 200,
            "demo-reader": 403,
            "demo-other": 404,
            "nonsense": 401,
        }


class TestRefusedAtTheStart:
    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"key_repository": "/nowhere/keys"}, r"/nowhere/keys.*keys setup"),
            ({"webmks_proxy_base_url": ""}, "webmks_proxy_base_url is not set"),
            ({"webmks_proxy_base_url": "console"}, "not a URL of the form"),
            ({"token_ttl": "soon"}, "token_ttl"),
            ({"token_ttl": "5"}, "token_ttl"),
            ({"tokenttl": "60"}, "unknown option 'tokenttl'"),
            ({"api": "magic"}, r"api = 'magic' is none of auto, nova, plain"),
            ({"config_file": "/nowhere.conf"}, r"/nowhere\.conf: no such file"),
            ({"policy_file": "/nowhere.yaml"}, r"/nowhere\.yaml"),
            ({"ticket_at": "issue"}, "needs vcenters"),
            ({"ticket_at": "later"}, "ticket_at"),
        ],
    )
    def test_in_one_line_that_names_the_thing(self, local_conf, wrong, said):
        with pytest.raises(ConfigurationError, match=said) as caught:
            filter_factory({}, **{**local_conf, **wrong})(api)
        assert "\n" not in str(caught.value)

    def test_nova_where_there_is_none(self, local_conf, monkeypatch):
        monkeypatch.setitem(sys.modules, "nova", None)
        monkeypatch.delitem(sys.modules, "mksfilter.api.nova", raising=False)
        with pytest.raises(ConfigurationError, match=r"cannot be used here.*api = plain"):
            filter_factory({}, api="nova", **local_conf)(api)

    @pytest.mark.parametrize("spoil", [shutil.rmtree, lambda keys: os.chmod(keys / "1", 0o644)])
    def test_not_for_its_keys_where_the_operator_says_so(self, local_conf, keys, spoil, caplog):
        spoil(keys)
        app = filter_factory({}, start_without_keys="true", **local_conf)(api)
        assert "event=keys-unusable" in caplog.text
        assert str(keys) in caplog.text

        refused = console_from(app)
        passed = wsgi.call(app, wsgi.environ("GET", "/servers", body=None))

        assert (refused.code, list(refused.json)) == (503, ["serviceUnavailable"])
        assert str(keys) not in refused.body.decode()
        assert passed.code == 200

    def test_and_keys_that_come_later_count(self, local_conf, keys, tmp_path, monkeypatch):
        monkeypatch.setattr("mksfilter.auth.keys.CHECK_INTERVAL", 0)
        keys.rename(tmp_path / "elsewhere")
        app = filter_factory({}, start_without_keys="true", **local_conf)(api)
        assert console_from(app).code == 503
        (tmp_path / "elsewhere").rename(keys)
        assert console_from(app).code == 200

    def test_a_key_that_others_can_read(self, local_conf, keys):
        os.chmod(keys / "1", 0o644)
        with pytest.raises(KeyRepositoryError, match="chmod 0600"):
            filter_factory({}, **local_conf)(api)


class Audit:
    """Of the shape of keystonemiddleware's: what it wraps is under a name of its own."""

    def __init__(self, app):
        self._application = app

    def __call__(self, environ, start_response):
        return self._application(environ, start_response)


def closure_over(app):
    return lambda environ, start_response: app(environ, start_response)


class TestNova:
    @pytest.fixture
    def loaded(self, monkeypatch):
        """This process has loaded Nova's API."""
        for name in ("nova", "nova.api", "nova.api.openstack"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))

    @pytest.fixture
    def nova(self, loaded, monkeypatch):
        """A fake mksfilter.api.nova, which imports Nova."""
        import mksfilter.api

        made = []

        def console_app(issuer, settings):
            made.append((issuer, settings))
            return lambda _environ, start_response: start_response("200 OK", []) or [b"nova's"]

        def load_settings(local_conf):
            from mksfilter import config

            return config.filter_settings(config.load(), local_conf)

        module = types.ModuleType("mksfilter.api.nova")
        module.console_app, module.load_settings, module.made = console_app, load_settings, made
        monkeypatch.setitem(sys.modules, "mksfilter.api.nova", module)
        monkeypatch.setattr(mksfilter.api, "nova", module, raising=False)
        return module

    @pytest.fixture
    def router(self):
        return type("APIRouterV21", (), {"__module__": "nova.api.openstack.compute.routes"})()

    def test_answers_in_its_own_process(self, nova, local_conf, router, caplog):
        filter_factory({}, **local_conf)(router)
        assert len(nova.made) == 1
        assert "filter-not-last" not in caplog.text

    @pytest.mark.parametrize("wrap", [Audit, closure_over])
    def test_answers_whatever_hides_its_application(self, nova, local_conf, router, wrap, caplog):
        caplog.set_level(logging.INFO)
        filter_factory({}, **local_conf)(wrap(router))
        assert len(nova.made) == 1
        assert "event=filter-ready api=nova" in caplog.text
        # What stands in between does not see console requests.
        assert "event=filter-not-last" in caplog.text

    @pytest.mark.parametrize("wrap", [Audit, closure_over])
    def test_that_cannot_be_used_is_no_reason_to_go_without_its_policy(
        self, loaded, local_conf, router, wrap, monkeypatch
    ):
        monkeypatch.delitem(sys.modules, "mksfilter.api.nova", raising=False)
        with pytest.raises(ConfigurationError, match="Nova's API cannot be used here") as caught:
            filter_factory({}, **local_conf)(wrap(router))
        assert "\n" not in str(caught.value)

    def test_is_left_alone_where_it_is_not(self, local_conf, caplog):
        caplog.set_level(logging.INFO)
        filter_factory({}, **local_conf)(api)
        assert "event=filter-ready api=plain" in caplog.text

    def test_plain_in_its_process_is_an_operators_word_that_the_log_repeats(
        self, nova, local_conf, router, caplog
    ):
        filter_factory({}, api="plain", **local_conf)(router)
        assert nova.made == []
        assert "event=nova-not-used" in caplog.text

    def test_gets_the_settings_and_an_issuer(self, nova, local_conf, keys, router):
        local_conf["view_role_policy"] = "cloud:watch"
        filter_factory({}, **local_conf)(router)
        ((issuer, settings),) = nova.made
        assert settings.view_role_policy == "cloud:watch"
        url = issuer.console_url(ConsoleRequest(INSTANCE, project_id="p", user_id="u", mode="full"))
        assert claims_in(url, keys).iid == INSTANCE


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )


@pytest.mark.parametrize("module", ["mksfilter.filter", "mksfilter.api.plain"])
def test_the_apis_process_imports_no_gevent_and_no_pyvmomi(module):
    run_python(
        f"import {module}, sys\n"
        "heavy = ('gevent', 'geventwebsocket', 'pyVmomi', 'vmware', 'mksfilter.proxy')\n"
        "assert not [m for m in sys.modules if m.startswith(heavy)]"
    )
