"""A fault in a configuration, and what to do about it."""

from __future__ import annotations

import dataclasses

__all__ = ["Finding"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """``str()`` is the one line an operator reads.

    :param where: file, and section or pipeline in it.
    :param problem: what is wrong there.
    :param remedy: what to do; empty where the problem says it.
    """

    where: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}"
        return f"{text}; {self.remedy}" if self.remedy else text
