"""A console that vCenter knows of and no node of ours does is shown; ours are not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mksfilter.audit.reconcile import ACQUIRED, CONNECTED, VCenterEvent, reconcile
from tests.audit.test_story import happened

_keys = itertools.count(1)
ACCOUNTS = {"dc1": "nova@vsphere.local", "dc2": "nova@vsphere.local"}


def theirs(time: float, kind: str = CONNECTED, **fields: Any) -> VCenterEvent:
    known = {"vcenter": "dc1", "user": "VSPHERE.LOCAL\\nova", "vm": "vm-1", "name": "web-1"}
    return VCenterEvent(next(_keys), kind, time, **{**known, **fields})


def ours(time: float, action: str = "opened", **fields: Any) -> Any:
    return happened(time, action, **{"vcenter": "dc1", "vm": "vm-1", "instance": "i", **fields})


def test_a_console_of_ours_and_its_ticket_are_explained() -> None:
    events = [theirs(10.0, ACQUIRED), theirs(10.4)]
    assert reconcile(events, [ours(10.2)], accounts=ACCOUNTS) == []
    assert reconcile(events, [ours(10.2, "resumed")], accounts=ACCOUNTS) == []


@pytest.mark.parametrize(
    ("event", "own"),
    [
        (theirs(10.0), []),
        (theirs(10.0, vm="vm-2"), [ours(10.0)]),
        (theirs(10.0, vcenter="dc2"), [ours(10.0)]),
        (theirs(99.0), [ours(10.0)]),
        (theirs(10.0), [ours(10.0, "refused", vm="", vcenter="")]),
        (theirs(10.0, ACQUIRED), []),
    ],
)
def test_what_no_node_knows_of_is_foreign_although_the_account_is_ours(event, own) -> None:
    (foreign,) = reconcile([event], own, accounts=ACCOUNTS)
    assert "our account, and no node of ours knows of it" in str(foreign)
    assert event.vm in str(foreign)


def test_another_account_is_foreign_whatever_we_did_at_that_time() -> None:
    event = theirs(10.0, user="VSPHERE.LOCAL\\administrator", host="esxi-1")
    (foreign,) = reconcile([event], [ours(10.0)], accounts=ACCOUNTS)
    assert str(foreign) == (
        "1970-01-01T00:00:10.000000Z vcenter dc1: console of web-1 (vm-1) on esxi-1 by "
        "VSPHERE.LOCAL\\administrator: not our account nova@vsphere.local"
    )


def test_one_console_of_ours_explains_one_of_theirs() -> None:
    events = [theirs(10.0), theirs(12.0)]
    assert len(reconcile(events, [ours(10.0)], accounts=ACCOUNTS)) == 1
    assert reconcile(events, [ours(10.0), ours(12.1)], accounts=ACCOUNTS) == []


@pytest.mark.parametrize(
    "own", [ours(10.0, "refused", vm="", vcenter=""), ours(10.0, "asked", vm="", vcenter="uuid")]
)
def test_a_ticket_whose_console_came_to_nothing_is_ours(own) -> None:
    assert reconcile([theirs(10.0, ACQUIRED)], [own], accounts=ACCOUNTS) == []


def test_the_ends_of_consoles_need_no_explanation() -> None:
    event = theirs(10.0, "VmRemoteConsoleDisconnectedEvent")
    assert reconcile([event], [], accounts=ACCOUNTS) == []
