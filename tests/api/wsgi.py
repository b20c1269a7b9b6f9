"""Requests without a server in between, and a pipeline to send them through."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from mksfilter.simulator.compute import StaticAuth, User

MKS = '{"remote_console": {"protocol": "mks", "type": "webmks"}}'

#: What keystonemiddleware leaves in the environ of a request whose token it has confirmed.
CONFIRMED = {"keystone.token_info": {"token": {}}}


@dataclasses.dataclass(frozen=True)
class Answered:
    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> int:
        return int(self.status.split()[0])


def environ(
    method: str = "POST",
    path: str = "/",
    headers: dict[str, str] | None = None,
    body: str | bytes | None = MKS,
    **more: Any,
) -> dict[str, Any]:
    """What a server makes of a request."""
    url = urlsplit(path)
    env: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(url.path),
        "QUERY_STRING": url.query,
    }
    setup_testing_defaults(env)
    if body is not None:
        raw = body.encode("latin-1") if isinstance(body, str) else body
        env["CONTENT_LENGTH"] = str(len(raw))
        env["wsgi.input"] = io.BytesIO(raw)
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        env[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    env.update(more)
    return env


def call(app: Any, env: dict[str, Any]) -> Answered:
    """Send a request as a server does that checks the WSGI rules (PEP 3333)."""
    said: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        said[:] = [status, headers]
        return lambda _data: None

    chunks = validator(app)(env, start_response)
    try:
        body = b"".join(chunks)
    finally:
        chunks.close()
    return Answered(said[0], said[1], body)


class Mounted:
    """What Nova's urlmap does: collapse slashes, move the version into SCRIPT_NAME."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, env: dict[str, Any], start_response: Any) -> Any:
        path = re.sub("/+", "/", env["PATH_INFO"])
        version, _, rest = path.lstrip("/").partition("/")
        env.update({"SCRIPT_NAME": f"/{version}", "PATH_INFO": f"/{rest}"})
        if version == "v2":
            # nova.api.openstack.compute's LegacyV2CompatibleWrapper
            env["openstack.legacy_v2"] = True
            for name in ("HTTP_OPENSTACK_API_VERSION", "HTTP_X_OPENSTACK_NOVA_API_VERSION"):
                env.pop(name, None)
        return self._app(env, start_response)


class Recorder:
    """An application that remembers what reached it and lets another answer."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.seen: list[tuple[str, str, bytes]] = []

    def __call__(self, env: dict[str, Any], start_response: Any) -> Any:
        body = env["wsgi.input"].read(int(env.get("CONTENT_LENGTH") or 0))
        path = env["SCRIPT_NAME"] + env["PATH_INFO"]
        self.seen.append((env["REQUEST_METHOD"], path, body))
        return self._app(env, start_response)


def authenticated(app: Any, **users: User) -> StaticAuth:
    """*app* behind authentication; each user's token is their name."""
    return StaticAuth(app, users)
