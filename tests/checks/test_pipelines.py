"""What ``mksfilter check`` says about configurations in the shapes that deployers have them.

Each directory of ``pipelines`` is one: its files, the command line, and all that is printed, first
on standard output, then on standard error. @KEYS@ and @DIRECTORY@ stand for paths.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.cli import main

PIPELINES = Path(__file__).parent / "pipelines"
#: Where these happen to be installed beside us, more could be checked.
ELSEWHERE = {
    *("keystonemiddleware", "nova", "oslo_middleware", "oslo.middleware", "osprofiler"),
    *("Paste", "paste"),
}


@pytest.fixture(autouse=True)
def _nothing_of_openstacks_services(monkeypatch):
    find_spec, distribution = importlib.util.find_spec, importlib.metadata.distribution
    entry_points = importlib.metadata.entry_points

    def no_distribution(name):
        if name in ELSEWHERE:
            raise importlib.metadata.PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ELSEWHERE else find_spec(name, *rest),
    )
    monkeypatch.setattr(importlib.metadata, "distribution", no_distribution)
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **which: () if which.get("name") == "nova.conf" else entry_points(**which),
    )


def says(case, directory, capsys, monkeypatch):
    """Exit code and output of the case's command, paths replaced."""
    shutil.copytree(PIPELINES / case, directory)
    KeyRepository(str(directory / "keys")).setup()
    for file in directory.rglob("*"):
        if file.suffix in (".conf", ".ini"):
            text = file.read_text()
            text = text.replace("@KEYS@", "@DIRECTORY@/keys")
            file.write_text(text.replace("@DIRECTORY@", str(directory)))
    monkeypatch.chdir(directory)
    monkeypatch.setattr("os.geteuid", lambda: directory.stat().st_uid or 1)
    monkeypatch.setattr("socket.gethostname", lambda: "api-1")
    code = main(shlex.split((directory / "command").read_text()))
    out, err = capsys.readouterr()
    text = f"exit code {code}\n{out}{'-' * 4}\n{err}".replace(str(directory), "@DIRECTORY@")
    return re.sub(r"primary is [0-9a-f]{12}", "primary is KID", text)


@pytest.mark.parametrize("case", sorted(path.name for path in PIPELINES.iterdir()))
def test_says_what_is_wrong_and_what_is_good(case, tmp_path, capsys, monkeypatch, request):
    said = says(case, tmp_path / case, capsys, monkeypatch)

    assert said == (PIPELINES / case / "expected").read_text()


@pytest.mark.parametrize("case", sorted(path.name for path in PIPELINES.iterdir()))
def test_never_says_a_password(case, tmp_path, capsys, monkeypatch):
    assert "s3cret" not in says(case, tmp_path / case, capsys, monkeypatch)
