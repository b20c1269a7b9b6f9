"""A small compute API with the filter, installed for Debian's own Python and its WSGI servers.

uWSGI's plugin and mod_wsgi are built for that Python and no other, so everything runs with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mksfilter.simulator.processes import Children
from tests.integration.nova import servers
from tests.integration.nova import stack as stacks
from tests.support.source import copy_source

from .nova_site import NovaSite
from .site import Running, Site, start

PYTHON = "/usr/bin/python3"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this directory is `integration`, and its first test waits for the set-up."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def user() -> str | None:
    """Who serves: Apache does not as root, and keys are open to their owner alone."""
    return "www-data" if os.geteuid() == 0 else None


@pytest.fixture(scope="session")
def directory(user: str | None) -> Iterator[Path]:
    """A directory that *user* can get to, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="mksfilter-servers-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def environment(directory: Path) -> Path:
    """A virtual environment with Nova, the filter and gunicorn."""
    venv = directory / "venv"
    pip = (venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check")
    source = copy_source(directory / "source")
    constraints = stacks.HERE / f"constraints-{stacks.RELEASE}.txt"
    limits = ("-c", constraints) if constraints.exists() else ()
    for command in (
        (PYTHON, "-m", "venv", venv),
        (*pip, f"nova=={stacks.RELEASE}", source, "gunicorn", *limits),
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
    return venv


@pytest.fixture(scope="session")
def site(directory: Path, environment: Path, user: str | None) -> Site:
    """The demo's API."""
    site = Site(directory / "site", environment, user)
    site.make()
    return site


@pytest.fixture(scope="session")
def nova(directory: Path, environment: Path, user: str | None) -> Iterator[NovaSite]:
    """Nova's own API, with a Keystone beside it."""
    with Children() as children:
        here = stacks.Environment()
        here.make()
        (directory / "nova").mkdir()
        stack = stacks.Stack(here, directory / "nova", children)
        stack.start(servers.SERVERS)
        site = NovaSite(stack, environment, user)
        site.make()
        yield site
        stack.close()


@pytest.fixture
def serve() -> Iterator[Callable[[str, Site], Running]]:
    """``serve("uwsgi", site)`` starts a site under a server, until the test ends."""
    with Children() as children:
        yield lambda server, site: start(server, site, children)
