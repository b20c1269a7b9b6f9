"""The cloud with every kind of console, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.deployment import Deployment, start_deployment


@pytest.fixture(scope="session")
def _deployment_processes() -> Iterator[Deployment]:
    with start_deployment() as running:
        yield running


@pytest.fixture
def deployment(_deployment_processes: Deployment) -> Iterator[Deployment]:
    """A vCenter for each kind of console and a proxy in front of them, as new for every test."""
    _deployment_processes.vsphere.reset()
    yield _deployment_processes
    _deployment_processes.vsphere.reset()
