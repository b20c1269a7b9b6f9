"""The page's way into the package: ``tools/build-page`` and the wheel."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import mksfilter.proxy.web
from tests.support.source import ROOT, copy_source

BUILD = ROOT / "tools" / "build-page"
BUILT = Path(mksfilter.proxy.web.__file__).parent / "static" / "novnc"


def test_without_npm_the_build_says_in_one_line_what_to_do(tmp_path):
    for program in ("bash", "dirname", "env"):
        (tmp_path / program).symlink_to(shutil.which(program))
    done = subprocess.run([BUILD], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"build-page: npm is missing; install Node.js .*\n", done.stderr)


def test_a_second_build_changes_nothing():
    before = {path.name: path.read_bytes() for path in BUILT.iterdir()}
    subprocess.run([BUILD], check=True, timeout=60)
    assert {path.name: path.read_bytes() for path in BUILT.iterdir()} == before


def test_the_lock_pins_every_package_by_digest_and_names_no_registry():
    lock = json.loads((ROOT / "page" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages["node_modules/@novnc/novnc"]["version"] == "1.7.0"
    for entry in packages.values():
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry


def test_the_licences_of_what_was_bundled_are_beside_it():
    text = (BUILT / "LICENSE.txt").read_text()
    assert "noVNC is Copyright" in text
    assert "Mozilla Public License Version 2.0" in text
    assert "Vitaly Puzrin" in text
    assert "noVNC 1.7.0" in (BUILT / "console.js").read_text()[:200]


def test_the_page_is_what_tempest_expects_and_holds_nothing_inline():
    page = (BUILT.parents[1] / "templates" / "console.html").read_text()
    for expected in ("<html", "noVNC", "<script"):
        assert expected in page
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)


def test_what_a_console_needs_is_at_most_90_kB_compressed():
    files = [
        BUILT / "first.js",
        BUILT / "console.js",
        BUILT.parent / "console.css",
        BUILT.parent / "icon.svg",
    ]
    files.append(BUILT.parents[1] / "templates" / "console.html")
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in files}
    # Comes when the console is there.
    later = len(gzip.compress((BUILT / "strip.js").read_bytes(), 9))
    print(sizes, "strip.js", later)
    assert later <= 8_000
    assert sum(sizes.values()) <= 90_000
    assert sizes["first.js"] <= 4_000


def test_the_page_around_another_viewer_holds_nothing_of_novnc_s_client():
    script = (BUILT / "wmks.js").read_text()
    assert len(gzip.compress(script.encode(), 9)) < 30_000
    for name in ("Unsupported encoding", "FramebufferUpdate", "inflate"):
        assert name not in script


def test_the_build_compresses_what_it_made():
    for name in ("first.js", "console.js", "wmks.js", "strip.js", "de.js", "ja.js"):
        assert gzip.decompress((BUILT / f"{name}.gz").read_bytes()) == (BUILT / name).read_bytes()


def test_a_wheel_holds_the_built_page(tmp_path):
    source = copy_source(tmp_path / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True, timeout=100, env={**os.environ})
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for path in (
        "static/novnc/console.js",
        "static/novnc/console.js.gz",
        "static/novnc/first.js",
        "static/novnc/strip.js",
        "static/novnc/wmks.js",
        "static/novnc/de.js",
        "static/novnc/messages.json",
        "static/novnc/LICENSE.txt",
        "static/v1/mks-console.js",
        "static/v1/mks-console.d.ts",
        "static/console.css",
        "static/icon.svg",
        "templates/console.html",
        "templates/message.html",
    ):
        assert f"mksfilter/proxy/web/{path}" in names
