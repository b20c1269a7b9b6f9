"""What setup.cfg cannot say: a wheel holds the built page, its lock, and all of etc/.

Everything else stands in setup.cfg.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
PAGE = ROOT / "mksfilter" / "proxy" / "web" / "static" / "novnc" / "console.js"
#: Set to 1: a wheel without the page, which the proxy needs and nova-api does not.
WITHOUT_PAGE = "MKSFILTER_WITHOUT_PAGE"


def require_page() -> None:
    """Refuse to build without the page, or with one that was built from other sources.

    :raises SystemExit: with one line.
    """
    if os.environ.get(WITHOUT_PAGE) == "1":
        return
    remedy = (
        "run tools/build-page, which needs npm; or set " + WITHOUT_PAGE + "=1 for nova-api alone"
    )
    try:
        head = PAGE.read_text(encoding="utf-8")[:1000]
    except FileNotFoundError:
        raise SystemExit(f"mksfilter: the console page is not built; {remedy}") from None
    built = re.search(r"Sources sha256:([0-9a-f]{64})", head)
    digest = subprocess.run(  # noqa: S603
        [sys.executable, ROOT / "tools" / "page-digest"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if built is None or built[1] != digest:
        raise SystemExit(f"mksfilter: the console page was built from other sources; {remedy}")


class BuildPackage(build_py):
    """A wheel; an editable install (make setup) may be without the page."""

    def run(self) -> None:
        if not self.editable_mode:
            require_page()
        super().run()


class BuildSource(sdist):
    """The source archive, from which a wheel can be built without npm."""

    def run(self) -> None:
        require_page()
        super().run()


def data_files() -> list[tuple[str, list[str]]]:
    """All of etc/ and the lock, under etc/mksfilter/ of the environment."""
    found: dict[str, list[str]] = {"etc/mksfilter": ["requirements/lock.txt"]}
    for path in sorted(path for path in (ROOT / "etc").rglob("*") if path.is_file()):
        target = Path("etc", "mksfilter", path.parent.relative_to(ROOT / "etc"))
        found.setdefault(target.as_posix(), []).append(path.relative_to(ROOT).as_posix())
    return list(found.items())


setup(cmdclass={"build_py": BuildPackage, "sdist": BuildSource}, data_files=data_files())
