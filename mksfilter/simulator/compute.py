"""A small compute API for the demo and the tests: servers to look at, and who may see them.

Not Nova: it knows four fixed tokens and a file of servers. What it has of Nova is what
:mod:`mksfilter.api.plain` uses, the ``GET /servers/{id}`` and the identity headers that
keystone's middleware sets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import parse_qs

from mksfilter.api.faults import DEFAULT, MAXIMUM, NOT_FOUND, Answer, Fault, Version
from mksfilter.exceptions import ConfigurationError

__all__ = ["TOKENS", "ComputeAPI", "StaticAuth", "User", "app_factory", "auth_factory"]

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATH = re.compile(
    r"/v2(?:\.1)?(?:/(?!servers(?:/|\Z))(?P<project>[^/]+))?/servers(?:/(?P<server>[^/]+))?"
)
_ROOT = re.compile(r"(?:/v2(?:\.1)?)?/?")
# What keystone's middleware takes out of every request before it puts in its own.
_IDENTITY = re.compile(
    r"HTTP_(?:X_(?:IDENTITY|USER|PROJECT|TENANT|DOMAIN|ROLE|IS_ADMIN|SERVICE|AUTHENTICATED)"
    r"|OPENSTACK_SYSTEM_SCOPE).*"
)
_STATES = {
    "on": ("ACTIVE", "active", 1),
    "off": ("SHUTOFF", "stopped", 4),
    "suspended": ("SUSPENDED", "suspended", 7),
}


@dataclasses.dataclass(frozen=True)
class User:
    """Whom a token stands for."""

    name: str
    project: str
    roles: str

    @property
    def is_admin(self) -> bool:
        """Sees all projects."""
        return "admin" in self.roles.split(",")


#: The tokens are no secrets: the API that takes them is a demo.
TOKENS: Mapping[str, User] = {
    "demo-member": User("member", "demo", "member,reader"),
    "demo-reader": User("reader", "demo", "reader"),
    "demo-admin": User("admin", "admin", "admin,manager,member,reader"),
    "demo-other": User("other", "other", "member,reader"),
}


class _ServerIdentity(TypedDict):
    name: str
    uuid: str
    project_id: str


class _Server(_ServerIdentity, total=False):
    """One entry of the file of servers."""

    user_id: str
    host: str | None
    power: str
    task_state: str | None


class StaticAuth:
    """Takes the place of keystone's middleware, and of the one that names requests."""

    def __init__(self, app: WSGIApplication, tokens: Mapping[str, User] = TOKENS) -> None:
        self._app = app
        self._tokens = tokens

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Set the caller's headers, or answer 401."""
        request_id = f"req-{uuid.uuid4()}"

        def named(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: OptExcInfo | None = None,
            /,
        ) -> Callable[[bytes], object]:
            ids = [("x-openstack-request-id", request_id), ("x-compute-request-id", request_id)]
            return start_response(status, [*headers, *ids], exc_info)

        for name in [name for name in environ if _IDENTITY.fullmatch(name)]:
            del environ[name]
        environ["openstack.request_id"] = request_id
        user = self._tokens.get(environ.get("HTTP_X_AUTH_TOKEN", ""))
        if user is None:
            return _send(_unauthorized(), named)
        environ.update(
            {
                "HTTP_X_IDENTITY_STATUS": "Confirmed",
                "HTTP_X_USER_ID": user.name,
                "HTTP_X_USER_NAME": user.name,
                "HTTP_X_USER_DOMAIN_ID": "default",
                "HTTP_X_PROJECT_ID": user.project,
                "HTTP_X_PROJECT_NAME": user.project,
                "HTTP_X_PROJECT_DOMAIN_ID": "default",
                "HTTP_X_ROLES": user.roles,
                "keystone.token_info": {"token": _token(user)},
            }
        )
        return self._app(environ, named)


class ComputeAPI:
    """``GET /v2.1/servers``, ``/v2.1/servers/detail`` and ``/v2.1/servers/{id}``."""

    def __init__(self, servers_file: str) -> None:
        """
        :param servers_file: JSON, a list of objects with ``name``, ``uuid``, ``project_id``,
            ``host``, ``power`` (``on``, ``off``, ``suspended``) and ``task_state``; read at each
            request.
        :raises ConfigurationError: it is not there, or something else.
        """
        self._file = servers_file
        try:
            self._servers()
        except (OSError, ValueError, TypeError, KeyError) as exc:
            raise ConfigurationError(f"servers {servers_file}: {exc}") from exc

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        version: Version | None = None
        try:
            version = Version.asked_for(environ)
            answer = Answer.of(self._document(environ), version)
        except Fault as fault:
            answer = fault.answer(version)
        return _send(answer, start_response)

    def _document(self, environ: WSGIEnvironment) -> dict[str, object]:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise Fault(404, NOT_FOUND)
        if _ROOT.fullmatch(path):
            return _versions(environ, path)
        match = _PATH.fullmatch(path)
        if match is None or match["project"] not in (None, environ["HTTP_X_PROJECT_ID"]):
            raise Fault(404, NOT_FOUND)
        is_admin = "admin" in environ["HTTP_X_ROLES"].split(",")
        seen = [
            server
            for server in self._servers()
            if is_admin or server["project_id"] == environ["HTTP_X_PROJECT_ID"]
        ]
        base = f"{_base_url(environ)}/v2.1/servers"
        if match["server"] in (None, "detail"):
            wanted = parse_qs(environ.get("QUERY_STRING", "")).get("name", [""])[-1]
            chosen = [server for server in seen if wanted in server["name"]]
            if match["server"]:
                return {"servers": [_detail(server, base, is_admin) for server in chosen]}
            return {"servers": [_summary(server, base) for server in chosen]}
        for server in seen:
            if server["uuid"] == match["server"]:
                return {"server": _detail(server, base, is_admin)}
        raise Fault(404, f"Instance {match['server']} could not be found.")

    def _servers(self) -> list[_Server]:
        with open(self._file, encoding="utf-8") as file:
            servers: list[_Server] = json.load(file)
        for server in servers:
            _ = (server["name"], server["uuid"], server["project_id"])
        return servers


def auth_factory(
    _global_conf: Mapping[str, str], **_local_conf: str
) -> Callable[[WSGIApplication], WSGIApplication]:
    """Paste's filter factory of :class:`StaticAuth`."""
    return StaticAuth


def app_factory(global_conf: Mapping[str, str], **local_conf: str) -> ComputeAPI:
    """Paste's app factory of :class:`ComputeAPI`; option ``servers``.

    :raises ConfigurationError: ``servers`` is not given, or not such a file.
    """
    servers = local_conf.get("servers") or global_conf.get("servers", "")
    if not servers:
        raise ConfigurationError(
            "paste section: servers is not set; write the path of a JSON file of servers"
        )
    return ComputeAPI(servers)


def _token(user: User) -> dict[str, object]:
    """What of a Keystone token says who asks.

    https://docs.openstack.org/api-ref/identity/v3/#validate-and-show-information-for-token
    """
    domain = {"id": "default", "name": "Default"}
    return {
        "methods": ["password"],
        "user": {"id": user.name, "name": user.name, "domain": domain},
        "project": {"id": user.project, "name": user.project, "domain": domain},
        "roles": [{"id": role, "name": role} for role in user.roles.split(",")],
    }


def _summary(server: _Server, base: str) -> dict[str, object]:
    link = {"rel": "self", "href": f"{base}/{server['uuid']}"}
    return {"id": server["uuid"], "name": server["name"], "links": [link]}


def _detail(server: _Server, base: str, is_admin: bool) -> dict[str, object]:
    host = server.get("host", "?")
    has_host = host not in (None, "")
    status, vm_state, power_state = _STATES.get(server.get("power", "on"), _STATES["on"])
    detail: dict[str, object] = {
        **_summary(server, base),
        "status": status,
        "tenant_id": server["project_id"],
        "user_id": server.get("user_id", "member"),
        # Nova hashes the host per project, so that users can compare and not read it.
        "hostId": hashlib.sha224(f"{server['project_id']}{host}".encode()).hexdigest()
        if has_host
        else "",
        "addresses": {},
        "metadata": {},
        "OS-EXT-STS:task_state": server.get("task_state"),
        "OS-EXT-STS:vm_state": vm_state,
        "OS-EXT-STS:power_state": power_state,
    }
    if is_admin:
        detail["OS-EXT-SRV-ATTR:host"] = str(host) if has_host else None
    return detail


def _versions(environ: WSGIEnvironment, path: str) -> dict[str, object]:
    version = {
        "id": "v2.1",
        "status": "CURRENT",
        "version": str(MAXIMUM),
        "min_version": str(DEFAULT),
        "links": [{"rel": "self", "href": f"{_base_url(environ)}/v2.1/"}],
    }
    return {"version": version} if path.startswith("/v") else {"versions": [version]}


def _base_url(environ: WSGIEnvironment) -> str:
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return f"{environ['wsgi.url_scheme']}://{host}"


def _unauthorized() -> Answer:
    error = {
        "code": 401,
        "title": "Unauthorized",
        "message": "The request you have made requires authentication.",
    }
    body = json.dumps({"error": error}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Answer("401 Unauthorized", [*headers, ("WWW-Authenticate", "Static")], body)


def _send(answer: Answer, start_response: StartResponse) -> list[bytes]:
    start_response(answer.status, answer.headers)
    return [answer.body]
