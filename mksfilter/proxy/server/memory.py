"""Memory that sessions have left behind goes back to the system.

A thousand sessions that end leave no object, and much free memory between what stays: the C
library keeps it for the next thousand, which may come tomorrow. glibc gives it back when it is
asked to (malloc_trim(3)); other C libraries do so by themselves, or have no such call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

__all__ = ["Reclaimer", "give_back"]

#: Sessions that have to end before it is worth while: some megabytes.
_MANY: Final = 100
#: Looks, one a second, without an end of a session: it takes milliseconds, and who has just closed
#: a page often opens another.
_QUIET: Final = 5


def give_back() -> None:
    """Give free memory of the C library back to the system; a few milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


class Reclaimer:
    """Asks for it when many sessions have ended and no other one ends.

    :param give_back: asks for it.
    """

    def __init__(self, give_back: Callable[[], None] = give_back) -> None:
        self._give_back = give_back
        self._most = 0
        self._last = 0
        self._quiet = 0

    def look(self, sessions: int) -> None:
        """Called every second with the number of sessions."""
        self._quiet = 0 if sessions < self._last else self._quiet + 1
        self._last = sessions
        self._most = max(self._most, sessions)
        if self._quiet >= _QUIET and self._most - sessions >= _MANY:
            self._most = sessions
            self._give_back()
