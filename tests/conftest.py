"""Fixtures of every folder: the proxy in front of the simulated vSphere."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.full_volume import full_volume
from tests.support.proxy import RunningProxy, start_proxy

if TYPE_CHECKING:
    from mksfilter.simulator.client import SimulatedVSphere

#: Folders of such tests beside those that mirror the package.
_OTHERS = ("fuzz", "packaging")
#: What the tests of ``make unit`` do not need.
_NEEDS = {"browser", "integration", "network", "page", "programs", "slow"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``make unit`` does not even import the other tests: their libraries may be missing."""
    return True if config.option.markexpr == "unit" and not _may_be_unit(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of ``make unit``."""
    for item in items:
        if _may_be_unit(item.path) and not any(mark.name in _NEEDS for mark in item.iter_markers()):
            item.add_marker(pytest.mark.unit)


def _may_be_unit(path: Path) -> bool:
    """Whether *path* is in a folder that mirrors one of the package, or in one of the others."""
    here = Path(__file__).parent
    if path == here or (path.parent == here and path.is_file()) or here not in path.parents:
        return True
    folder = path.relative_to(here).parts[0]
    return folder in _OTHERS or (here.parent / "mksfilter" / folder).is_dir()


@pytest.fixture(scope="session")
def _proxy_process(_vsphere_process: SimulatedVSphere) -> Iterator[RunningProxy]:
    with start_proxy([_vsphere_process.vcenter_settings()]) as running:
        yield running


@pytest.fixture
def proxy(vsphere: SimulatedVSphere, _proxy_process: RunningProxy) -> RunningProxy:
    """A proxy in front of the simulated vSphere, shared by all tests; ``vsphere`` is as new."""
    assert _proxy_process.process.poll() is None, _proxy_process.log()
    return _proxy_process


@pytest.fixture
def proxy_factory(vsphere: SimulatedVSphere) -> Iterator[Callable[..., RunningProxy]]:
    """Starts proxies with options of their own: ``proxy_factory(max_sessions=1)``."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **options: Any) -> RunningProxy:
            vcenters = options.pop("vcenters", [vsphere.vcenter_settings()])
            return stack.enter_context(start_proxy(vcenters, *arguments, **options))

        yield start


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``cert.pem`` and ``key.pem`` for 127.0.0.1, signed by itself."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", directory / "key.pem", "-out", directory / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return directory


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system that is full."""
    with full_volume(tmp_path / "full") as path:
        yield path
