"""The backend in docs/backends.md is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mksfilter.backends.registry import load
from mksfilter.backends.vsphere.client import VM, About, Ticket
from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest
from mksfilter.exceptions import TicketRefused
from tests.backends.test_endpoints import FakeEntryPoint

PAGE = Path(__file__).parents[2] / "docs" / "backends.md"
WEB_1 = VM("vm-7", "u", "web-1", "poweredOn", "connected")
DIGEST = CertificateDigest("sha256", bytes(32))


def test_a_site_adds_its_own_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    written: dict[str, Any] = {"__name__": "ours"}
    exec(code, written)
    entry = FakeEntryPoint(lambda: written["Gateway"])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry])
    about = About("", (8, 0), "", is_vcenter=True)
    backend = load(VCenterSettings("dc1", "vc1.example.com", backend="ours"))(about)
    ticket = Ticket("T", host="esxi-2.example.com", digests=(DIGEST,))
    endpoint = backend.endpoint(None, WEB_1, ticket)  # type: ignore[arg-type]
    assert endpoint.address == "gateway.example.com:9002"
    assert (endpoint.server_name, endpoint.digests) == ("esxi-2.example.com", (DIGEST,))
    with pytest.raises(TicketRefused, match=r"no gateway port for 192\.0\.2\.7"):
        backend.endpoint(None, WEB_1, Ticket("T", host="192.0.2.7"))  # type: ignore[arg-type]
