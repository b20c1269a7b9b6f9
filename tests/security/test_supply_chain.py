"""What we depend on: no release with a known fault is allowed, and nothing of ours runs a shell."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.packaging.requirements import floor, requirements

ROOT = Path(__file__).parents[2]
SETUP = (ROOT / "setup.cfg").read_text(encoding="utf-8")
LOCK = ROOT / "requirements" / "lock.txt"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; .*)? \\$", re.MULTILINE)

# The first release without the fault. This is the audit that runs without a network; a new advisory
# on something in the lock adds a line, and the floor or the lock follows.
FIXED = {
    "certifi": ("2024.7.4", "CVE-2024-39689"),
    "cryptography": ("44.0.1", "CVE-2024-12797"),
    "gevent": ("23.9.0", "CVE-2023-41419"),
    "gunicorn": ("23.0.0", "CVE-2024-1135, CVE-2024-6827"),
    "idna": ("3.7", "CVE-2024-3651"),
    "pillow": ("10.3.0", "CVE-2024-28219"),
    "pyyaml": ("5.4", "CVE-2020-14343"),
    "redis": ("4.5.4", "CVE-2023-28858, CVE-2023-28859"),
    "requests": ("2.32.4", "CVE-2024-47081"),
    "setuptools": ("78.1.1", "CVE-2025-47273"),
    "urllib3": ("2.6.0", "CVE-2025-66418, CVE-2025-66471"),
    "webob": ("1.8.8", "CVE-2024-42353"),
    "websockets": ("9.1", "CVE-2021-33880"),
}


RUNTIME = [*requirements(), *requirements("proxy", "memcached", "redis", "nova")]


def pins() -> dict[str, Version]:
    return {
        canonicalize_name(name): Version(version) for name, version in PIN.findall(LOCK.read_text())
    }


@pytest.mark.parametrize("requirement", [*RUNTIME, *requirements("simulator")], ids=str)
def test_no_release_with_a_known_fault_is_allowed(requirement):
    fixed, advisory = FIXED.get(canonicalize_name(requirement.name), ("0", ""))
    if requirement in requirements():
        # Where Nova is, OpenStack's pins decide, and the floor has to let them: why the fault is
        # none there is written beside it. The lock, below, has the fix.
        assert floor(requirement) >= Version(fixed) or advisory in SETUP
    else:
        assert floor(requirement) >= Version(fixed), advisory


@pytest.mark.parametrize("requirement", [*RUNTIME, *requirements("simulator")], ids=str)
def test_what_is_installed_is_what_is_asked_for(requirement):
    assert importlib.metadata.version(requirement.name) in requirement.specifier


def test_the_lock_pins_all_that_the_proxy_needs():
    pinned = pins()
    assert len(pinned) >= 30
    for requirement in RUNTIME:
        assert str(pinned[canonicalize_name(requirement.name)]) in requirement.specifier


def test_the_lock_holds_no_release_with_a_known_fault():
    for name, version in pins().items():
        fixed, advisory = FIXED.get(name, ("0", ""))
        assert version >= Version(fixed), advisory


def test_the_lock_is_by_hash_and_names_no_server():
    text = LOCK.read_text()
    pinned = [part for part in re.split(r"^(?=\S)", text, flags=re.M) if PIN.match(part)]
    assert len(pinned) == len(pins())
    assert all("--hash=sha256:" in part for part in pinned)
    assert "://" not in text
    assert "--index" not in text


def test_what_is_installed_fits_together():
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


# --- our own code -------------------------------------------------------------------------------

SOURCES = sorted((ROOT / "mksfilter").rglob("*.py"))
#: Calls that hand text to an interpreter, or bytes to something that makes objects of them.
FORBIDDEN = {
    "eval",
    "exec",
    "os.popen",
    "os.system",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "pickle.load",
    "pickle.loads",
    "marshal.loads",
    "yaml.load",
}


def calls(path: Path) -> list[ast.Call]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_given_to_a_shell_or_an_interpreter(path):
    for call in calls(path):
        assert ast.unparse(call.func) not in FORBIDDEN
        assert "shell" not in [keyword.arg for keyword in call.keywords]


def test_the_filter_and_the_proxy_start_no_programs():
    """The demo and the simulator start Python, by a list of arguments."""
    starters = {
        path.relative_to(ROOT / "mksfilter").parts[0]
        for path in SOURCES
        if re.search(r"^\s*(import subprocess|from subprocess)", path.read_text(), re.MULTILINE)
    }
    assert starters <= {"simulator", "commands"}


def test_ruffs_security_rules_are_on_for_all_of_it():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (selected,) = re.findall(r"^select = (\[.*\])$", text, re.MULTILINE)
    (ignored,) = re.findall(r"^ignore = (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
    assert "S" in ast.literal_eval(selected)
    assert set(re.findall(r'"(S\d+)"', ignored)) == {"S101"}
