"""vCenter's events beside ours: which consoles did not come through us. No I/O.

vCenter knows the account that took a console's ticket, which is ours for every console of
ours, and the VM; it knows neither the user nor the session. So a console is ours when its account
is, and an ``opened`` or ``resumed`` of that VM stands within some seconds of it that no other
console has taken already. A ticket that nobody connected with counts too: whoever has our account's
password may take one. One of ours that came to nothing is a ``refused``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from mksfilter.audit.events import AuditEvent, timestamp

__all__ = ["Foreign", "VCenterEvent", "reconcile"]

CONNECTED: Final = "VmRemoteConsoleConnectedEvent"
ACQUIRED: Final = "VmAcquiredTicketEvent"


@dataclasses.dataclass(frozen=True)
class VCenterEvent:
    """One of vCenter's.

    :param kind: the name of its type.
    :param time: seconds since the epoch, by vCenter's clock.
    :param user: the account.
    :param vm: managed object id.
    :param name: of the VM.
    :param host: name of its host.
    """

    key: int
    kind: str
    time: float
    vcenter: str
    user: str
    vm: str
    name: str = ""
    host: str = ""


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A console or a ticket that did not come through us, and why we think so."""

    event: VCenterEvent
    reason: str

    def __str__(self) -> str:
        event = self.event
        what = "console" if event.kind == CONNECTED else "ticket"
        where = f" on {event.host}" if event.host else ""
        return (
            f"{timestamp(event.time)} vcenter {event.vcenter}: {what} of {event.name or event.vm} "
            f"({event.vm}){where} by {event.user or 'nobody'}: {self.reason}"
        )


def reconcile(
    theirs: Iterable[VCenterEvent],
    ours: Iterable[AuditEvent],
    *,
    accounts: dict[str, str],
    tolerance: float = 30.0,
) -> list[Foreign]:
    """What is in vCenter's events and not in ours, in time order.

    :param accounts: vCenter's name -> the account that we log in with there.
    :param tolerance: seconds by which the two clocks, and the two moments, may differ.
    """
    events = sorted(theirs, key=lambda event: (event.time, event.key))
    told = [event for event in ours if event.service == "proxy" or event.action == "asked"]
    consoles = _Unclaimed(told, ("opened", "resumed"))
    # A ticket precedes its console; ticket_at = issue takes it when the link is asked for.
    tickets = _Unclaimed(told, ("opened", "resumed", "refused", "asked"))
    foreign = []
    for event in events:
        unclaimed = {CONNECTED: consoles, ACQUIRED: tickets}.get(event.kind)
        if unclaimed is None:
            continue
        account = accounts.get(event.vcenter, "")
        if not _same_account(event.user, account):
            foreign.append(Foreign(event, f"not our account {account}"))
        elif not unclaimed.claim(event, tolerance):
            foreign.append(Foreign(event, "our account, and no node of ours knows of it"))
    return foreign


class _Unclaimed:
    """Events of ours that explain one of vCenter's each, by VM."""

    def __init__(self, events: Sequence[AuditEvent], actions: tuple[str, ...]) -> None:
        self._events = [event for event in events if event.action in actions]
        self._claimed: set[str] = set()

    def claim(self, theirs: VCenterEvent, tolerance: float) -> bool:
        near = [
            event
            for event in self._events
            if event.id not in self._claimed
            and abs(event.time - theirs.time) <= tolerance
            and _explains(event, theirs)
        ]
        if not near:
            return False
        # One that names the VM is better than one that could not say.
        best = min(near, key=lambda event: (not event.vm, abs(event.time - theirs.time)))
        self._claimed.add(best.id)
        return True


def _explains(ours: AuditEvent, theirs: VCenterEvent) -> bool:
    if ours.vm:
        return (ours.vcenter, ours.vm) == (theirs.vcenter, theirs.vm)
    # Refused, or asked for, before the VM was found.
    return ours.action in ("refused", "asked") and bool(ours.instance)


def _same_account(theirs: str, ours: str) -> bool:
    """``VSPHERE.LOCAL\\nova`` in an event is ``nova@vsphere.local`` at the log-in."""
    return _spelled(theirs) == _spelled(ours)


def _spelled(account: str) -> str:
    domain, slash, name = account.rpartition("\\")
    return (f"{name}@{domain}" if slash else account).lower()
