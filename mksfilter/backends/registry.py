"""Which kinds of console there are, and which one a vCenter has."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

from mksfilter.backends.base import Backend
from mksfilter.backends.mks import MKS
from mksfilter.backends.vcenter import VCenterConsole
from mksfilter.backends.vsphere.client import About
from mksfilter.backends.webmks import WebMKS
from mksfilter.config import VCenterSettings
from mksfilter.exceptions import ConfigurationError

__all__ = ["ENTRY_POINTS", "automatic", "load"]

ENTRY_POINTS = "mksfilter.backends"

_BUILT_IN: dict[str, type[Backend]] = {"webmks": WebMKS, "vcenter": VCenterConsole, "mks": MKS}


def automatic(about: About) -> str:
    """The best kind that a server has: webmks since 6.0, before that what there was.

    A single ESXi host of 5.5 has no console proxy, and a vCenter no authd.
    """
    if about.api_version >= (6, 0):
        return "webmks"
    return "vcenter" if about.is_vcenter else "mks"


def load(settings: VCenterSettings) -> Callable[[About], Backend]:
    """The kind of console that ``backend`` names, as a function of what the server is.

    :raises ConfigurationError: there is no such kind, or its package cannot be imported.
    """
    if settings.backend == "auto":
        return lambda about: _BUILT_IN[automatic(about)](settings)
    backend = _kind(settings)(settings)
    return lambda _about: backend


def _kind(settings: VCenterSettings) -> Callable[[VCenterSettings], Backend]:
    # Ours are entry points too, for the list of them to be complete; they work in a checkout that
    # was never installed, and no other package replaces them.
    if settings.backend in _BUILT_IN:
        return _BUILT_IN[settings.backend]
    group = importlib.metadata.entry_points(group=ENTRY_POINTS)
    for entry in group:
        if entry.name == settings.backend:
            try:
                loaded: Callable[[VCenterSettings], Backend] = entry.load()
            except Exception as exc:
                raise ConfigurationError(
                    f"[vcenter.{settings.name}] backend {settings.backend}: {entry.value} cannot "
                    f"be imported: {type(exc).__name__}: {exc}"
                ) from exc
            return loaded
    known = sorted({*_BUILT_IN, "auto", *(entry.name for entry in group)})
    raise ConfigurationError(
        f"[vcenter.{settings.name}] backend {settings.backend!r} is unknown; "
        f"known are {', '.join(known)}"
    )
