"""How many consoles are being opened at the same time, and whose turn it is. No I/O.

A console that is being opened waits for vCenter and for its host, and takes a greenlet and a place
among the worker's requests as long. Each user and each address has a few such places; whoever asks
for more waits behind them, in a line of their own, and a line that is too long is refused. When all
places are taken the lines take turns, so that a user who opens a hundred consoles delays another
one's first by one turn. When even the lines are full, the newcomer takes the place of the last in
the longest line, unless that is his own. Whoever finds all lines full is told when to come again.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from mksfilter.exceptions import OpeningLimitReached
from mksfilter.proxy.console.appointments import Appointments
from mksfilter.proxy.console.limits import network, subtract

__all__ = ["Opening", "Openings"]


class Opening:
    """One console that is being opened, or waits to be.

    :ivar refused: why it is not; None while it may be.
    :ivar admitted: it has its place.
    """

    __slots__ = ("_wake", "address", "admitted", "line", "refused", "user")

    def __init__(self, user: str, address: str, line: str, wake: Callable[[], object]) -> None:
        self.user = user
        self.address = address
        self.line = line
        self.admitted = False
        self.refused: OpeningLimitReached | None = None
        self._wake = wake

    def admit(self) -> None:
        """It has a place from now on."""
        self.admitted = True
        self._wake()

    def refuse(self, why: OpeningLimitReached) -> None:
        """It gets none."""
        self.refused = why
        self._wake()


class Openings:
    """
    :param total: places of a worker process.
    :param per_user: places of one user; 0: as many as there are. So for *per_address*.
    :param per_line: how many may wait in the line of one user; in that of an address, for tokens
        that name no user, four times as many.
    :param waiting: how many may wait in all lines together.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        total: int,
        *,
        per_user: int = 0,
        per_address: int = 0,
        per_line: int = 64,
        waiting: int = 512,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._configured = (per_user, per_address)
        self._per_user = per_user or total
        self._per_address = per_address or total
        self._per_line = per_line
        self._most_waiting = waiting
        self._taken = 0
        self._users: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        # By whose turn it is: a user's line, or an address's where a token names no user.
        self._lines: OrderedDict[str, deque[Opening]] = OrderedDict()
        self._waiting = 0
        self._appointments = Appointments(total, clock=clock)

    def __len__(self) -> int:
        """Places taken."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return self._waiting

    @property
    def use(self) -> dict[str, tuple[int, int]]:
        """As :attr:`.limits.SessionLimits.use`; ``openings`` and ``openings_waiting`` have no
        option."""
        per_user, per_address = self._configured
        return {
            "max_openings_per_user": (
                per_user,
                max((taken for user, taken in self._users.items() if user), default=0),
            ),
            "max_openings_per_address": (per_address, max(self._addresses.values(), default=0)),
            "openings": (self._total, self._taken),
            "openings_waiting": (self._most_waiting, self._waiting),
        }

    def ask(self, user: str, address: str, wake: Callable[[], object]) -> Opening:
        """A place for *user* at *address*, or a place in the line for one.

        :param user: empty: a token that names none.
        :param wake: called when the opening is admitted or refused, be it at once or later.
        :raises OpeningLimitReached: the line is too long, or all are: then its ``seconds`` tell
            when to come again.
        """
        address = network(address)
        opening = Opening(user, address, user or address, wake)
        line = self._lines.get(opening.line)
        if not line and self._has_place(opening):
            self._admit(opening)
            return opening
        most = self._per_line if user else 4 * self._per_line
        if line is not None and len(line) >= most:
            raise self._too_many(opening)
        if self._waiting >= self._most_waiting:
            self._make_room(opening, len(line or ()))
        self._lines.setdefault(opening.line, deque()).append(opening)
        self._waiting += 1
        return opening

    def leave(self, opening: Opening) -> None:
        """*opening* is over, or is given up; the next one in turn gets its place."""
        if opening.admitted:
            opening.admitted = False
            self._taken -= 1
            self._appointments.opened()
            subtract(self._users, opening.user)
            subtract(self._addresses, opening.address)
        elif opening.refused is None:
            self._remove(opening)
        self._admit_next()

    def _has_place(self, opening: Opening) -> bool:
        return (
            self._taken < self._total
            and (not opening.user or self._users.get(opening.user, 0) < self._per_user)
            and self._addresses.get(opening.address, 0) < self._per_address
        )

    def _admit(self, opening: Opening) -> None:
        self._taken += 1
        self._users[opening.user] = self._users.get(opening.user, 0) + 1
        self._addresses[opening.address] = self._addresses.get(opening.address, 0) + 1
        opening.admit()

    def _admit_next(self) -> None:
        while self._lines and self._taken < self._total:
            firsts = (waiting[0] for waiting in self._lines.values())
            first = next(filter(self._has_place, firsts), None)
            if first is None:
                return
            self._remove(first)
            if first.line in self._lines:
                self._lines.move_to_end(first.line)
            self._admit(first)

    def _make_room(self, newcomer: Opening, length: int) -> None:
        """The last of the longest line goes.

        :param length: of the newcomer's own line.
        :raises OpeningLimitReached: that is the newcomer himself.
        """
        longest = max(self._lines.values(), key=len)
        if len(longest) <= length + 1:
            raise self._too_many(newcomer, seconds=self._appointments.give(self._waiting))
        last = longest[-1]
        self._remove(last)
        last.refuse(self._too_many(last, seconds=self._appointments.give(self._waiting)))

    def _remove(self, opening: Opening) -> None:
        line = self._lines[opening.line]
        line.remove(opening)
        self._waiting -= 1
        if not line:
            del self._lines[opening.line]

    def _too_many(self, opening: Opening, **facts: float) -> OpeningLimitReached:
        who = f"user {opening.user}" if opening.user else f"address {opening.address}"
        return OpeningLimitReached(
            f"{who}: {self._users[opening.user] or self._addresses[opening.address]} consoles are "
            f"being opened, and {len(self._lines.get(opening.line, ()))} wait",
            **facts,
        )
