"""The filter installs where Nova is, under the pins of each release."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.packaging.requirements import EXTRAS, requirements
from tests.support.source import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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


def names(*extras: str) -> set[str]:
    return {canonicalize_name(each.name) for each in requirements(*extras)}


@pytest.mark.parametrize("release", RELEASES)
def test_every_floor_is_at_or_below_the_pins_of_each_release(release: str) -> None:
    pins = {canonicalize_name(name): pin for name, pin in RELEASES[release]["pins"].items()}
    for requirement in requirements():
        if requirement.marker is not None:
            continue  # for a Python that is newer than some of the releases
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} excludes {pin} of {release}"


def test_the_filters_side_asks_for_nothing_of_the_proxys() -> None:
    assert not PROXY_ONLY & names()
    assert names("proxy") == PROXY_ONLY


def test_every_floor_says_why_it_stands() -> None:
    known = names() | names(*EXTRAS)
    commented, bare = False, []
    for line in map(str.strip, (ROOT / "setup.cfg").read_text(encoding="utf-8").splitlines()):
        if line.startswith("#"):
            commented = True
        elif canonicalize_name(line.partition(">=")[0]) not in known:
            commented = False
        elif not commented:
            bare.append(line)
    assert bare == [], "write above it why"


def test_what_is_imported_is_declared() -> None:
    distributions = importlib.metadata.packages_distributions()
    # Nova is where the filter is, and pytest where its plugin is; the last is for types alone.
    known = {"mksfilter", "nova", "pytest", "_pytest", "_typeshed", *sys.stdlib_module_names}
    declared = names() | names(*EXTRAS)
    undeclared = {
        (module, str(path.relative_to(ROOT)))
        for path in (ROOT / "mksfilter").rglob("*.py")
        for module in imported(ast.parse(path.read_text(encoding="utf-8")))
        if module not in known
        and not {canonicalize_name(name) for name in distributions.get(module, [module])} & declared
    }
    assert undeclared == set()


def imported(module: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", RELEASES)
def test_pip_resolves_it_under_the_constraints(release: str, tmp_path: Path) -> None:
    constraints = tmp_path / "upper-constraints.txt"
    pins = RELEASES[release]["pins"].items()
    constraints.write_text("".join(f"{name}==={pin}\n" for name, pin in pins))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--disable-pip-version-check", "-c", str(constraints), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
