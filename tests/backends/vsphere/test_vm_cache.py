from __future__ import annotations

import pytest

from mksfilter.backends.vsphere.client import VM
from mksfilter.backends.vsphere.vm_cache import VMCache
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def cache(clock: Clock) -> VMCache:
    return VMCache(size=2, lifetime=100, freshness=10, clock=clock)


def vm(uuid: str) -> VM:
    return VM(f"vm-{uuid}", uuid, "name", "poweredOn", "connected")


def test_what_was_just_verified_is_fresh(cache: VMCache, clock: Clock) -> None:
    cache.put(vm("a"))
    clock.now = 9
    found, fresh = cache.get("a") or pytest.fail("forgotten")
    assert (found.moid, found.remembered, fresh) == ("vm-a", True, True)


def test_what_was_verified_long_ago_is_not(cache: VMCache, clock: Clock) -> None:
    cache.put(vm("a"))
    clock.now = 10
    found, fresh = cache.get("a") or pytest.fail("forgotten")
    assert (found.moid, fresh) == ("vm-a", False)


def test_what_was_verified_very_long_ago_is_forgotten(cache: VMCache, clock: Clock) -> None:
    cache.put(vm("a"))
    clock.now = 100
    assert cache.get("a") is None
    assert len(cache) == 0


def test_verifying_again_renews(cache: VMCache, clock: Clock) -> None:
    cache.put(vm("a"))
    clock.now = 99
    cache.put(vm("a"))
    clock.now = 108
    _, fresh = cache.get("a") or pytest.fail("forgotten")
    assert fresh


def test_it_never_grows_beyond_its_size(cache: VMCache) -> None:
    for uuid in "abc":
        cache.put(vm(uuid))
    assert [uuid in cache for uuid in "abc"] == [False, True, True]
