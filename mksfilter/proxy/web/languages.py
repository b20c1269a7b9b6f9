"""In which language a page of the proxy's own is. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

__all__ = ["ENGLISH", "choose"]

ENGLISH: Final = "en"
_WEIGHT: Final = re.compile(r"\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*", re.I)
#: Languages of one header that are looked at; browsers name a handful.
_MOST: Final = 32


def choose(available: Collection[str], *, wanted: str = "", accept: str = "") -> str:
    """The language that its reader likes best of *available*, else English.

    As the console page chooses: the link's own, then the browser's.

    :param available: by their first subtag (RFC 5646), in lower case.
    :param wanted: a link's ``language``; some dashboards write ``ja_JP``.
    :param accept: ``Accept-Language`` (RFC 9110 section 12.5.4).
    """
    bases = (re.split("[-_]", tag.strip().lower(), maxsplit=1)[0] for tag in _tags(wanted, accept))
    return next((base for base in bases if base in available or base == ENGLISH), ENGLISH)


def _tags(wanted: str, accept: str) -> Iterator[str]:
    yield wanted
    weighted = []
    for element in accept.split(",", _MOST)[:_MOST]:
        tag, has_weight, parameter = element.partition(";")
        match = _WEIGHT.fullmatch(parameter)
        weight = float(match[1]) if match else 0.0 if has_weight else 1.0
        if weight:
            weighted.append((weight, tag))
    # Of the same weight the first comes first.
    for _, tag in sorted(weighted, key=lambda each: -each[0]):
        yield tag
