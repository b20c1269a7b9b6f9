"""What a console costs towards vCenter: CPU here, round trips, and time over many vCenters.

Beside it, what a script with pyvmomi's own ``SmartConnect`` costs that logs in for each console.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyVim.connect import Disconnect, SmartConnect

from mksfilter.backends.resolver import Consoles
from mksfilter.simulator.client import SimulatedVSphere, start

__all__ = ["run"]

#: Microseconds of CPU for find and ticket: 500 per second and core.
CPU_LIMIT = 2000.0
#: Calls to vCenter for find and ticket, on average.
ROUND_TRIP_LIMIT = 1.5

_VCENTERS = 20
_DELAY = 0.1


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows ``measure``, ``subject``, ``value``, ``unit`` and, where one is promised, ``limit``."""
    return [*_one_vcenter(quick), *_many_vcenters()]


def _one_vcenter(quick: bool) -> list[dict[str, Any]]:
    count = 200 if quick else 1000
    with (
        start("--vms", "500") as vsphere,
        contextlib.closing(Consoles([vsphere.vcenter_settings()])) as consoles,
    ):
        machines = [vm["uuid"] for vm in vsphere.vms if vm["power"] == "on"]
        known, new = machines[:10], iter(machines[10:])
        for instance in known:
            consoles.connect(instance)

        def connect_known(number: int) -> None:
            consoles.connect(known[number % len(known)], user_id=str(number % 7))

        def connect_new(_number: int) -> None:
            consoles.connect(next(new))

        rounds = 2 if quick else 4
        warm, warm_trips = _measure(vsphere, connect_known, count, rounds)
        cold, cold_trips = _measure(vsphere, connect_new, 400 // rounds, rounds)
        began = time.perf_counter()
        with ThreadPoolExecutor(32) as threads:
            list(threads.map(connect_known, range(count)))
        rate = count / (time.perf_counter() - began)
        naive, naive_trips = _measure(vsphere, _naive(vsphere, known[0]), 20, rounds)
    return [
        _row("CPU of find + ticket", "machine seen before", warm, "µs", CPU_LIMIT),
        _row("CPU of find + ticket", "new machine", cold, "µs"),
        _row("CPU of find + ticket", "SmartConnect each time", naive, "µs"),
        _row("round trips", "machine seen before", warm_trips, "calls", ROUND_TRIP_LIMIT),
        _row("round trips", "new machine", cold_trips, "calls"),
        _row("round trips", "SmartConnect each time", naive_trips, "calls"),
        _row("consoles per second", "8 in flight, simulator on the same cores", rate, "1/s"),
    ]


def _many_vcenters() -> list[dict[str, Any]]:
    """Every call takes 0.1 s; the machine is in the last vCenter."""
    with start("--vcenters", str(_VCENTERS), "--vms", str(3 * _VCENTERS)) as vsphere:
        last = vsphere.vcenters[-1]["name"]
        instance = next(
            vm["uuid"] for vm in vsphere.vms if vm["vcenter"] == last and vm["power"] == "on"
        )
        vsphere.set_all("vcenter", delay=_DELAY)
        settings = [vsphere.vcenter_settings(number) for number in range(_VCENTERS)]
        took = {}
        for subject, vcenters in (
            ("1 vCenter", settings[-1:]),
            (f"{_VCENTERS} vCenters", settings),
        ):
            with contextlib.closing(Consoles(vcenters)) as consoles:
                began = time.perf_counter()
                consoles.connect(instance)
                took[subject] = time.perf_counter() - began
    return [
        _row("first console of a cold node", subject, seconds * 1000, "ms")
        for subject, seconds in took.items()
    ]


def _naive(vsphere: SimulatedVSphere, instance: str) -> Callable[[int], None]:
    ready = vsphere.vcenter
    context = ssl.create_default_context(cafile=ready["ca_file"])

    def connect(_number: int) -> None:
        service = SmartConnect(
            host=ready["host"],
            port=ready["port"],
            user=ready["username"],
            pwd=ready["password"],
            sslContext=context,
        )
        machine = service.content.searchIndex.FindByUuid(None, instance, True, True)
        machine.AcquireTicket("webmks")
        Disconnect(service)

    return connect


def _measure(
    vsphere: SimulatedVSphere, connect: Callable[[int], None], count: int, rounds: int
) -> tuple[float, float]:
    """Microseconds of this process's CPU and calls to vCenter, per console; the best round.

    CPU time, not time: the simulator runs beside it on the same cores.
    """
    best, before = float("inf"), vsphere.calls()["total"]
    for _ in range(rounds):
        began = time.process_time()
        for number in range(count):
            connect(number)
        best = min(best, (time.process_time() - began) / count)
    return best * 1e6, (vsphere.calls()["total"] - before) / (rounds * count)


def _row(
    measure: str, subject: str, value: float, unit: str, limit: float | None = None
) -> dict[str, Any]:
    row = {"measure": measure, "subject": subject, "value": round(value, 1), "unit": unit}
    return row if limit is None else {**row, "limit": limit}
