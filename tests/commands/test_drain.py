"""Whom ``mksfilter drain`` signals."""

from __future__ import annotations

import os

import pytest

from mksfilter.commands import drain
from mksfilter.exceptions import OperationError
from mksfilter.proxy.server import board, roster


@pytest.fixture
def ordered(monkeypatch):
    """The processes that were told something, and what."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    return told


def master(**changes: object) -> dict[str, object]:
    pid = os.getpid()
    return {"pid": pid, "started": board.started(pid), "boot": roster.boot_id(), **changes}


@pytest.mark.parametrize("boot", [roster.boot_id(), ""], ids=["seen", "under ProcSubset=pid"])
def test_the_nodes_master_is_told(ordered, boot):
    drain._order(master(boot=boot))
    assert ordered == [(os.getpid(), roster.DRAIN_SIGNAL)]


@pytest.mark.parametrize(
    "changes", [{"boot": "another machine"}, {"started": 1}], ids=["elsewhere", "another process"]
)
def test_a_process_that_only_has_its_number_is_left_alone(ordered, changes):
    with pytest.raises(OperationError, match="none of this machine or container"):
        drain._order(master(**changes))
    assert ordered == []
