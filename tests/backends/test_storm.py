"""A node with many sessions dies, and all of them come back to another at once."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterator

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.simulator.client import SimulatedVSphere, start

CALLERS = 1000


@pytest.fixture(scope="module")
def large_vsphere() -> Iterator[SimulatedVSphere]:
    with start("--vms", "200") as simulated:
        yield simulated


@pytest.mark.slow
def test_a_thousand_are_served_and_vcenter_sees_the_bound(
    large_vsphere: SimulatedVSphere, consoles_of: Callable[..., Consoles]
) -> None:
    large_vsphere.reset()
    large_vsphere.set_vcenter(delay=0.01)
    consoles = consoles_of(large_vsphere.vcenter_settings(pool_size=8), queue_timeout=60)
    running = [vm["uuid"] for vm in large_vsphere.vms if vm["power"] == "on"]
    served: collections.Counter[str] = collections.Counter()
    errors: list[BaseException] = []
    go = threading.Event()

    def reconnect(number: int) -> None:
        go.wait(60)
        try:
            instance = running[number % len(running)]
            consoles.connect(instance, user_id=f"user-{number % 50}")
            served[instance] += 1
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=reconnect, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(100)
    assert errors == []
    assert sum(served.values()) == CALLERS
    calls = large_vsphere.calls()
    assert calls["max_in_flight"] == 8
    assert calls["connections"] <= 1 + 8, "one to agree on a version, eight that are kept"
    assert calls["calls"]["Login"] == 1
