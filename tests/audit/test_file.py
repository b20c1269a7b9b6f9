"""A file of audit events: whole lines, whoever else writes, renames it or fills the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mksfilter.audit.file import FileSink
from tests.audit.test_events import made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def details(path: Path) -> list[str]:
    return [json.loads(line)["detail"] for line in path.read_text().splitlines() if line]


def test_lines_are_appended_and_the_file_is_not_for_everybody(path: Path) -> None:
    path.write_text('{"detail": "before"}\n')
    sink = FileSink(str(path))
    sink.write(made("ended", detail="a"))
    sink.write(made("ended", detail="b"))
    assert details(path) == ["before", "a", "b"]
    path.unlink()
    sink.write(made("ended", detail="c"))
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


def test_a_renamed_file_is_let_go(path: Path) -> None:
    sink = FileSink(str(path))
    sink.write(made("ended", detail="a"))
    path.rename(path.with_suffix(".1"))
    sink.write(made("ended", detail="b"))
    assert details(path.with_suffix(".1")) == ["a"]
    assert details(path) == ["b"]


def test_a_full_disk_is_an_error_that_names_the_file() -> None:
    with pytest.raises(OSError, match=r"/dev/full: No space left on device"):
        FileSink("/dev/full").write(made("ended"))


def test_half_a_line_spoils_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(str(path))
    sink.write(made("ended", detail="a"))
    with monkeypatch.context() as patch:
        write = os.write
        patch.setattr(os, "write", lambda file, data: write(file, data[:40]))
        with pytest.raises(OSError, match="No space left"):
            sink.write(made("ended", detail="b"))
    sink.write(made("ended", detail="b"))
    whole = []
    for line in path.read_text().splitlines():
        try:
            whole.append(json.loads(line)["detail"])
        except ValueError:
            continue
    assert whole == ["a", "b"]


def test_a_directory_that_is_missing_or_a_link_is_an_error(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSink(str(tmp_path / "none" / "audit.jsonl")).write(made("ended"))
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        FileSink(str(path)).write(made("ended"))


def test_processes_share_a_file_without_mixing_their_lines(path: Path) -> None:
    program = (
        "import sys\n"
        "from mksfilter.audit.file import FileSink\n"
        "from tests.audit.test_events import made\n"
        "sink = FileSink(sys.argv[1])\n"
        "for number in range(300): sink.write(made('ended', detail=sys.argv[2] * 200))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, path, name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = details(path)
    assert len(found) == 900
    assert set(found) == {"a" * 200, "b" * 200, "c" * 200}
