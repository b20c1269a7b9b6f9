"""Request bodies: read with a bound, parsed and checked as Nova does.

The words of a refusal are those of Nova's JSON schema validation. The three documents are so
small that they are checked by hand rather than with one more dependency on every proxy.
"""

from __future__ import annotations

import io
import json
from collections.abc import MutableMapping, Sequence
from typing import Any

from mksfilter.api.faults import Fault, Version

__all__ = [
    "ACTION",
    "MAX_BODY",
    "check_action",
    "check_console",
    "check_remote_console",
    "load",
    "parse",
    "read",
]

#: Bytes; what oslo.middleware's sizelimit allows by default.
MAX_BODY = 114_688
ACTION = "os-getMKSConsole"

_CONTENT_TYPES = ("", "text/plain", "application/json", "application/vnd.openstack.compute+json")
_PROTOCOLS = ["vnc", "spice", "serial", "rdp"]
_TYPES = ["novnc", "xvpvnc", "spice-html5", "serial", "rdp-html5"]


def read(environ: MutableMapping[str, Any], limit: int, *, chunked: bool = False) -> bytes | None:
    """The request's body, which the next reader of *environ* gets again.

    :param limit: bytes.
    :param chunked: read a body without a length too, where the server marks its end.
    :returns: None when it is longer than *limit*, or its length is not known. One with a length is
        then unread; a chunked one is not, and has to be refused.
    """
    stream = environ["wsgi.input"]
    if environ.get("HTTP_TRANSFER_ENCODING"):
        if not (chunked and environ.get("wsgi.input_terminated")):
            return None
        body: bytes = stream.read(limit + 1)
        if len(body) > limit:
            return None
    else:
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            return None
        if not 0 <= length <= limit:
            return None
        body = stream.read(length) if length else b""
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def load(body: bytes) -> Any:
    """The JSON of *body*.

    :raises ValueError: it is none. Nova answers 500 to bytes that are not UTF-8 and to a
        thousandfold nesting; here they are malformed like anything else.
    """
    try:
        return json.loads(body.decode("utf-8"))
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def parse(environ: MutableMapping[str, Any], body: bytes | None) -> Any:
    """The document in *body*; None for an empty one, as in Nova.

    :raises Fault: 413, 415, or 400 for what is not JSON.
    """
    if body is None:
        raise Fault(413, "Request is too large.")
    if not body:
        return None
    content_type = str(environ.get("CONTENT_TYPE") or "").partition(";")[0].strip()
    if content_type not in _CONTENT_TYPES:
        raise Fault(415, "Unsupported Content-Type")
    try:
        return load(body)
    except ValueError as exc:
        raise Fault(400, "Malformed request body") from exc


def check_remote_console(document: Any, version: Version) -> str:
    """Check the body of ``POST /servers/{id}/remote-consoles``.

    :param version: 2.6 or later.
    :returns: the console type asked for; of any protocol's.
    :raises Fault: 400.
    """
    protocols, kinds = list(_PROTOCOLS), list(_TYPES)
    if version >= (2, 8):
        protocols.append("mks")
        kinds.append("webmks")
    if version >= (2, 99):
        kinds.append("spice-direct")
    _object(document, ["remote_console"])
    return _protocol_and_type(document["remote_console"], "remote_console", protocols, kinds)


def check_console(document: Any) -> str:
    """Check the body of ``POST /servers/{id}/console``.

    :raises Fault: 400.
    """
    return _protocol_and_type(document, "", ["mks"], ["webmks"])


def check_action(document: Any) -> str:
    """Check the body of ``POST /servers/{id}/action``.

    :raises Fault: 400.
    """
    _object(document, [ACTION])
    console = document[ACTION]
    _object(console, ["type"], ACTION)
    kind = console["type"]
    _choice(kind, ["webmks"], "type")
    return str(kind)


def _protocol_and_type(
    console: Any, name: str, protocols: Sequence[str], kinds: Sequence[str]
) -> str:
    _object(console, ["protocol", "type"], name)
    _choice(console["protocol"], protocols, "protocol")
    _choice(console["type"], kinds, "type")
    return str(console["type"])


def _object(value: Any, keys: Sequence[str], name: str = "") -> None:
    if not isinstance(value, dict):
        raise _invalid(f"{value!r} is not of type 'object'", value, name)
    for key in keys:
        if key not in value:
            raise _invalid(f"{key!r} is a required property", value, name)
    extra = [repr(key) for key in value if key not in keys]
    if extra:
        verb = "was" if len(extra) == 1 else "were"
        raise _invalid(
            f"Additional properties are not allowed ({', '.join(extra)} {verb} unexpected)",
            value,
            name,
        )


def _choice(value: Any, choices: Sequence[str], name: str) -> None:
    if not isinstance(value, str):
        raise _invalid(f"{value!r} is not of type 'string'", value, name)
    if value not in choices:
        raise _invalid(f"{value!r} is not one of {list(choices)!r}", value, name)


def _invalid(what: str, value: Any, name: str) -> Fault:
    if not name:
        return Fault(400, what)
    return Fault(400, f"Invalid input for field/attribute {name}. Value: {value}. {what}")
