"""Request bodies: read with a bound, parsed and checked as Nova does.

The words of a refusal are those of Nova's JSON schema validation. The three documents are so
small that they are checked by hand rather than with one more dependency on every proxy.
"""

from __future__ import annotations

import io
import json
from collections.abc import MutableMapping, Sequence
from typing import Any, NamedTuple

from mksfilter.api.faults import Fault, Version

__all__ = [
    "MAX_BODY",
    "MKS_ACTION",
    "VNC_ACTION",
    "BodyTooLong",
    "LengthUnknown",
    "Wanted",
    "check_action",
    "check_console",
    "check_remote_console",
    "load",
    "parse",
    "read",
    "settle",
    "wanted",
]

#: Bytes; what oslo.middleware's sizelimit allows by default.
MAX_BODY = 114_688
MKS_ACTION = "os-getMKSConsole"
#: Nova's own, until microversion 2.5.
VNC_ACTION = "os-getVNCConsole"
_ACTIONS = {MKS_ACTION: "mks", VNC_ACTION: "vnc"}

_CONTENT_TYPES = ("", "text/plain", "application/json", "application/vnd.openstack.compute+json")
_PROTOCOLS = ["vnc", "spice", "serial", "rdp"]
_TYPES = ["novnc", "xvpvnc", "spice-html5", "serial", "rdp-html5"]


class LengthUnknown(Exception):
    """The request has a body of which the server does not tell the end (RFC 9110, 15.5.12)."""


class BodyTooLong(Exception):
    """The body is longer than the reader's limit."""


class Wanted(NamedTuple):
    """The console that a body asks for, well-formed or not."""

    protocol: str
    kind: str


def read(environ: MutableMapping[str, Any], limit: int) -> bytes:
    """The request's body, which the next reader of *environ* gets again.

    ``CONTENT_LENGTH`` is what the server vouches for, also beside a ``Transfer-Encoding`` that it
    has decoded already (nginx with uwsgi_pass). Without it the body is read to its end where the
    server marks that (``wsgi.input_terminated``).

    :param limit: bytes.
    :raises BodyTooLong: it is longer than *limit*, and still there to be read.
    :raises LengthUnknown: nothing says where it ends; it is unread.
    """
    stream = environ["wsgi.input"]
    told = environ.get("CONTENT_LENGTH")
    if told:
        length = int(told) if told.isdecimal() else -1
        if length < 0:
            raise LengthUnknown
        if length > limit:
            raise BodyTooLong
        body: bytes = stream.read(length) if length else b""
    elif environ.get("wsgi.input_terminated"):
        body = stream.read(limit + 1)
        if len(body) > limit:
            environ["wsgi.input"] = _Rejoined(body, stream)
            raise BodyTooLong
    elif environ.get("HTTP_TRANSFER_ENCODING"):
        raise LengthUnknown
    else:
        body = b""
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def settle(environ: MutableMapping[str, Any], body: bytes) -> None:
    """Give the next reader *body* with its length: Nova takes a chunked one for an empty one."""
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)


def wanted(form: str, document: Any) -> Wanted | None:
    """What *document* asks for; None: nothing that can be told.

    :param form: the last word of the request's path.
    """
    if not isinstance(document, dict):
        return None
    if form == "action":
        for action, protocol in _ACTIONS.items():
            if action in document:
                return Wanted(protocol, _text(document[action], "type"))
        return None
    console = document.get("remote_console") if form == "remote-consoles" else document
    protocol = _text(console, "protocol")
    return Wanted(protocol, _text(console, "type")) if protocol else None


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


class _Rejoined(io.RawIOBase):
    """A stream of which the beginning has been read, whole again."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def load(body: bytes) -> Any:
    """The JSON of *body*.

    :raises ValueError: it is none. Nova answers 500 to bytes that are not UTF-8 and to a
        thousandfold nesting; here they are malformed like anything else.
    """
    try:
        return json.loads(body.decode("utf-8"))
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def parse(environ: MutableMapping[str, Any], body: bytes) -> Any:
    """The document in *body*; None for an empty one, as in Nova.

    :raises Fault: 415, or 400 for what is not JSON.
    """
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
    _object(document, [MKS_ACTION])
    console = document[MKS_ACTION]
    _object(console, ["type"], MKS_ACTION)
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
