"""``make wheel`` and ``make sbom``: the same bytes everywhere, and what they consist of."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.source import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

NOVNC = Path("mksfilter", "proxy", "web", "static", "novnc")


def run(checkout: Path, tool: str, umask: int = 0o022, **environment: str) -> str:
    done = subprocess.run(
        [checkout / "tools" / tool],
        env={**os.environ, **environment},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_out(target: Path) -> Path:
    """A clone of what is committed, with the page as `make page` leaves it."""
    subprocess.run(["git", "clone", "-q", ROOT, target], check=True, timeout=60)
    shutil.copytree(ROOT / NOVNC, target / NOVNC)
    (ROOT / "var").mkdir(exist_ok=True)
    (target / "var").symlink_to(ROOT / "var")
    pako = Path("page", "node_modules", "@novnc", "novnc", "vendor", "pako")
    shutil.copytree(ROOT / pako, target / pako)
    return target


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = check_out(tmp_path_factory.mktemp("release") / "here")
    run(checkout, "build-wheel")
    return checkout


def digests(checkout: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (checkout / "dist").iterdir()
        if path.suffix in (".whl", ".gz")
    }


def test_two_builds_of_a_commit_are_the_same_bytes(release, tmp_path):
    """Elsewhere, another day, with another time zone and other permissions."""
    elsewhere = check_out(tmp_path / "some where else")
    for path in elsewhere.rglob("*"):
        if path.is_file() and ".git" not in path.parts and "var" not in path.parts:
            os.utime(path, (0, 86400 * 365 * 30))
            path.chmod(0o600 | path.stat().st_mode & 0o100)
    run(elsewhere, "build-wheel", umask=0o077, TZ="Asia/Kathmandu", LC_ALL="C")
    assert len(digests(release)) == 2
    assert digests(elsewhere) == digests(release)


def test_the_source_archive_builds_without_npm(release, tmp_path):
    (archive,) = (release / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert str(NOVNC / "console.js") in names
    assert {
        "setup.py",
        "tools/page-digest",
        "page/src/words.js",
        "page/bundle.js",
        "page/package-lock.json",
    } <= names
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q"]
    command = [*pip, "--no-deps", "--no-build-isolation", "-w", tmp_path, archive]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_the_bill_of_materials_names_all_that_is_locked_and_all_that_is_in_the_page(release):
    made = release / run(release, "sbom").strip()
    bom = json.loads(made.read_text())
    assert bom["bomFormat"] == "CycloneDX"
    assert bom["metadata"]["component"]["purl"].startswith("pkg:pypi/mksfilter@")
    components = {canonicalize_name(each["name"]): each for each in bom["components"]}
    lock = (ROOT / "requirements" / "lock.txt").read_text()
    lines = map(Requirement, re.findall(r"^(\S+==.*) \\$", lock, re.MULTILINE))
    locked = [line for line in lines if line.marker is None or line.marker.evaluate()]
    for name, version in [(line.name, str(line.specifier)[2:]) for line in locked]:
        component = components.pop(canonicalize_name(name))
        assert component["version"] == version
        assert component.get("licenses"), name
        held = json.dumps(component["externalReferences"])
        assert re.search(r'"SHA-256", "content": "[0-9a-f]{64}"', held), name
    (novnc,) = components.values()
    assert novnc["purl"].startswith("pkg:npm/%40novnc/novnc@")
    assert novnc["hashes"][0]["alg"] == "SHA-512"
    assert [each["name"] for each in novnc["components"]] == ["pako"]
    # Nothing of where it was made.
    assert str(release) not in made.read_text()
    assert "file:" not in made.read_text()
