"""Where a library of an extra is missing, one line says what to install."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mksfilter import extras
from mksfilter.exceptions import ConfigurationError

#: Hides the libraries of every extra, as if they were not installed.
BLOCKER = f"""
import sys

class _NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(extras.LIBRARIES)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, _NotInstalled())
"""


@pytest.fixture
def python(tmp_path: Path):
    """Run Python without the libraries of the extras: exit code, output, errors."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])

    def run(*arguments: object) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def conf(python, tmp_path: Path) -> Path:
    file = tmp_path / "mksfilter.conf"
    file.write_text(
        f"[mksfilter]\nkey_repository = {tmp_path / 'keys'}\nvcenters = dc1\n"
        "webmks_proxy_base_url = https://consoles.example.com/\n"
        "[vcenter.dc1]\nhost = vc.example.com\nusername = nova\npassword = secret\n"
    )
    keys = tmp_path / "keys"
    assert python("-m", "mksfilter", "keys", "setup", "--key-repository", keys)[0] == 0
    return file


INSTANCE = "9d51f082-8b4c-4a5e-9f3a-7f3b8a3d2c10"


def test_keys_tokens_and_checks_need_none(python, conf: Path) -> None:
    code, out, err = python(
        *("-m", "mksfilter", "token", "mint", "--instance", INSTANCE, "--config-file", conf)
    )
    assert (code, err) == (0, "")
    assert out.startswith("mks1.")
    code, out, err = python("-m", "mksfilter", "check", "--config-file", conf)
    assert (code, out) == (0, ""), err


@pytest.mark.parametrize(
    ("command", "subject", "extra"),
    [
        (["serve"], "the console proxy", "proxy"),
        (["simulator"], "mksfilter simulator", "simulator"),
        (["demo"], "mksfilter demo", "simulator"),
        (["sessions", "list", "--instance", INSTANCE], "mksfilter sessions", "vcenter"),
        (["check", "--connect"], "mksfilter check", "vcenter"),
    ],
)
def test_a_command_says_what_to_install(
    python, conf: Path, command: list[str], subject: str, extra: str
) -> None:
    more = [] if extra == "simulator" else ["--config-file", conf]
    code, _, err = python("-m", "mksfilter", *command, *more)
    assert code == 2
    pattern = rf"mksfilter: {subject} needs \w+, .*: pip install 'mksfilter\[{extra}\]'"
    assert re.fullmatch(pattern, err.splitlines()[-1]), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("import mksfilter.proxy.app", "the console proxy needs .*mksfilter[[]proxy[]]"),
        (
            "from mksfilter.filter import filter_factory as f;"
            "f({}, api='plain', config_file=conf, ticket_at='issue')(None)",
            "ticket_at = issue needs pyVmomi.*mksfilter[[]vcenter[]]",
        ),
        (
            "from mksfilter.auth.replay import replay_guard as g; g('redis://127.0.0.1/0')",
            "replay_cache needs redis.*mksfilter[[]redis[]]",
        ),
    ],
)
def test_a_factory_says_what_to_install(python, conf: Path, statement: str, words: str) -> None:
    script = f"conf = {str(conf)!r}\n{statement}"
    code, _, err = python("-c", script)
    assert code == 1
    assert re.fullmatch(rf"mksfilter\S*ConfigurationError: {words}.*", err.splitlines()[-1])


def test_the_filter_loads_and_is_ready(python, conf: Path) -> None:
    script = (
        "from mksfilter.filter import filter_factory\n"
        f"filter_factory({{}}, api='plain', config_file={str(conf)!r})(lambda *_: [])"
    )
    assert python("-c", script) == (0, "", "")


def test_another_librarys_absence_is_not_put_down_to_an_extra() -> None:
    with pytest.raises(ModuleNotFoundError), extras.needed("this"):
        import no_such_library  # noqa: F401


def test_a_library_that_is_there_changes_nothing() -> None:
    with extras.needed("this"):
        import json  # noqa: F401


def test_the_extra_may_be_named() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"demo needs gevent.*'mksfilter\[simulator\]'$"),
        extras.needed("demo", extra="simulator"),
    ):
        raise ModuleNotFoundError("No module named 'gevent'", name="gevent.pywsgi")
