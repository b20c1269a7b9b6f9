"""Where the processes of one node keep what they share: small files that no restart needs."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator

__all__ = ["find"]

_USUAL = "/run/mksfilter"


def find(configured: str = "") -> str:
    """A directory that is this user's alone, made where it is missing; ``""``: there is none.

    :param configured: the option ``runtime_directory``. Without it: what systemd made
        (``RuntimeDirectory=``), ``/run/mksfilter``, or one of the user's own in the directory for
        temporary files.
    """
    for path in [configured] if configured else _usual():
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            info = os.lstat(path)
        except OSError:
            continue
        # In a directory that all may write to, another user may have been faster. Elsewhere root
        # takes the service's: it runs the commands.
        me = os.geteuid()
        public = os.stat(os.path.dirname(path) or ".").st_mode & stat.S_IWOTH
        owners = (me, info.st_uid) if me == 0 and not public else (me,)
        if (
            stat.S_ISDIR(info.st_mode)
            and info.st_uid in owners
            and not info.st_mode & 0o022
            and os.access(path, os.W_OK | os.X_OK)
        ):
            return path
    return ""


def _usual() -> Iterator[str]:
    # systemd separates several by colons; the first is the unit's own.
    if made := os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        yield made
    yield _USUAL
    yield os.path.join(tempfile.gettempdir(), f"mksfilter-{os.geteuid()}")
