"""The demo's compute API shows each user what Nova would, as far as consoles need it."""

from __future__ import annotations

import json

import pytest

from mksfilter.exceptions import ConfigurationError
from mksfilter.simulator.compute import StaticAuth, app_factory, auth_factory
from tests.api import wsgi

WEB, DB, OTHER = (f"5f1c7e20-0000-4000-8000-00000000000{n}" for n in "124")


@pytest.fixture
def servers_file(tmp_path):
    file = tmp_path / "servers.json"
    file.write_text(
        json.dumps(
            [
                {"name": "web-1", "uuid": WEB, "project_id": "demo", "host": 0, "power": "on"},
                {"name": "db-1", "uuid": DB, "project_id": "demo", "host": None, "power": "off"},
                {"name": "other-1", "uuid": OTHER, "project_id": "other", "host": 1},
            ]
        )
    )
    return file


@pytest.fixture
def get(servers_file):
    app = auth_factory({})(app_factory({}, servers=str(servers_file)))

    def get(path, token="demo-member", method="GET", **headers):
        headers = {"X-Auth-Token": token, **headers} if token else headers
        return wsgi.call(app, wsgi.environ(method, path, headers, body=None))

    return get


def test_members_see_their_projects_servers(get):
    listed = get("/v2.1/servers").json["servers"]
    assert [server["name"] for server in listed] == ["web-1", "db-1"]
    detailed = get("/v2.1/servers/detail", "demo-other").json["servers"]
    assert [(server["name"], server["tenant_id"]) for server in detailed] == [("other-1", "other")]


def test_a_server_can_be_looked_for_by_name(get):
    assert [s["id"] for s in get("/v2.1/servers?name=db").json["servers"]] == [DB]


def test_a_server_is_shown_with_what_consoles_depend_on(get):
    web, db = (get(f"/v2.1/servers/{uuid}").json["server"] for uuid in (WEB, DB))
    assert (web["id"], web["status"], web["tenant_id"]) == (WEB, "ACTIVE", "demo")
    assert web["hostId"]
    assert (db["status"], db["hostId"]) == ("SHUTOFF", "")
    assert "OS-EXT-SRV-ATTR:host" not in web


def test_admins_see_every_server_and_its_host(get):
    assert len(get("/v2.1/servers", "demo-admin").json["servers"]) == 3
    shown = [get(f"/v2.1/servers/{uuid}", "demo-admin").json["server"] for uuid in (WEB, DB)]
    assert [server["OS-EXT-SRV-ATTR:host"] for server in shown] == ["0", None]


def test_servers_of_others_do_not_exist(get):
    answered = get(f"/v2.1/servers/{OTHER}")
    assert answered.code == 404
    assert answered.json["itemNotFound"]["message"] == f"Instance {OTHER} could not be found."


@pytest.mark.parametrize("path", ["/v2.1/demo/servers", "/v2/servers", "/v2/demo/servers"])
def test_the_project_may_be_in_the_path(get, path):
    assert len(get(path).json["servers"]) == 2


@pytest.mark.parametrize(
    ("path", "method"),
    [("/v2.1/other/servers", "GET"), ("/v2.1/flavors", "GET"), ("/v2.1/servers", "POST")],
)
def test_nothing_else_exists(get, path, method):
    assert get(path, method=method).code == 404


def test_clients_find_the_microversions(get):
    assert get("/").json["versions"][0]["version"] == "2.104"
    assert get("/v2.1/").json["version"]["min_version"] == "2.1"


@pytest.mark.parametrize("token", [None, "", "demo", "demo-member "])
def test_callers_without_a_token_are_refused(get, token):
    assert get("/v2.1/servers", token).code == 401


def test_identity_headers_of_the_callers_own_are_thrown_away(get):
    forged = {"X-Roles": "admin", "X-Project-Id": "other", "X-Identity-Status": "Confirmed"}
    assert len(get("/v2.1/servers", **forged).json["servers"]) == 2
    assert get("/v2.1/servers", None, **forged).code == 401
    seen = []

    def app(environ, start_response):
        seen.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    forged = {"OpenStack-System-Scope": "all", "X-Service-Roles": "admin", "X-Role": "admin"}
    headers = {"X-Auth-Token": "demo-reader", **forged}
    wsgi.call(StaticAuth(app), wsgi.environ("GET", "/", headers, body=None))
    assert not {"HTTP_OPENSTACK_SYSTEM_SCOPE", "HTTP_X_SERVICE_ROLES", "HTTP_X_ROLE"} & set(seen[0])
    assert seen[0]["HTTP_X_ROLES"] == "reader"


def test_a_changed_file_is_seen(get, servers_file):
    servers_file.write_text("[]")
    assert get("/v2.1/servers").json == {"servers": []}


@pytest.mark.parametrize("text", [None, "", "{", "{}x", "[7]", '[{"name": "x"}]'])
def test_a_file_that_is_not_there_or_wrong_is_refused_at_the_start(tmp_path, text):
    file = tmp_path / "servers.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"servers.*servers\.json"):
        app_factory({"servers": str(file)})


def test_no_file_at_all_is_refused_at_the_start():
    with pytest.raises(ConfigurationError, match="servers is not set"):
        app_factory({})
