"""Clients of others: each in an environment of its own, with what PyPI has of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .environment import ClientEnvironment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this directory is `integration`, and its first test waits for the set-up."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def tempest() -> ClientEnvironment:
    environment = ClientEnvironment("tempest-47.0.0", "tempest==47.0.0")
    environment.make()
    return environment
