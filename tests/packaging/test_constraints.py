"""The filter installs where Nova is, under the pins of each release."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
RELEASES = tomllib.loads((Path(__file__).parent / "constraints.toml").read_text())
#: What nova-api's side must not bring.
PROXY_ONLY = {
    "gevent",
    "gevent-websocket",
    "gunicorn",
    "prometheus-client",
    "pyvmomi",
    "websockets",
}


def declared(option: str = "install_requires", section: str = "options") -> list[Requirement]:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    lines = setup[section][option].splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("release", RELEASES)
def test_every_floor_is_at_or_below_the_pins_of_each_release(release: str) -> None:
    pins = {canonicalize_name(name): pin for name, pin in RELEASES[release]["pins"].items()}
    for requirement in declared():
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} excludes {pin} of {release}"


def test_the_filters_side_asks_for_nothing_of_the_proxys() -> None:
    assert not PROXY_ONLY & {canonicalize_name(each.name) for each in declared()}
    proxy = {
        canonicalize_name(each.name)
        for extra in ("proxy", "vcenter")
        for each in declared(extra, "options.extras_require")
    }
    assert proxy - {"mksfilter"} == PROXY_ONLY


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", ["2025.1", "master"])
def test_pip_resolves_it_under_the_constraints(release: str, tmp_path: Path) -> None:
    constraints = tmp_path / "upper-constraints.txt"
    pins = RELEASES[release]["pins"].items()
    constraints.write_text("".join(f"{name}==={pin}\n" for name, pin in pins))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--disable-pip-version-check", "-c", str(constraints), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
