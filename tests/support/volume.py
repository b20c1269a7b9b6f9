"""A directory as the kubelet makes it for a Secret or a projected volume."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


class Volume:
    """``..data -> ..DATE``, and a link into it for each file.

    With a pod's ``fsGroup``, modes are what they are here, and the group is the pod's.
    """

    def __init__(self, path: Path, files: Mapping[str, str], *, mode: int = 0o440) -> None:
        """:param files: text by name; a name may have a directory in front."""
        self.path = path
        self._mode = mode
        self._states = 0
        path.mkdir()
        path.chmod(0o1777)
        self.replace(files)

    @property
    def dated(self) -> Path:
        """The directory that holds the current files."""
        return self.path / os.readlink(self.path / "..data")

    def replace(self, files: Mapping[str, str]) -> None:
        """A new state takes the place of the old one, in one step; the old one is removed."""
        before = self.dated if self._states else None
        self._states += 1
        dated = self.path / f"..2026_11_26_10_00_00.{self._states:09}"
        dated.mkdir()
        dated.chmod(0o755)
        for name, text in files.items():
            file = dated / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            file.chmod(self._mode)
        link = self.path / "..data_tmp"
        link.symlink_to(dated.name)
        link.replace(self.path / "..data")
        for name in {name.partition("/")[0] for name in files}:
            visible = self.path / name
            if not visible.is_symlink():
                visible.symlink_to(f"..data/{name}")
        if before is not None:
            for file in sorted(before.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            before.rmdir()
