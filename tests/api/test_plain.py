"""A console without Nova: whom the API shows the server, and policy lets, gets one."""

from __future__ import annotations

import dataclasses
import json
import logging
import uuid
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from mksfilter.api.plain import PlainConsoles
from mksfilter.api.policy import ConsolePolicy
from mksfilter.audit.trail import NO_TRAIL
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import (
    ConfigurationError,
    InstancePoweredOff,
    KeyRepositoryError,
    VCenterUnreachable,
)
from mksfilter.filter import ConsoleFilter
from mksfilter.issuer import Issuer
from mksfilter.simulator.compute import User
from tests.api import wsgi
from tests.auth.keyring import Keyring, key
from tests.test_issuer import SETTINGS

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
MEMBER = User("u-member", "p1", "member,reader")
READER = User("u-reader", "p1", "reader")
ADMIN = User("u-admin", "p-admin", "admin,member,reader")

FORMS = {
    "remote-consoles": '{"remote_console": {"protocol": "mks", "type": "webmks"}}',
    "console": '{"protocol": "mks", "type": "webmks"}',
    "action": '{"os-getMKSConsole": {"type": "webmks"}}',
}


class Compute:
    """An API that answers every GET as told, and remembers what it was asked."""

    def __init__(self, **server):
        self.server = {"id": INSTANCE, "tenant_id": "p1", **server}
        self.asked = []
        self.closed = 0
        self.status = "200 OK"
        self.headers = [("Content-Type", "application/json")]
        self.body = None

    def __call__(self, environ, start_response):
        self.asked.append(dict(environ, body=environ["wsgi.input"].read()))
        start_response(self.status, list(self.headers))
        body = self.body
        yield json.dumps({"server": self.server}).encode() if body is None else body


class Failing:
    """An issuer whose every URL fails."""

    audit = NO_TRAIL

    def __init__(self, error):
        self.error = error

    def console_url(self, _request):
        raise self.error


@pytest.fixture
def codec():
    return TokenCodec(Keyring(key()), "cloud-a")


@pytest.fixture
def compute():
    return Compute()


@pytest.fixture
def ask(compute, codec):
    """Ask for a console; returns the answer."""

    def ask(
        form="remote-consoles",
        *,
        user=MEMBER,
        path=f"/v2.1/servers/{INSTANCE}",
        body=None,
        version="compute 2.8",
        issuer=None,
        policy=None,
        settings=SETTINGS,
        **more,
    ):
        consoles = PlainConsoles(
            compute, issuer or Issuer(codec, settings), policy or ConsolePolicy(), settings
        )
        app = ConsoleFilter(compute, consoles, also_answer=settings.also_answer)
        headers = {
            "Content-Type": "application/json",
            "OpenStack-API-Version": version,
            "X-Auth-Token": "t",
        }
        environ = wsgi.environ("POST", f"{path}/{form}", headers, body or FORMS[form], **more)
        return wsgi.call(wsgi.authenticated(app, t=user), environ)

    return ask


@pytest.fixture
def claims_in(codec):
    def claims_in(url):
        return codec.verify(parse_qs(urlsplit(url).query)["token"][-1])

    return claims_in


class TestForms:
    def test_remote_consoles(self, ask, claims_in):
        console = ask("remote-consoles").json["remote_console"]
        assert (console["protocol"], console["type"]) == ("mks", "webmks")
        assert claims_in(console["url"]).iid == INSTANCE

    def test_the_blueprints_console(self, ask, claims_in):
        console = ask("console", version="").json
        assert set(console) == {"protocol", "url"}
        assert claims_in(console["url"]).iid == INSTANCE

    def test_the_action_of_old_clients(self, ask, claims_in):
        console = ask("action", version="").json["console"]
        assert console["type"] == "webmks"
        assert claims_in(console["url"]).iid == INSTANCE

    @pytest.mark.parametrize(
        "path",
        [
            "/compute/v2.1",
            "/compute/v2.1/p1",
            "/cell1/compute/v2/p1",
            "/compute",
            "/compute/p1",
        ],
    )
    def test_are_found_below_a_prefix_that_the_server_has_not_split_off(self, ask, compute, path):
        assert ask(path=f"{path}/servers/{INSTANCE}").code == 200
        assert compute.asked[0]["PATH_INFO"] == f"{path}/servers/{INSTANCE}"

    def test_another_project_behind_such_a_prefix_is_seen(self, ask):
        answered = ask(path=f"/compute/v2.1/{'d0' * 16}/servers/{INSTANCE}")
        assert answered.code == 400
        assert "doesn't match Context's project_id 'p1'" in answered.body.decode()

    @pytest.mark.parametrize("prefix", ["", "/v2.1", "/v2.1/p1", "/v2/p1", "/compute/v2.1/p1"])
    def test_are_found_below_any_prefix_of_the_api(self, ask, compute, prefix):
        path = prefix.removeprefix("/compute")
        mount = prefix.removesuffix(path)
        assert ask(path=f"{path}/servers/{INSTANCE}", SCRIPT_NAME=mount).code == 200
        assert compute.asked[0]["SCRIPT_NAME"] + compute.asked[0]["PATH_INFO"] == (
            f"{prefix}/servers/{INSTANCE}"
        )

    @pytest.mark.parametrize(
        ("form", "body", "message"),
        [
            ("console", '{"protocol": "mks"}', "'type' is a required property"),
            ("console", "[]", "[] is not of type 'object'"),
            (
                "console",
                '{"protocol": "mks", "type": "novnc"}',
                "Invalid input for field/attribute type. Value: novnc. "
                "'novnc' is not one of ['webmks']",
            ),
            (
                "console",
                '{"protocol": "mks", "type": "webmks", "x": 1, "y": 2}',
                "Additional properties are not allowed ('x', 'y' were unexpected)",
            ),
            (
                "action",
                '{"os-getMKSConsole": null}',
                "Invalid input for field/attribute os-getMKSConsole. Value: None. "
                "None is not of type 'object'",
            ),
            (
                "action",
                '{"os-getMKSConsole": {"type": 7}}',
                "Invalid input for field/attribute type. Value: 7. 7 is not of type 'string'",
            ),
            (
                "action",
                '{"os-getMKSConsole": {"type": "webmks"}, "reboot": null}',
                "Additional properties are not allowed ('reboot' was unexpected)",
            ),
        ],
    )
    def test_refuse_what_is_not_their_body_in_novas_words(self, ask, compute, form, body, message):
        answered = ask(form, body=body)
        assert (answered.code, answered.json) == (
            400,
            {"badRequest": {"code": 400, "message": message}},
        )
        assert compute.asked == []

    def test_another_protocol_in_the_blueprints_form_is_the_apis_to_answer(self, ask, compute):
        body = b'{"protocol": "vnc",  "type": "novnc"}'
        ask("console", body=body)
        assert [asked["body"] for asked in compute.asked] == [body]

    def test_a_chunked_body_is_read_to_its_end(self, ask):
        chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        assert ask(CONTENT_LENGTH="", **chunked).code == 200
        long = FORMS["remote-consoles"] + " " * 120_000
        assert ask(body=long, CONTENT_LENGTH="", **chunked).code == 413

    def test_a_chunked_body_without_an_end_is_not_waited_for(self, ask):
        assert ask(CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked").code == 411

    @pytest.mark.parametrize("form", FORMS)
    def test_a_length_that_the_server_vouches_for_counts_beside_chunks(self, ask, form):
        # nginx with uwsgi_pass collects the body, and passes both headers on.
        assert ask(form, HTTP_TRANSFER_ENCODING="chunked", version="compute 2.8").code == 200

    def test_a_chunked_action_is_answered(self, ask):
        chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        assert ask("action", CONTENT_LENGTH="", **chunked).code == 200


class TestToken:
    def test_says_who_asked_and_by_which_request(self, ask, claims_in):
        answered = ask()
        claims = claims_in(answered.json["remote_console"]["url"])
        assert (claims.uid, claims.pid, claims.mode) == ("u-member", "p1", "full")
        assert claims.rid == dict(answered.headers)["x-openstack-request-id"]

    def test_holds_the_instances_project_not_the_callers(self, ask, claims_in, compute):
        compute.server["tenant_id"] = "p2"
        claims = claims_in(ask(user=ADMIN).json["remote_console"]["url"])
        assert (claims.uid, claims.pid) == ("u-admin", "p2")

    def test_is_for_the_instance_that_the_api_named(self, ask, claims_in, compute):
        compute.server["id"] = str(uuid.UUID(int=7))
        claims = claims_in(ask(path="/v2.1/servers/web-1").json["remote_console"]["url"])
        assert claims.iid == str(uuid.UUID(int=7))

    def test_names_a_request_that_no_other_filter_has_named(self, compute, codec, claims_in):
        consoles = PlainConsoles(compute, Issuer(codec, SETTINGS), ConsolePolicy(), SETTINGS)
        identity = {"X-User-Id": "u", "X-Project-Id": "p1", "X-Roles": "member"}
        headers = {"OpenStack-API-Version": "compute 2.8", **identity}
        path = f"/servers/{INSTANCE}/remote-consoles"
        answered = wsgi.call(consoles, wsgi.environ("POST", path, headers, **wsgi.CONFIRMED))
        named = dict(answered.headers)
        assert named["x-openstack-request-id"] == named["x-compute-request-id"]
        claims = claims_in(answered.json["remote_console"]["url"])
        assert claims.rid == named["x-openstack-request-id"]


class TestVisibility:
    def test_is_asked_of_the_api_with_the_callers_own_identity(self, ask, compute):
        ask(
            path=f"/v2.1/servers/{INSTANCE}",
            QUERY_STRING="x=1",
            HTTP_IF_NONE_MATCH='"etag"',
            **{"webob.adhoc_attrs": {"parsed": "earlier"}},
        )
        (asked,) = compute.asked
        assert (asked["REQUEST_METHOD"], asked["PATH_INFO"], asked["QUERY_STRING"]) == (
            "GET",
            f"/v2.1/servers/{INSTANCE}",
            "",
        )
        assert asked["HTTP_X_AUTH_TOKEN"] == "t"
        assert (asked["HTTP_X_USER_ID"], asked["HTTP_X_ROLES"]) == ("u-member", "member,reader")
        assert asked["HTTP_OPENSTACK_API_VERSION"] == "compute 2.8"
        assert (asked["body"], asked["CONTENT_LENGTH"]) == (b"", "0")
        assert not {"HTTP_IF_NONE_MATCH", "webob.adhoc_attrs"} & set(asked)
        assert not asked.get("CONTENT_TYPE")

    def test_is_asked_without_compression_whatever_the_caller_takes(self, ask, compute):
        assert ask(HTTP_ACCEPT_ENCODING="gzip, br").code == 200
        assert compute.asked[0]["HTTP_ACCEPT_ENCODING"] == "identity"

    def test_a_server_the_caller_does_not_see_does_not_exist(self, ask, compute):
        compute.status, compute.body = "404 Not Found", b"<html>no</html>"
        answered = ask()
        message = f"Instance {INSTANCE} could not be found."
        assert answered.json == {"itemNotFound": {"code": 404, "message": message}}

    def test_a_server_the_caller_may_not_look_at_has_no_console_for_them(self, ask, compute):
        compute.status, compute.body = "403 Forbidden", b"{}"
        answered = ask()
        assert (answered.code, list(answered.json)) == (403, ["forbidden"])

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            ("401 Unauthorized", [("WWW-Authenticate", "Keystone uri=x")]),
            ("429 Too Many Requests", [("Retry-After", "7")]),
            ("503 Service Unavailable", [("Retry-After", "60")]),
        ],
    )
    def test_any_other_refusal_of_the_api_is_given_back_as_it_is(
        self, ask, compute, status, headers
    ):
        compute.status, compute.headers, compute.body = status, [*headers], b'{"the": "apis own"}'
        compute.headers.append(("Content-Type", "application/json"))
        answered = ask()
        assert (answered.status, answered.body) == (status, b'{"the": "apis own"}')
        assert set(headers) <= set(answered.headers)

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            ("302 Found", b""),
            ("200 OK", b"not json"),
            ("200 OK", b"{}"),
            ("200 OK", b'{"server": {"id": "not-a-uuid", "tenant_id": "p1"}}'),
        ],
    )
    def test_an_api_that_answers_nonsense_is_an_error_without_detail(
        self, ask, compute, caplog, status, body
    ):
        compute.status, compute.body = status, body
        answered = ask()
        assert (answered.code, list(answered.json)) == (500, ["computeFault"])
        assert "Traceback" not in answered.body.decode()
        assert "event=unexpected-error request=" in caplog.text


class TestPolicy:
    def test_a_reader_gets_no_console(self, ask):
        message = "Policy doesn't allow os_compute_api:os-remote-consoles to be performed."
        assert ask(user=READER).json == {"forbidden": {"code": 403, "message": message}}

    def test_a_member_of_another_project_gets_none_even_when_the_api_shows_the_server(
        self, ask, compute
    ):
        compute.server["tenant_id"] = "p2"
        assert ask(user=MEMBER).code == 403

    def test_an_admin_gets_every_console(self, ask, compute):
        compute.server["tenant_id"] = "p2"
        assert ask(user=ADMIN).code == 200

    def test_a_system_scoped_admin_gets_none(self, compute, codec):
        consoles = PlainConsoles(compute, Issuer(codec, SETTINGS), ConsolePolicy(), SETTINGS)
        headers = {
            "OpenStack-API-Version": "compute 2.8",
            "X-Roles": "admin",
            "OpenStack-System-Scope": "all",
        }
        path = f"/servers/{INSTANCE}/remote-consoles"
        environ = wsgi.environ("POST", path, headers, **wsgi.CONFIRMED)
        assert wsgi.call(consoles, environ).code == 403

    def test_a_caller_without_roles_gets_none(self, ask):
        assert ask(user=User("u", "p1", "")).code == 403

    def test_a_viewer_gets_a_console_without_keyboard(self, ask, tmp_path, claims_in):
        file = tmp_path / "policy.yaml"
        file.write_text('"mksfilter:view-console": "role:reader and project_id:%(project_id)s"\n')
        policy = ConsolePolicy(str(file))
        answered = ask(user=READER, policy=policy)
        assert claims_in(answered.json["remote_console"]["url"]).mode == "view"
        answered = ask(user=MEMBER, policy=policy)
        assert claims_in(answered.json["remote_console"]["url"]).mode == "full"
        assert ask(user=User("u", "p2", "reader"), policy=policy).code == 403

    def test_the_operators_rules_take_the_place_of_the_defaults(self, ask, tmp_path):
        file = tmp_path / "policy.yaml"
        file.write_text('"os_compute_api:os-remote-consoles": "role:console"\n')
        policy = ConsolePolicy(str(file))
        assert ask(user=ADMIN, policy=policy).code == 403
        assert ask(user=User("u", "p9", "console"), policy=policy).code == 200

    def test_a_changed_policy_file_counts_from_the_next_request(self, ask, tmp_path):
        file = tmp_path / "policy.yaml"
        file.write_text('"os_compute_api:os-remote-consoles": "!"\n')
        policy = ConsolePolicy(str(file))
        assert ask(policy=policy).code == 403
        file.unlink()
        file.write_text('"os_compute_api:os-remote-consoles": "role:member"\n# changed\n')
        assert ask(policy=policy).code == 200

    def test_without_a_policy_file_no_request_looks_for_one(self, ask, monkeypatch):
        policy = ConsolePolicy()
        monkeypatch.setattr("os.stat", lambda *_: pytest.fail("the disk was asked"))
        assert policy.console_mode({"HTTP_X_ROLES": "admin"}, "p1") == "full"

    @pytest.mark.parametrize(
        "text", ["- a list\n", "{", '"os_compute_api:os-remote-consoles": 7\n']
    )
    def test_a_broken_policy_file_is_refused_at_the_start(self, tmp_path, text):
        file = tmp_path / "policy.yaml"
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=r"policy_file .*policy\.yaml") as caught:
            ConsolePolicy(str(file))
        assert "\n" not in str(caught.value)

    def test_a_missing_policy_file_is_refused_at_the_start(self, tmp_path):
        with pytest.raises(ConfigurationError, match="not there"):
            ConsolePolicy(str(tmp_path / "policy.yaml"))


class TestIdentity:
    HEADERS: ClassVar = {
        "OpenStack-API-Version": "compute 2.8",
        "X-Roles": "admin",
        "X-Project-Id": "p1",
        "X-User-Id": "forged",
        "X-Identity-Status": "Confirmed",
    }

    def answer(self, compute, codec, settings=SETTINGS, **more):
        consoles = PlainConsoles(compute, Issuer(codec, settings), ConsolePolicy(), settings)
        path = f"/servers/{INSTANCE}/remote-consoles"
        return wsgi.call(consoles, wsgi.environ("POST", path, self.HEADERS, **more))

    def test_headers_that_a_client_may_have_sent_are_not_believed(self, compute, codec, caplog):
        answered = self.answer(compute, codec)
        assert (answered.code, list(answered.json)) == (401, ["unauthorized"])
        assert "WWW-Authenticate" in dict(answered.headers)
        assert compute.asked == []
        assert "put the filter after authtoken" in caplog.text

    @pytest.mark.parametrize("name", ["HTTP_KEYSTONE_TOKEN_INFO", "HTTP_KEYSTONE.TOKEN_INFO"])
    def test_no_header_of_a_client_stands_for_keystones_middleware(self, compute, codec, name):
        assert self.answer(compute, codec, **{name: '{"token": {}}'}).code == 401

    def test_what_keystones_middleware_has_confirmed_is_believed(self, compute, codec):
        assert self.answer(compute, codec, **wsgi.CONFIRMED).code == 200

    def test_headers_are_believed_by_option_and_the_log_says_so(self, compute, codec, caplog):
        settings = dataclasses.replace(SETTINGS, identity="trusted-headers")
        assert self.answer(compute, codec, settings).code == 200
        assert "event=identity-trusted" in caplog.text

    def test_an_api_that_names_no_project_gives_nobody_a_console(self, ask, compute, caplog):
        del compute.server["tenant_id"]
        assert ask(user=MEMBER).code == 403
        assert ask(user=ADMIN).code == 403
        assert "event=project-unknown" in caplog.text


KVM = {"OS-EXT-SRV-ATTR:hypervisor_hostname": "kvm-7", "OS-EXT-SRV-ATTR:host": "kvm-7"}
VSPHERE = {
    "OS-EXT-SRV-ATTR:hypervisor_hostname": "domain-c26.9D51f082-58a4-4449-beed-6fd205a5726b",
    "OS-EXT-SRV-ATTR:host": "compute-vc1",
}
VNC = '{"remote_console": {"protocol": "vnc", "type": "novnc"}}'
VNC_ACTION = '{"os-getVNCConsole": {"type": "novnc"}}'
NOVNC = dataclasses.replace(SETTINGS, also_answer=("novnc",))


class TestNodes:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_console_of_another_drivers_instance_is_the_apis_to_answer(self, ask, compute, form):
        compute.server.update(KVM)
        ask(form, version="compute 2.8")
        assert [asked["REQUEST_METHOD"] for asked in compute.asked] == ["GET", "POST"]
        assert compute.asked[1]["body"] == FORMS[form].encode()

    def test_a_vmware_node_tells_its_vcenter(self, ask, compute, claims_in):
        compute.server.update(VSPHERE)
        claims = claims_in(ask().json["remote_console"]["url"])
        assert claims.vc == "9d51f082-58a4-4449-beed-6fd205a5726b"

    @pytest.mark.parametrize("hosts", [("kvm-7",), ("*",)])
    def test_hosts_can_be_listed(self, ask, compute, hosts):
        compute.server.update(KVM)
        assert ask(settings=dataclasses.replace(SETTINGS, vsphere_hosts=hosts)).code == 200
        assert len(compute.asked) == 1


class TestNovnc:
    def test_is_the_apis_to_answer_unless_told_otherwise(self, ask, compute):
        compute.server.update(VSPHERE)
        ask(body=VNC)
        assert [asked["body"] for asked in compute.asked] == [VNC.encode()]

    def test_gets_a_url_in_the_same_form(self, ask, compute, claims_in):
        compute.server.update(VSPHERE)
        console = ask(body=VNC, settings=NOVNC, version="compute 2.6").json["remote_console"]
        assert (console["protocol"], console["type"]) == ("vnc", "novnc")
        assert claims_in(console["url"]).iid == INSTANCE

    def test_gets_one_in_the_form_of_old_clients_too(self, ask, compute, claims_in):
        compute.server.update(VSPHERE)
        console = ask("action", body=VNC_ACTION, settings=NOVNC, version="").json["console"]
        assert console["type"] == "novnc"
        assert claims_in(console["url"]).iid == INSTANCE

    def test_is_refused_under_the_same_policy_and_states(self, ask, compute):
        compute.server.update(VSPHERE)
        assert ask(body=VNC, settings=NOVNC, user=READER).code == 403
        compute.server["OS-EXT-STS:task_state"] = "deleting"
        answered = ask(body=VNC, settings=NOVNC)
        assert answered.code == 409
        assert "Cannot 'get_vnc_console'" in answered.body.decode()

    @pytest.mark.parametrize("node", [KVM, {}], ids=["of another driver", "not told"])
    @pytest.mark.parametrize(
        ("form", "body", "version"),
        [("remote-consoles", VNC, "compute 2.8"), ("action", VNC_ACTION, "")],
    )
    def test_is_the_apis_to_answer_elsewhere(self, ask, compute, node, form, body, version):
        compute.server.update(node)
        ask(form, body=body, version=version, settings=NOVNC)
        assert compute.asked[-1]["REQUEST_METHOD"] == "POST"
        assert compute.asked[-1]["body"] == body.encode()

    @pytest.mark.parametrize(
        ("form", "body", "version"),
        [
            ("remote-consoles", VNC, "compute 2.5"),
            ("remote-consoles", VNC.replace("novnc", "xvpvnc"), "compute 2.8"),
            ("remote-consoles", VNC[:-1] + ', "x": 1}', "compute 2.8"),
            ("action", VNC_ACTION, "compute 2.6"),
            ("action", VNC_ACTION[:-1] + ', "reboot": null}', ""),
            ("console", '{"protocol": "vnc", "type": "novnc"}', ""),
        ],
    )
    def test_what_the_api_refuses_is_refused_in_its_words(self, ask, compute, form, body, version):
        compute.server.update(VSPHERE)
        ask(form, body=body, version=version, settings=NOVNC)
        assert [asked["body"] for asked in compute.asked] == [body.encode()]

    @pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "500 Oops"])
    def test_of_a_server_that_the_api_does_not_show_is_the_apis_to_refuse(
        self, ask, compute, status
    ):
        compute.status = status
        ask(body=VNC, settings=NOVNC)
        assert [asked["REQUEST_METHOD"] for asked in compute.asked] == ["GET", "POST"]


class TestState:
    @pytest.mark.parametrize("task", ["deleting", "migrating"])
    def test_a_server_on_its_way_has_no_console(self, ask, compute, task):
        compute.server["OS-EXT-STS:task_state"] = task
        answered = ask()
        assert (answered.code, list(answered.json)) == (409, ["conflictingRequest"])
        assert f"while it is in task_state {task}" in answered.json["conflictingRequest"]["message"]

    @pytest.mark.parametrize(
        "where",
        [{"OS-EXT-SRV-ATTR:host": None}, {"OS-EXT-SRV-ATTR:host": ""}, {"hostId": ""}],
    )
    def test_a_server_without_a_host_is_not_ready(self, ask, compute, where):
        compute.server.update(where)
        message = f"Instance {INSTANCE} is not ready"
        assert ask().json == {"conflictingRequest": {"code": 409, "message": message}}

    @pytest.mark.parametrize("task", [None, "rebooting", "powering-off"])
    def test_other_tasks_do_not_matter(self, ask, compute, task):
        compute.server.update({"OS-EXT-STS:task_state": task, "hostId": "abc"})
        assert ask().code == 200

    def test_is_not_told_to_whom_policy_refuses(self, ask, compute):
        compute.server["OS-EXT-STS:task_state"] = "deleting"
        assert ask(user=READER).code == 403


class TestOurOwnErrors:
    def test_a_lost_key_repository_is_a_fault_without_detail_and_a_line_in_the_log(
        self, ask, caplog
    ):
        lost = KeyRepositoryError("key repository /etc/mksfilter/keys: no such directory")
        answered = ask(issuer=Failing(lost))
        assert (answered.code, list(answered.json)) == (503, ["serviceUnavailable"])
        assert "/etc" not in answered.body.decode()
        assert "key repository /etc/mksfilter/keys: no such directory" in caplog.text

    def test_a_bug_is_a_fault_too_and_logged_with_its_traceback(self, ask, caplog):
        answered = ask(issuer=Failing(ZeroDivisionError("secret")))
        assert (answered.code, list(answered.json)) == (500, ["computeFault"])
        assert "secret" not in answered.body.decode()
        assert "ZeroDivisionError" in caplog.text

    @pytest.mark.parametrize(
        ("error", "status", "name"),
        [
            (InstancePoweredOff("vm-7 on esx-3"), 409, "conflictingRequest"),
            (VCenterUnreachable("vc.internal timed out"), 503, "serviceUnavailable"),
        ],
    )
    def test_a_ticket_that_cannot_be_had_is_said_in_public_words(
        self, ask, caplog, error, status, name
    ):
        answered = ask(issuer=Failing(error))
        assert (answered.code, answered.json) == (
            status,
            {name: {"code": status, "message": error.public}},
        )
        assert str(error) in caplog.text

    def test_refusals_are_logged_and_no_token_ever_is(self, ask, caplog):
        caplog.set_level(logging.DEBUG)
        ask(user=READER)
        assert f"event=console-refused instance={INSTANCE} user=u-reader" in caplog.text
        assert "status=403" in caplog.text
        url = ask().json["remote_console"]["url"]
        assert "mks1." not in caplog.text
        assert url.rpartition(".")[2] not in caplog.text
