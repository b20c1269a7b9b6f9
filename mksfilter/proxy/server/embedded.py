"""gunicorn with a table of settings in place of its command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from gunicorn.app.base import BaseApplication

from mksfilter.exceptions import ConfigurationError
from mksfilter.proxy.server.arbiter import ConsoleArbiter

__all__ = ["EmbeddedServer"]

_Application = TypeVar("_Application")

#: Settings that name files which each worker reads.
_FILES: Final = ("certfile", "keyfile", "ca_certs")


class EmbeddedServer(BaseApplication, Generic[_Application]):
    """
    :param settings: by their names in gunicorn; those that this release does not have are left out.
    :param build: makes the application: now, and again on SIGHUP for the workers that then start.
    """

    def __init__(self, settings: Mapping[str, Any], build: Callable[[], _Application]) -> None:
        self._settings = settings
        self._build = build
        self._application = build()
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn before it starts."""
        for name, value in self._settings.items():
            # ``Config`` has an attribute for each setting that it knows.
            if hasattr(self.cfg, name):
                self.cfg.set(name, value)
        self._take_copies()

    def load(self) -> _Application:
        """See :meth:`wsgi`."""
        return self._application

    def wsgi(self) -> _Application:
        """The application. gunicorn's own ``wsgi`` keeps for ever what ``load`` gave it first."""
        return self._application

    def reload(self) -> None:
        """SIGHUP. gunicorn's own would read its command line again.

        :raises MksFilterError: what is there now cannot be used; nothing has changed.
        """
        application = self._build()
        self._take_copies()
        self._application = application

    def run(self) -> None:
        """Serve until it is stopped."""
        try:
            ConsoleArbiter(self).run()
        except RuntimeError as exc:
            print(f"mksfilter: {exc}", file=sys.stderr)
            sys.exit(1)

    def name_of(self, setting: str) -> str | None:
        """The file that *setting* named, of which there is a copy now."""
        name: str | None = self._settings.get(setting)
        return name

    def _take_copies(self) -> None:
        """Certificate and key as they are now: a worker that replaces one that died takes the same
        as its siblings, whatever has become of the files."""
        copies = {}
        for setting in _FILES:
            path = self._settings.get(setting)
            if path:
                copies[setting] = _copy_in_memory(path, setting)
        for setting, fd in copies.items():
            before = getattr(self.cfg, setting) or ""
            self.cfg.set(setting, f"{_DESCRIPTORS}{fd}")
            if before.startswith(_DESCRIPTORS):
                os.close(int(before.removeprefix(_DESCRIPTORS)))


_DESCRIPTORS: Final = "/proc/self/fd/"


def _copy_in_memory(path: str, setting: str) -> int:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as exc:
        raise ConfigurationError(f"--{setting} {path}: {exc.strerror or exc}") from exc
    fd = os.memfd_create(f"mksfilter-{setting}")
    with open(fd, "wb", closefd=False) as copy:
        copy.write(content)
    return fd
