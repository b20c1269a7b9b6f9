"""What happened to consoles, as a vCenter's event log has it."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import itertools
from collections.abc import Iterator

from mksfilter.simulator.model.inventory import VM, VCenter

__all__ = ["ACQUIRED", "CONNECTED", "DISCONNECTED", "Event", "EventLog", "clock_of"]

ACQUIRED = "VmAcquiredTicketEvent"
CONNECTED = "VmRemoteConsoleConnectedEvent"
DISCONNECTED = "VmRemoteConsoleDisconnectedEvent"

_MOST = 10_000


@dataclasses.dataclass(frozen=True)
class Event:
    """One of them.

    :ivar user: the account of the vCenter session; nobody who looks at the console is known.
    """

    key: int
    kind: str
    time: datetime.datetime
    user: str
    vm: VM
    moid: str
    host: str


class EventLog:
    """The event logs of all vCenters; of each the newest are kept."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._events: dict[str, collections.deque[Event]] = {}

    def record(self, kind: str, vcenter: VCenter, vm: VM, user: str) -> None:
        event = Event(next(self._numbers), kind, clock_of(vcenter), user, vm, vm.moid, vm.host.name)
        log = self._events.setdefault(vcenter.name, collections.deque(maxlen=_MOST))
        log.append(event)

    def of(self, vcenter: VCenter) -> Iterator[Event]:
        """Those of one vCenter, oldest first."""
        return iter(list(self._events.get(vcenter.name, ())))

    def clear(self) -> None:
        self._events.clear()


def clock_of(vcenter: VCenter) -> datetime.datetime:
    """What time it is, by the vCenter's clock."""
    offset = datetime.timedelta(seconds=vcenter.state.clock_offset)
    return datetime.datetime.now(datetime.timezone.utc) + offset
