"""Clients of others: each in an environment of its own, with what PyPI has of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.simulator.processes import Children
from tests.integration.nova import stack as stacks
from tests.integration.nova.servers import SERVERS
from tests.support.proxy import RunningProxy, start_proxy

from .cloud import Cloud
from .environment import ClientEnvironment

if TYPE_CHECKING:
    from mksfilter.simulator.client import SimulatedVSphere


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


@pytest.fixture(scope="session")
def horizon() -> ClientEnvironment:
    environment = ClientEnvironment("horizon-27.0.0", "horizon==27.0.0")
    environment.make()
    return environment


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clients-keys") / "keys"
    KeyRepository(str(directory)).setup()
    return directory


@pytest.fixture(scope="session")
def _cloud_proxy(_vsphere_process: SimulatedVSphere, keys: Path) -> Iterator[RunningProxy]:
    options = {"key_repository": keys, "audience": "clients"}
    with start_proxy([_vsphere_process.vcenter_settings()], **options) as running:
        yield running


@pytest.fixture(scope="session")
def _cloud(
    _cloud_proxy: RunningProxy, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    environment = stacks.Environment()
    environment.make()
    with Children() as children:
        stack = stacks.Stack(environment, tmp_path_factory.mktemp("clients"), children)
        stack.start(SERVERS)
        yield Cloud(stack, keys, _cloud_proxy)
        stack.close()


@pytest.fixture
def cloud(_cloud: Cloud, vsphere: SimulatedVSphere) -> Cloud:
    """Keystone, Nova with the filter, and the proxy before a simulated vSphere, as new."""
    return _cloud
