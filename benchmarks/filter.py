"""What the filter costs an API: per request that is not ours, and per console request."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.clock import microseconds
from mksfilter.auth.keys import KeyRepository
from mksfilter.filter import filter_factory

__all__ = ["run"]

#: Microseconds that a request may cost more than without the filter.
LIMIT = 5.0

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
_REBOOT = b'{"reboot": {"type": "SOFT"}}'
_MKS = b'{"remote_console": {"protocol": "mks", "type": "webmks"}}'
_SERVER = json.dumps({"server": {"id": INSTANCE, "tenant_id": "p1"}}).encode()

_OTHERS = {
    "GET /servers/detail": ("GET", "/servers/detail", b""),
    "POST /servers": ("POST", "/servers", b'{"server": {}}'),
    "POST .../action, a reboot": ("POST", f"/servers/{INSTANCE}/action", _REBOOT),
}


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows ``measure``, ``subject``, ``value``, ``unit`` and, where one is promised, ``limit``."""
    with tempfile.TemporaryDirectory() as directory:
        keys = str(Path(directory) / "keys")
        KeyRepository(keys).setup()
        filtered = filter_factory(
            {}, api="plain", key_repository=keys, webmks_proxy_base_url="https://c.example.com/"
        )(_api)
        calls: dict[str, Callable[[], object]] = {
            "console": _request(filtered, "POST", _PATH, _MKS)
        }
        for name, (method, path, body) in _OTHERS.items():
            calls[f"without {name}"] = _request(_api, method, path, body)
            calls[f"with {name}"] = _request(filtered, method, path, body)
        took = microseconds(calls, rounds=50 if quick else 200, repeats=100)
    rows = [
        {
            "measure": f"pass {name} through",
            "subject": "mksfilter",
            "value": round(max(took[f"with {name}"] - took[f"without {name}"], 0.0), 2),
            "unit": "µs more",
            "limit": LIMIT,
        }
        for name in _OTHERS
    ]
    rows.append(
        {
            "measure": "answer a console request, plain mode",
            "subject": "mksfilter",
            "value": round(took["console"], 1),
            "unit": "µs",
        }
    )
    return rows


_PATH = f"/servers/{INSTANCE}/remote-consoles"


def _api(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [_SERVER]


def _request(app: Any, method: str, path: str, body: bytes) -> Callable[[], object]:
    base = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "/v2.1",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
        "HTTP_OPENSTACK_API_VERSION": "compute 2.8",
        "HTTP_X_USER_ID": "u1",
        "HTTP_X_PROJECT_ID": "p1",
        "HTTP_X_ROLES": "member,reader",
        "keystone.token_info": {"token": {}},
        "openstack.request_id": "req-5f1c7e20-0000-4000-8000-000000000001",
        "wsgi.url_scheme": "https",
    }

    def start_response(_status: str, _headers: Any, _exc_info: Any = None) -> None: ...

    def call() -> bytes:
        return b"".join(app({**base, "wsgi.input": io.BytesIO(body)}, start_response))

    return call
