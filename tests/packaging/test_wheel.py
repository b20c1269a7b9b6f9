"""The wheel: with the page or not at all, and with all of etc/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.source import ROOT, copy_source

pytestmark = pytest.mark.page

PAGE = Path("mksfilter", "proxy", "web", "static", "novnc")


def build(source: Path, what: str = "bdist_wheel", **environment: str) -> tuple[int, str]:
    """The exit code and what was said on stderr."""
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", what, "--dist-dir", "dist"],
        cwd=source,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = copy_source(tmp_path_factory.mktemp("wheel") / "source")
    code, said = build(source)
    assert code == 0, said
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


@pytest.mark.parametrize("what", ["bdist_wheel", "sdist"])
def test_without_the_page_nothing_is_built_and_one_line_says_why(tmp_path, what):
    source = copy_source(tmp_path / "source")
    shutil.rmtree(source / PAGE)
    code, said = build(source, what)
    assert code != 0
    assert said.splitlines()[-1].startswith("mksfilter: the console page is not built; run tools")
    assert "Traceback" not in said
    assert not (source / "dist").exists()


@pytest.mark.parametrize(
    "changed", ["page/src/words.js", "page/bundle.js", "page/package-lock.json"]
)
def test_a_page_of_other_sources_is_refused_in_the_same_way(tmp_path, changed):
    source = copy_source(tmp_path / "source")
    with (source / changed).open("a") as file:
        file.write("\n")
    code, said = build(source)
    assert code != 0
    assert "mksfilter: the console page was built from other sources; run tools/build-page" in said


def test_other_words_for_an_error_are_another_page(tmp_path):
    source = copy_source(tmp_path / "source")
    errors = source / "mksfilter" / "exceptions.py"
    errors.write_text(errors.read_text().replace("powered off.", "switched off."))
    code, said = build(source)
    assert code != 0
    assert "built from other sources" in said


def test_nova_apis_side_can_be_built_without_the_page_on_purpose(tmp_path):
    source = copy_source(tmp_path / "source")
    shutil.rmtree(source / PAGE)
    code, said = build(source, MKSFILTER_WITHOUT_PAGE="1")
    assert code == 0, said


def test_the_wheel_holds_etc_whole_and_its_lock(built):
    paths = [path for path in (ROOT / "etc").rglob("*") if path.is_file()]
    sources = {path.relative_to(ROOT / "etc"): path for path in paths}
    sources[Path("lock.txt")] = ROOT / "requirements" / "lock.txt"
    with zipfile.ZipFile(built) as wheel:
        held = {
            Path(name.partition(".data/data/etc/mksfilter/")[2]): wheel.read(name)
            for name in wheel.namelist()
            if ".data/data/etc/mksfilter/" in name
        }
    assert held == {path: source.read_bytes() for path, source in sources.items()}
