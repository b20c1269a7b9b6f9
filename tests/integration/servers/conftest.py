"""A small compute API with the filter, installed for Debian's own Python and its WSGI servers.

uWSGI's plugin and mod_wsgi are built for that Python and no other, so everything runs with it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mksfilter.simulator.processes import Children
from tests.support.source import copy_source

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
    if user:
        os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def environment(directory: Path) -> Path:
    """A virtual environment with the filter and gunicorn."""
    venv = directory / "venv"
    source = copy_source(directory / "source")
    for command in (
        (PYTHON, "-m", "venv", venv),
        (venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check", source, "gunicorn"),
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
    return venv


@pytest.fixture(scope="session")
def site(directory: Path, environment: Path, user: str | None) -> Site:
    site = Site(directory / "site", environment, user)
    site.make()
    return site


@pytest.fixture
def serve(site: Site) -> Iterator[Callable[[str], Running]]:
    """``serve("uwsgi")`` starts the site under a server, until the test ends."""
    with Children() as children:
        yield lambda server: start(server, site, children)
