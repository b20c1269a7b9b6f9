"""gunicorn: the one module that relies on names that its documentation does not have.
docs/development.md lists them; each is named below where it is used.

What a worker overrides of ``gunicorn.workers.base.Worker`` stands in
:mod:`mksfilter.proxy.server.worker`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from gunicorn import sock
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config

from mksfilter.log_format import JSONFormatter

__all__ = [
    "close_control_socket",
    "exit_for_good",
    "format_logs",
    "keep_mark",
    "reopen_by",
    "tls_context",
]


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


def reopen_by(logger: Any, reopen: Callable[[], None]) -> None:
    """SIGUSR1: *reopen* in place of what gunicorn's *logger* would do, but for the file into which
    ``--capture-output`` has put standard output and standard error."""
    theirs = type(logger).reopen_files

    def reopen_files() -> None:
        if logger.cfg.capture_output:
            theirs(logger)
        reopen()

    logger.reopen_files = reopen_files


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


def tls_context(cfg: Any) -> Any:
    """What a worker speaks TLS with, as gunicorn makes it.

    :raises OSError: certificate, key or CA cannot be read, or do not fit (``ssl.SSLError``).
    """
    return sock.ssl_context(cfg)
