"""An audit event says who, what, where and when, in the form that the schema has, and no secret."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mksfilter.audit.events import ACTIONS, AuditEvent, from_mapping, timestamp

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "audit-event.schema.json").read_text())
FACTS: dict[str, Any] = {
    "user": "u",
    "project": "p",
    "instance": "5f1c7e20-0000-4000-8000-000000000001",
    "vm": "vm-101",
    "vcenter": "dc1",
    "host": "esxi-1:443",
    "client": "192.0.2.7",
    "request": "req-1",
    "session": "s" * 22,
    "jti": "s" * 22,
    "mode": "full",
}
OF_A_CONNECTION: dict[str, Any] = {"connection": "c1"}
OF_AN_END: dict[str, Any] = {
    "began": 1.5,
    "seconds": 2.0,
    "bytes_in": 0,
    "bytes_out": 9,
    "reason": "upstream-lost",
}
MORE: dict[str, dict[str, Any]] = {
    "refused": {"reason": "token-expired", "status": 403, "suppressed": 3},
    "opened": OF_A_CONNECTION,
    "resumed": OF_A_CONNECTION,
    "moved": OF_A_CONNECTION | OF_AN_END,
    "ended": OF_A_CONNECTION | OF_AN_END,
    "dropped": {"by": "root"},
}


def made(action: str, **fields: Any) -> AuditEvent:
    return AuditEvent(
        action, "proxy", "node1", "0" * 32, 1764169200.25, **{**MORE.get(action, {}), **fields}
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_written_as_the_schema_has_it_and_read_back(action: str) -> None:
    event = made(action, **FACTS)
    written = json.loads(event.to_line())
    jsonschema.validate(written, SCHEMA)
    assert from_mapping(written) == event


def test_the_schema_knows_every_field_and_every_action() -> None:
    fields = {field.name for field in dataclasses.fields(AuditEvent)}
    assert set(SCHEMA["properties"]) == fields | {"version", "outcome"}
    assert tuple(SCHEMA["properties"]["action"]["enum"]) == ACTIONS


@pytest.mark.parametrize(
    ("action", "missing"), [("opened", "connection"), ("ended", "seconds"), ("refused", "reason")]
)
def test_the_schema_refuses_an_event_without_what_its_action_needs(
    action: str, missing: str
) -> None:
    written = made(action, **FACTS).to_mapping()
    del written[missing]
    with pytest.raises(jsonschema.ValidationError, match=missing):
        jsonschema.validate(written, SCHEMA)


def test_what_is_not_known_is_not_written() -> None:
    assert set(made("asked").to_mapping()) == {
        *("version", "time", "action", "outcome", "service", "node", "id"),
    }
    assert json.loads(made("ended", bytes_in=0).to_line())["bytes_in"] == 0, "but nothing is known"


def test_no_token_and_no_ticket_is_in_an_event() -> None:
    line = made(
        "refused",
        client="mks1.0123456789ab.payload.mac",
        detail="wss://esxi-1/ticket/cst-VCT-52aa failed; see /?token=mks1.k.p.m",
    ).to_line()
    for secret in ("payload", "cst-VCT", "mks1.k", "p.m"):
        assert secret not in line


def test_what_a_request_brings_cannot_make_a_line_long_or_into_two() -> None:
    line = made("refused", **{**FACTS, "client": "x\n" * 9999, "user": "é" * 9999}).to_line()
    assert len(line) < 4096
    assert "\n" not in line
    assert line.isascii()


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "vanished"},
        {"time": "soon"},
        {"time": 5},
        {"time": "0001-01-01T00:00:00+14:00"},
        {"time": "9999-12-31T23:59:59-14:00"},
        {"version": 2},
        {"user": 5},
        {"bytes_in": "9"},
        {"bytes_in": True},
        {"service": "dashboard"},
    ],
)
def test_what_is_no_event_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"audit event|soon|out of range"):
        from_mapping({**made("ended", **FACTS).to_mapping(), **changes})


def test_what_a_newer_release_adds_is_passed_over() -> None:
    event = made("ended", **FACTS)
    assert from_mapping({**event.to_mapping(), "weather": "fine"}) == event


def test_a_time_sorts_as_text() -> None:
    assert timestamp(0.5) == "1970-01-01T00:00:00.500000Z"
    assert timestamp(9.9) < timestamp(10.0) < timestamp(1e9)
