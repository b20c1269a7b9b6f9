"""What setup.cfg asks for."""

from __future__ import annotations

import configparser

from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.source import ROOT

__all__ = ["EXTRAS", "floor", "requirements"]

#: The extras that a site may install; the others are for tests.
EXTRAS = ("vcenter", "proxy", "simulator", "memcached", "redis", "nova", "audit")

_SETUP = configparser.ConfigParser(interpolation=None)
_SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def requirements(*extras: str) -> list[Requirement]:
    """What ``pip install mksfilter`` asks for, or what each of *extras* adds to that.

    Those that are for another Python than this one are left out.
    """
    lines = [] if extras else _SETUP["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += _SETUP["options.extras_require"][extra].splitlines()
    found: list[Requirement] = []
    for requirement in map(Requirement, filter(None, lines)):
        if requirement.name == "mksfilter":
            found += requirements(*requirement.extras)
        elif requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return list(dict.fromkeys(found))


def floor(requirement: Requirement) -> Version:
    """The lowest version that *requirement* admits.

    :raises ValueError: it has no floor.
    """
    return max(Version(each.version) for each in requirement.specifier if each.operator == ">=")
