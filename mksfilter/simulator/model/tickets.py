"""Tickets: one use, a short life, and good for what they were asked for."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable

from mksfilter.simulator.model.inventory import VM, VCenter

__all__ = ["CLONE_PREFIX", "Ticket", "Tickets"]

# A clone ticket is this and its secret.
CLONE_PREFIX = "cst-VCT-"


@dataclasses.dataclass(frozen=True)
class Ticket:
    """What a ticket opens.

    :ivar kind: ``webmks``, ``mks`` or ``clone``.
    :ivar vcenter: which vCenter gave it.
    :ivar vm: the VM whose console it opens; a clone ticket names none.
    :ivar user: whose vCenter session it was taken in.
    """

    kind: str
    vcenter: VCenter
    vm: VM | None
    user: str
    expires: float
    secret: str = dataclasses.field(repr=False)


class Tickets:
    """Tickets that were given out and not used yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, Ticket] = {}
        self.issued = 0

    def issue(self, kind: str, user: str, vcenter: VCenter, vm: VM | None = None) -> str:
        """Make a ticket and return its secret."""
        secret = secrets.token_hex(8)
        expires = self._clock() + vcenter.state.ticket_lifetime
        self._open[secret] = Ticket(kind, vcenter, vm, user, expires, secret)
        self.issued += 1
        return secret

    def redeem(self, secret: str, *kinds: str) -> Ticket | None:
        """The ticket, once; ``None`` for an unknown, used, expired or other kind of one."""
        ticket = self._open.pop(secret, None)
        if ticket is None or ticket.kind not in kinds or ticket.expires < self._clock():
            return None
        return ticket

    def clear(self) -> None:
        self._open.clear()
        self.issued = 0
