"""Audit events reach the syslog service of this machine."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from mksfilter.audit.syslog import SyslogSink
from tests.audit.test_events import made


def service(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(path))
    listening.settimeout(10)
    return listening


def test_as_a_notice_of_authpriv_with_the_event_as_json(tmp_path: Path) -> None:
    with service(tmp_path / "log") as listening:
        event = made("opened", detail="a")
        SyslogSink(str(tmp_path / "log")).write(event)
        line = listening.recv(65536).decode()
    match = re.fullmatch(r"<85>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (\S+): (\{.*\})", line)
    assert match
    assert match[1].startswith("mksfilter-audit[")
    assert json.loads(match[2]) == event.to_mapping()


def test_a_service_that_is_down_is_an_error_and_one_that_comes_back_is_found(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    sink = SyslogSink(str(path))
    with pytest.raises(OSError, match="No such file"):
        sink.write(made("opened"))
    with service(path):
        sink.write(made("opened"))
    with pytest.raises(OSError, match="refused"):
        sink.write(made("opened"))
    path.unlink()
    with service(path) as listening:
        sink.write(made("opened", detail="back"))
        assert b'"back"' in listening.recv(65536)
