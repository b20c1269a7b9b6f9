"""Which VM an instance is, remembered for a while."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from mksfilter.backends.vsphere.client import VM
from mksfilter.lru import LRUMap

__all__ = ["VMCache"]


class VMCache:
    """Instance UUID -> VM, bounded in number and in time. No I/O; the clock is passed in.

    :param size: entries; the one used longest ago goes first.
    :param lifetime: seconds since an entry was last verified after which it is forgotten.
    :param freshness: seconds for which an entry's ``instanceUuid`` need not be read again.
    """

    def __init__(
        self,
        *,
        size: int = 10_000,
        lifetime: float = 3600.0,
        freshness: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lifetime = lifetime
        self._freshness = freshness
        self._clock = clock
        self._entries: LRUMap[str, tuple[VM, float]] = LRUMap(size)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, instance_uuid: str) -> bool:
        return self.get(instance_uuid) is not None

    def get(self, instance_uuid: str) -> tuple[VM, bool] | None:
        """The VM, marked as ``remembered``, and whether it was verified not long ago."""
        entry = self._entries.get(instance_uuid)
        if entry is None:
            return None
        vm, verified = entry
        age = self._clock() - verified
        if age >= self._lifetime:
            self.forget(instance_uuid)
            return None
        return vm, age < self._freshness

    def put(self, vm: VM) -> None:
        """Remember *vm*, whose ``instanceUuid`` was read just now."""
        entry = (dataclasses.replace(vm, remembered=True), self._clock())
        self._entries.put(vm.instance_uuid, entry)

    def forget(self, instance_uuid: str) -> None:
        self._entries.forget(instance_uuid)

    def clear(self) -> None:
        self._entries.clear()
