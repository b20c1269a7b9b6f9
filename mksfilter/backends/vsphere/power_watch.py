"""Which machines of a vCenter have no console while somebody waits for them to have one.

A page whose machine is off asks again every second or two, so that the console is there before the
boot menu is gone. vCenter must not hear each of these questions: one of the processes of a node
asks once a second for all machines that are waited for, in one call (``PropertyCollector``), and
the others read what it found in the :class:`.shared_record.SharedRecord`.

* Machines that are off are waited for, and those that vSphere HA starts anew or that wait for an
  answer in vCenter: reasons whose ``retry`` is ``wait``.
* A machine is watched from a refusal on, for as long as somebody goes on asking for it and vCenter
  has the same to say of it.
* What was not looked at for a moment is not known: the question then goes to vCenter, by its queue
  and breaker, as any other.
* A call of ``WaitForUpdatesEx`` would tell sooner, but holds one of the connections of the session,
  has to be made anew whenever a machine comes or goes, and gets lost with a vCenter's restart.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from mksfilter.backends.vsphere import faults
from mksfilter.backends.vsphere.session import Session
from mksfilter.backends.vsphere.shared_record import SharedRecord
from mksfilter.exceptions import (
    BackendError,
    InstanceNotFound,
    InstancePoweredOff,
    InstanceSuspended,
    MachineAsks,
    MachineFailingOver,
)
from mksfilter.log import event

__all__ = ["INTEREST", "LOOK_EVERY", "MOST", "PowerWatch"]

LOG = logging.getLogger(__name__)

#: Seconds between two looks.
LOOK_EVERY: Final = 1.0
#: Seconds for which what was seen counts.
_FRESH: Final = 5.0
#: Seconds after the last question at which a machine is not watched any more.
INTEREST: Final = 20.0
#: Seconds after which a further question is written down.
_RENEW: Final = 5.0
#: Machines watched at a time, in each vCenter; all of them fit into the record.
MOST: Final = 500
#: Threads are late now and then.
_MARGIN: Final = 0.8
#: What is waited for, by reason, and what is to be done.
_WAITED_FOR: Final[dict[str, tuple[type[BackendError], str]]] = {
    error.reason: (error, remedy)
    for error, remedy in (
        (InstancePoweredOff, "is powered off; start it"),
        (InstanceSuspended, "is suspended; resume it"),
        (MachineAsks, "waits for an answer in vCenter; give it there"),
        (MachineFailingOver, "is being started on another host by vSphere HA"),
    )
}


class _Watched(NamedTuple):
    """One machine, as it stands in the record.

    :ivar moid: of its VM.
    :ivar reason: why it has no console.
    :ivar asked: when it was last asked for; monotonic seconds, the same for all processes.
    """

    moid: str
    reason: str
    asked: float


class PowerWatch:
    """The machines of one vCenter that are waited for. Thread-safe.

    :param ask: instance UUID -> id of its VM, to instance UUID -> the reason for which it has no
        console now, ``""`` where it may have one; what is not that instance any more is left out.
    :param record: shared by the processes of this node, and used for nothing else.
    :param clock: seconds, the same for these processes.
    """

    def __init__(
        self,
        vcenter: str,
        ask: Callable[[Mapping[str, str]], Mapping[str, str]],
        record: SharedRecord,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vcenter = vcenter
        self._ask = ask
        self._record = record
        self._clock = clock
        self._lock = threading.Lock()
        self._running = False
        self._wake = threading.Event()
        self._closed = False

    @classmethod
    def of(cls, session: Session, record: SharedRecord) -> PowerWatch:
        """That of the vCenter of *session*."""
        return cls(session.name, functools.partial(_reasons, session), record)

    def require_running(self, instance_uuid: str) -> None:
        """Whether the machine may run, as far as is known without asking vCenter.

        :raises BackendError: it could not a moment ago; of those that are waited for.
        """
        record = self._record.read()
        watched = _machines(record).get(instance_uuid)
        now = self._clock()
        if watched is None or not 0 <= now - _number(record.get("seen")) < _FRESH:
            return
        if now - watched.asked > _RENEW:
            self.watch(instance_uuid, watched.moid, watched.reason)
        else:
            self._start()
        if watched.reason in _WAITED_FOR:  # else it is another release's
            error, remedy = _WAITED_FOR[watched.reason]
            raise error(f"vcenter {self._vcenter}: instance {instance_uuid} {remedy}")

    def watch(self, instance_uuid: str, moid: str, reason: str) -> None:
        """Somebody waits for the machine, which has no console for *reason*; forgotten when too
        many are."""

        def note(record: dict[str, Any]) -> None:
            machines = self._wanted(record)
            known = machines.get(instance_uuid)
            if known is None and len(machines) >= MOST:
                return
            machines[instance_uuid] = _Watched(moid, reason, self._clock())
            record["machines"] = machines

        self._record.change(note)
        self._start()

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._wake.set()

    def look(self) -> bool:
        """Ask for all that are waited for, unless another process has just done so.

        :returns: whether any is.
        """
        wanted: dict[str, _Watched] = {}
        mine = False

        def take_turn(record: dict[str, Any]) -> None:
            nonlocal wanted, mine
            wanted = self._wanted(record)
            now = self._clock()
            mine = not 0 <= now - _number(record.get("looked")) < LOOK_EVERY * _MARGIN
            if mine:
                record["looked"] = now
            record["machines"] = wanted

        if self._wanted(self._record.read()):
            self._record.change(take_turn)
        if not wanted:
            return False
        if mine:
            began = self._clock()
            try:
                found = self._ask({uuid: each.moid for uuid, each in wanted.items()})
            except InstanceNotFound:
                # One was deleted, and which is not said: whoever waits for one asks anew.
                found = {}
            except BackendError as exc:
                LOG.debug(event("power-not-seen", vcenter=self._vcenter, detail=exc))
                return True
            self._record.change(lambda record: self._note(record, set(wanted), found, began))
        return True

    def _note(
        self, record: dict[str, Any], asked: set[str], found: Mapping[str, str], began: float
    ) -> None:
        machines = self._wanted(record)
        for uuid in asked & machines.keys():
            # Another reason is told by who is asked for a ticket, in all its words.
            if found.get(uuid, "") != machines[uuid].reason:
                del machines[uuid]
        record["machines"] = machines
        record["seen"] = began

    def _wanted(self, record: Mapping[str, Any]) -> dict[str, _Watched]:
        now = self._clock()
        return {
            uuid: each
            for uuid, each in _machines(record).items()
            if 0 <= now - each.asked < INTEREST
        }

    def _start(self) -> None:
        with self._lock:
            if self._running or self._closed:
                return
            self._running = True
        threading.Thread(
            target=self._run, name=f"vcenter-{self._vcenter}-power", daemon=True
        ).start()

    def _run(self) -> None:
        try:
            while not self._closed and self.look():
                self._wake.wait(LOOK_EVERY)
        except Exception as exc:  # a thread that ends so is noticed by nobody
            LOG.error(event("power-watch-failed", vcenter=self._vcenter, detail=exc), exc_info=exc)
        finally:
            with self._lock:
                self._running = False


def _reasons(session: Session, vms: Mapping[str, str]) -> dict[str, str]:
    found = session.run(lambda: session.machines(vms))
    return {uuid: faults.waiting_for(vm, session.name) for uuid, vm in found.items()}


def _machines(record: Mapping[str, Any]) -> dict[str, _Watched]:
    """Those of the record, which another release of ours may have written."""
    written = record.get("machines")
    if not isinstance(written, dict):
        return {}
    return {
        str(uuid): _Watched(str(each[0]), str(each[1]), _number(each[2]))
        for uuid, each in written.items()
        if isinstance(each, (list, tuple)) and len(each) == 3
    }


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
