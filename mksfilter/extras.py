"""Libraries that ``pip install mksfilter`` alone does not bring, and the extra that brings each.

The package without an extra is nova-api's side: filter, tokens, keys and checks. What needs more
imports it inside :func:`needed`, so that a missing library is one line with its remedy.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from mksfilter.exceptions import ConfigurationError

__all__ = ["LIBRARIES", "needed", "require"]

#: Module -> extra of setup.cfg.
LIBRARIES = {
    "gevent": "proxy",
    "geventwebsocket": "proxy",
    "gunicorn": "proxy",
    "prometheus_client": "proxy",
    "websockets": "proxy",
    "pyVmomi": "vcenter",
    "PIL": "simulator",
    "keystoneauth1": "nova",
    "pymemcache": "memcached",
    "redis": "redis",
    "oslo_messaging": "audit",
    "pycadf": "audit",
}


@contextlib.contextmanager
def needed(subject: str, *, extra: str = "") -> Iterator[None]:
    """Say what to install when an import in this context fails for the lack of a library.

    :param subject: what needs it, as the operator knows it: an option, a command.
    :param extra: the extra to name, where the subject needs more than the first missing library.
    :raises ConfigurationError: one of :data:`LIBRARIES` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        library = (exc.name or "").partition(".")[0]
        if library not in LIBRARIES:
            raise
        raise ConfigurationError(
            f"{subject} needs {library}, which is not installed: "
            f"pip install 'mksfilter[{extra or LIBRARIES[library]}]'"
        ) from exc


def require(subject: str, extra: str, *libraries: str) -> None:
    """The same for libraries that are imported by another process than this one.

    :raises ConfigurationError: one of *libraries* is not installed.
    """
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise ConfigurationError(
                f"{subject} needs {library}, which is not installed: "
                f"pip install 'mksfilter[{extra}]'"
            )
