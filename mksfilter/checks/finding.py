"""A fault in a configuration, and what to do about it; or what is good, or cannot be known here."""

from __future__ import annotations

import dataclasses
import enum

__all__ = ["Finding", "Kind"]


class Kind(enum.Enum):
    """What a finding means; its value is how its line begins."""

    ERROR = ""
    WARNING = "warning: "
    UNCHECKED = "not checked: "
    GOOD = "good: "


@dataclasses.dataclass(frozen=True)
class Finding:
    """``str()`` is the one line an operator reads.

    :param where: file, and section or pipeline in it, as the operator wrote them.
    :param problem: what is wrong (or good) there.
    :param remedy: what to do; empty where the problem says it.
    """

    where: str
    problem: str
    remedy: str = ""
    kind: Kind = Kind.ERROR

    def __str__(self) -> str:
        text = f"{self.kind.value}{self.where}: {self.problem}"
        return f"{text}; {self.remedy}" if self.remedy else text
