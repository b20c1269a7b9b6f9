"""Which machines of a vCenter are off while somebody waits for them to start.

A page whose machine is off asks again every second or two, so that the console is there before the
boot menu is gone. vCenter must not hear each of these questions: one of the processes of a node
asks once a second for all machines that are waited for, in one call (``PropertyCollector``), and
the others read what it found in the :class:`.shared_record.SharedRecord`.

* A machine is watched from a refusal on, for as long as somebody goes on asking for it.
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
from mksfilter.exceptions import BackendError, InstanceNotFound
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
_PROPERTIES: Final = ("config.instanceUuid", "runtime.powerState")


class _Watched(NamedTuple):
    """One machine, as it stands in the record.

    :ivar moid: of its VM.
    :ivar state: its ``runtime.powerState``; ``""``: not looked at yet.
    :ivar asked: when it was last asked for; monotonic seconds, the same for all processes.
    """

    moid: str
    state: str
    asked: float


class PowerWatch:
    """The machines of one vCenter that are waited for. Thread-safe.

    :param ask: instance UUID -> id of its VM, to instance UUID -> its power state now; what is not
        that instance any more is left out.
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
        return cls(session.name, functools.partial(_power_states, session), record)

    def require_running(self, instance_uuid: str) -> None:
        """Whether the machine may run, as far as is known without asking vCenter.

        :raises InstancePoweredOff: it was off a moment ago; InstanceSuspended.
        """
        record = self._record.read()
        watched = _machines(record).get(instance_uuid)
        now = self._clock()
        if watched is None or not 0 <= now - _number(record.get("seen")) < _FRESH:
            return
        if now - watched.asked > _RENEW:
            self.watch(instance_uuid, watched.moid)
        else:
            self._start()
        faults.check_power(watched.state, self._vcenter, instance_uuid)

    def watch(self, instance_uuid: str, moid: str) -> None:
        """Somebody waits for the machine, which is off; forgotten when too many are."""

        def note(record: dict[str, Any]) -> None:
            machines = self._wanted(record)
            known = machines.get(instance_uuid)
            if known is None and len(machines) >= MOST:
                return
            state = "" if known is None or known.moid != moid else known.state
            machines[instance_uuid] = _Watched(moid, state, self._clock())
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
            state = found.get(uuid, "")
            if faults.is_asleep(state):
                machines[uuid] = _Watched(machines[uuid].moid, state, machines[uuid].asked)
            else:
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


def _power_states(session: Session, vms: Mapping[str, str]) -> dict[str, str]:
    found = session.run(
        lambda: session.ask(
            lambda client: client.properties("VirtualMachine", list(vms.values()), _PROPERTIES),
            about=next(iter(vms)),
        )
    )
    states = {}
    for uuid, moid in vms.items():
        instance_uuid, state = (str(found.get(moid, {}).get(name) or "") for name in _PROPERTIES)
        if instance_uuid.lower() == uuid:
            states[uuid] = state
    return states


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
