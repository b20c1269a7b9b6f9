"""The simulated vSphere as pytest fixtures (entry point ``pytest11``).

Loaded into every pytest run on a system that has mksfilter: it imports nothing until a test asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mksfilter.simulator.client import SimulatedVSphere

__all__ = ["vsphere", "vsphere_factory"]


@pytest.fixture(scope="session")
def _vsphere_process() -> Iterator[SimulatedVSphere]:
    from mksfilter.simulator.client import start

    with start() as simulated:
        yield simulated


@pytest.fixture
def vsphere(_vsphere_process: SimulatedVSphere) -> Iterator[SimulatedVSphere]:
    """A vCenter with two ESXi hosts and four VMs, as new for every test."""
    _vsphere_process.reset()
    yield _vsphere_process
    _vsphere_process.reset()


@pytest.fixture
def vsphere_factory() -> Iterator[Callable[..., SimulatedVSphere]]:
    """Starts simulators with arguments of their own: ``vsphere_factory("--vcenters", "3")``."""
    from mksfilter.simulator.client import start

    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(start(*arguments))
