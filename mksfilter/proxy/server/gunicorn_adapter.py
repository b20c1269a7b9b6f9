"""gunicorn: the one module that relies on names that its documentation does not have.
docs/development.md lists them; each is named below where it is used.

What a worker overrides of ``gunicorn.workers.base.Worker`` stands in
:mod:`mksfilter.proxy.server.worker`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, TypeVar

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config

from mksfilter.log_format import JSONFormatter

__all__ = [
    "EmbeddedServer",
    "close_control_socket",
    "exit_for_good",
    "format_logs",
    "keep_mark",
]


_Application = TypeVar("_Application")


class EmbeddedServer(BaseApplication, Generic[_Application]):
    """gunicorn with a table of settings in place of its command line.

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

    def load(self) -> _Application:
        """See :meth:`wsgi`."""
        return self._application

    def wsgi(self) -> _Application:
        """The application. gunicorn's own ``wsgi`` keeps for ever what ``load`` gave it first."""
        return self._application

    def reload(self) -> None:
        """SIGHUP. gunicorn's own would read its command line again."""
        self._application = self._build()


def exit_for_good() -> NoReturn:
    """End a worker whose application cannot be loaded: the arbiter stops too, where it would
    otherwise start worker after worker (``Arbiter.APP_LOAD_ERROR``)."""
    sys.exit(Arbiter.APP_LOAD_ERROR)


def close_control_socket(cfg: Any) -> None:
    """Keep the master from opening gunicorn's control socket (25.1 and later): a second way into
    the process, of no use here. One that the operator has named stays."""
    if hasattr(cfg, "control_socket_disable") and cfg.control_socket == Config().control_socket:
        cfg.set("control_socket_disable", True)


#: Attribute of the handlers that gunicorn has made, and takes away when it reloads.
_MADE_BY_GUNICORN = "_gunicorn"


def keep_mark(handler: logging.Handler, successor: logging.Handler) -> None:
    """*successor* takes the place of *handler* in gunicorn's eyes too."""
    if getattr(handler, _MADE_BY_GUNICORN, False):
        setattr(successor, _MADE_BY_GUNICORN, True)


def format_logs(formatter: logging.Formatter) -> None:
    """gunicorn's own lines look like ours. Its access log keeps Apache's format, unless ours is
    JSON; what an operator has configured himself stays as it is."""
    names = ["gunicorn.error"]
    if isinstance(formatter, JSONFormatter):
        names.append("gunicorn.access")
    for name in names:
        for handler in logging.getLogger(name).handlers:
            if getattr(handler, _MADE_BY_GUNICORN, False):
                handler.setFormatter(formatter)
