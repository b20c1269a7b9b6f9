"""The cloud with every kind of console, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.estate import Estate, start_estate


@pytest.fixture(scope="session")
def _estate_processes() -> Iterator[Estate]:
    with start_estate() as running:
        yield running


@pytest.fixture
def estate(_estate_processes: Estate) -> Iterator[Estate]:
    """A vCenter for each kind of console and a proxy in front of them, as new for every test."""
    _estate_processes.vsphere.reset()
    yield _estate_processes
    _estate_processes.vsphere.reset()
