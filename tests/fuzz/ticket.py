"""What vCenter calls a ticket: an endpoint one can connect to, or a BackendError."""

from __future__ import annotations

import contextlib
import json
import re
from types import SimpleNamespace
from typing import Any

from mksfilter.backends.mks import mks_endpoint
from mksfilter.backends.vsphere.client import VSphereClient
from mksfilter.backends.webmks import webmks_endpoint
from mksfilter.config import VCenterSettings
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import BackendError, TicketRefused
from mksfilter.proxy.upstream import authd, websocket

__all__ = ["TestOneInput"]

_SETTINGS = (
    VCenterSettings("dc1", "vc1.example.com"),
    VCenterSettings("dc1", "192.0.2.1", insecure=True),
    VCenterSettings("dc1", "vc1.example.com", console_host="{host}.esx.example.com"),
    VCenterSettings("dc1", "vc1.example.com", console_host="gate.example.com", console_port=8443),
)
_HOST = re.compile(r"[A-Za-z0-9._:%\[\]-]+")
_FIELDS = ("ticket", "host", "port", "url", "cfgFile", "sslThumbprint", "sslCertificate")


class _Client(VSphereClient):
    """A SOAP client whose server answers with one ticket."""

    def __init__(self, ticket: Any) -> None:
        self._ticket = ticket
        self._errors: Any = contextlib.nullcontext()

    def _vm(self, moid: str) -> Any:
        return SimpleNamespace(AcquireTicket=lambda kind: self._ticket)


def TestOneInput(data: bytes) -> None:
    """A byte of settings, then fields with an empty byte between them; or a sealed mapping."""
    if data[:1] == b"{":
        _sealed(data)
        return
    settings = _SETTINGS[(data[:1] or b"\0")[0] & 3]
    texts = [text.decode("utf-8", "replace") for text in data[1:].split(b"\0")]
    fields: dict[str, Any] = dict.fromkeys(_FIELDS)
    fields.update(zip(_FIELDS, texts, strict=False))
    # pyvmomi has checked that it is a number; which one is up to the server.
    fields["port"] = _number(fields["port"])
    pairs = zip(texts[7::2], texts[8::2], strict=False)
    fields["certThumbprintList"] = [
        SimpleNamespace(thumbprint=thumbprint, hashAlgorithm=algorithm or None)
        for thumbprint, algorithm in pairs
    ]
    ticket = _Client(SimpleNamespace(**fields)).ticket("vm-1", "webmks")
    for read in (webmks_endpoint, mks_endpoint):
        try:
            endpoint = read(settings, ticket)
        except BackendError:
            continue
        _check(endpoint)


def _number(text: str | None) -> int | None:
    try:
        return max(-(1 << 31), min(int(text or ""), (1 << 31) - 1))
    except ValueError:
        return None


def _sealed(data: bytes) -> None:
    """The same from the sealed part of a token, where an older or newer release wrote it."""
    try:
        mapping = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(mapping, dict):
        with contextlib.suppress(TicketRefused):
            Endpoint.from_mapping(mapping)


def _check(endpoint: Endpoint) -> None:
    assert 0 < endpoint.port < 65536
    assert _HOST.fullmatch(endpoint.host)
    assert _HOST.fullmatch(endpoint.server_name)
    assert endpoint.tls
    assert Endpoint.from_mapping(json.loads(json.dumps(endpoint.to_mapping()))) == endpoint
    sent = _Sent()
    with contextlib.suppress(BackendError):
        if endpoint.kind == "websocket":
            websocket._exchange(sent, endpoint, "host")
        else:
            authd._send_line(sent, f"CONNECT {endpoint.config_file} mks")  # type: ignore[arg-type]
    if endpoint.kind == "websocket":
        assert "/ticket/" not in repr(endpoint)
        assert re.match(rb"GET /[!-~]* HTTP/1\.1\r\nHost: [!-~]+\r\n", sent.data)
        assert sent.data.count(b"\r\n\r\n") == 1
    assert sent.data.endswith(b"\r\n")


class _Sent:
    """A console host that listens and closes."""

    data = b""

    def sendall(self, data: bytes) -> None:
        self.data += data

    def recv(self, _size: int) -> bytes:
        return b""
