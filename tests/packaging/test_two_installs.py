"""``pip install mksfilter`` is nova-api's side, and what is missing is named with its remedy."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.source import copy_source

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
PASTE = """\
[pipeline:main]
pipeline = mksfilter api

[app:api]
paste.app_factory = nobody:api

[filter:mksfilter]
paste.filter_factory = mksfilter.filter:filter_factory
api = plain
webmks_proxy_base_url = https://console.example.com/
"""


def run(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    # A tree or a virtual environment of the tests' must not lend its libraries.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=500, env=environment
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    source = copy_source(directory / "source")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory, source)
    (made,) = directory.glob("mksfilter-*.whl")
    return made


@pytest.fixture(scope="module")
def filters_side(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with nothing but the wheel and what it asks for."""
    directory = tmp_path_factory.mktemp("filter")
    run(sys.executable, "-m", "venv", directory)
    run(directory / "bin" / "pip", "--disable-pip-version-check", "install", "-q", wheel)
    return directory / "bin"


def test_the_wheel_holds_the_page_and_the_samples(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("proxy/web/static/novnc/console.js") for name in names)
    assert any(name.endswith("etc/mksfilter/mksfilter.conf.sample") for name in names)


def test_the_filters_side_works_without_the_proxys_libraries(
    filters_side: Path, tmp_path: Path
) -> None:
    installed = run(filters_side / "pip", "list", "--format=freeze").stdout.lower()
    for library in ("gevent", "gunicorn", "pyvmomi", "websockets", "prometheus"):
        assert library not in installed
    command, keys = filters_side / "mksfilter", tmp_path / "keys"
    run(filters_side / "python", "-c", "import mksfilter.filter, mksfilter.api.plain")
    run(command, "keys", "setup", "--key-repository", keys)
    run(command, "keys", "rotate", "--key-repository", keys)
    run(command, "revoke", "--user", "u", "--key-repository", keys)
    paste = tmp_path / "api-paste.ini"
    paste.write_text(PASTE + f"key_repository = {keys}\n")
    configuration = tmp_path / "mksfilter.conf"
    configuration.write_text(f"[mksfilter]\nkey_repository = {keys}\n")
    minted = run(
        command, "token", "mint", "--instance", INSTANCE, "--config-file", configuration
    ).stdout
    assert minted.startswith("mks1.")
    # Its one finding is true of this pipeline, and all else is good.
    checked = run(command, "check", "--api-paste", paste, code=1)
    assert checked.stdout.count("\n") == 1
    assert "nothing before the filter authenticates" in checked.stdout
    assert "good:" in checked.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["serve"], "proxy"),
        (["simulator"], "simulator"),
        (["demo"], "simulator"),
        (["sessions", "list", "--instance", INSTANCE], "vcenter"),
    ],
)
def test_a_command_whose_extra_is_missing_says_what_to_install(
    filters_side: Path, tmp_path: Path, arguments: list[str], extra: str
) -> None:
    configuration = tmp_path / "mksfilter.conf"
    configuration.write_text(
        "[mksfilter]\nvcenters = dc1\n"
        "[vcenter.dc1]\nhost = vc\nusername = u\npassword = p\nthumbprint = " + "00" * 32 + "\n"
    )
    if arguments[0] in ("serve", "sessions"):
        arguments = [*arguments, "--config-file", str(configuration)]
    said = run(filters_side / "mksfilter", *arguments, code=2).stderr
    assert f"pip install 'mksfilter[{extra}]'" in said
    assert said.count("\n") == 1, said
