"""Which API version to speak: the newest that both pyvmomi and the server know, 5.5 to 9.x."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from typing import Final

from mksfilter.backends.vsphere.adapter import known_versions

__all__ = ["OLDEST", "api_version", "newest_of", "newest_until", "published", "version_number"]

_NAMESPACE: Final = "vim25"
# API 4.1: enough to read ``about``, and to take a ticket of any kind.
OLDEST: Final = "vim.version.version6"


def api_version(text: str) -> tuple[int, ...]:
    """``"7.0.3.1"`` as numbers; parts that are none count as 0."""
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split(".") if part)


def newest_of(published: Iterable[str]) -> str:
    """pyvmomi's name of the newest version that the server says it speaks."""
    offered = set(published)
    return _newest(lambda number: number in offered)


def newest_until(release: str) -> str:
    """pyvmomi's name of the newest version that a server of this release must speak."""
    limit = api_version(release)
    return _newest(lambda number: api_version(number) <= limit)


def _newest(wanted: Callable[[str], bool]) -> str:
    known = known_versions()
    names = [OLDEST, *(name for name, number in known.items() if wanted(number))]
    return max(names, key=lambda name: api_version(known[name]))


def published(document: bytes) -> list[str]:
    root = ElementTree.fromstring(document)  # noqa: S314 - from a server whose certificate matched
    return [
        element.text or ""
        for namespace in root.iter("namespace")
        if namespace.findtext("name") == f"urn:{_NAMESPACE}"
        for element in namespace.iter("version")
    ]


def version_number(name: str) -> tuple[int, ...]:
    """The numbers of a version that pyvmomi calls *name*."""
    return api_version(known_versions()[name])
