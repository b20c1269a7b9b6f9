"""What a wheel is built from, copied: building leaves files beside what it builds."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["ROOT", "copy_source"]

ROOT = Path(__file__).parents[2]
_FOLDERS = ("mksfilter", "etc")
_FILES = ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
_PAGE = ("bundle.js", "messages.js", "package.json", "package-lock.json")


def copy_source(target: Path) -> Path:
    """Copy it into the new directory *target*, and return that."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, target / name)
    shutil.copytree(ROOT / "tools", target / "tools")
    shutil.copytree(ROOT / "page" / "src", target / "page" / "src")
    (target / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "lock.txt", target / "requirements")
    for name in _PAGE:
        shutil.copy(ROOT / "page" / name, target / "page")
    for name in _FILES:
        shutil.copy(ROOT / name, target)
    return target
