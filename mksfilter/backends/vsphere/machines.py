"""Which VMs and hosts give no answer although their vCenter does.

vCenter answers for a VM only after it has asked the VM's host, so that a call about a VM may hang
while vCenter is well. Who repeats it fills vCenter's call slots, and everybody else waits.

=======  =====================================================  =================================
of       is left alone                                          until
=======  =====================================================  =================================
a VM     after three calls in a row without an answer           a pause is over; one more failure
a host   after three such calls about two of its VMs or more    begins the next one, an answer
                                                                ends it
=======  =====================================================  =================================

No I/O; the clock is passed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from mksfilter.lru import LRUMap

__all__ = ["PAUSE", "Machines"]

#: Seconds for which a VM or host is left alone.
PAUSE: Final = 10.0

_THRESHOLD: Final = 3
_VMS_OF_A_HOST: Final = 2
_REMEMBERED: Final = 10_000


class _Silence:
    """Calls in a row that had no answer, and about which VMs."""

    __slots__ = ("failures", "until", "vms")

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0
        self.vms: set[str] = set()


class Machines:
    """The VMs and hosts of one vCenter that fail."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._vms: LRUMap[str, _Silence] = LRUMap(_REMEMBERED)
        self._hosts: LRUMap[str, _Silence] = LRUMap(_REMEMBERED)

    def retry_in(self, vm: str, host: str = "") -> float:
        """Seconds until a call about the VM is let through; 0: now.

        :param host: that it was on when it was last looked at; ``""``: not known.
        """
        now = self._clock()
        silences = (self._vms.get(vm), self._hosts.get(host) if host else None)
        return max((one.until - now for one in silences if one is not None), default=0.0)

    def failed(self, vm: str, host: str = "") -> None:
        """A call about the VM had no answer, and vCenter answers others."""
        self._count(self._vms, vm, vm, vms=1)
        if host:
            self._count(self._hosts, host, vm, vms=_VMS_OF_A_HOST)

    def answered(self, vm: str, host: str = "") -> None:
        """A call about the VM was answered."""
        if vm in self._vms:
            self._vms.forget(vm)
        if host and host in self._hosts:
            self._hosts.forget(host)

    def _count(self, of: LRUMap[str, _Silence], key: str, vm: str, *, vms: int) -> None:
        silence = of.get(key)
        if silence is None:
            silence = _Silence()
            of.put(key, silence)
        silence.failures += 1
        if len(silence.vms) < _VMS_OF_A_HOST:
            silence.vms.add(vm)
        if silence.failures >= _THRESHOLD and len(silence.vms) >= vms:
            silence.until = self._clock() + PAUSE
