"""The simulated vSphere from outside: start it in a process of its own, look into it, break it.

Nothing here imports gevent or pyvmomi, so that a test may use it whatever else it does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from mksfilter.config import VCenterSettings
from mksfilter.exceptions import OperationError
from mksfilter.simulator.model.description import (
    Calls,
    Description,
    HostDescription,
    VCenterDescription,
    VMDescription,
)

__all__ = ["DB_1", "OFF_1", "OTHER_1", "WEB_1", "SimulatedVSphere", "SimulatorError", "start"]

WEB_1 = "5f1c7e20-0000-4000-8000-000000000001"
DB_1 = "5f1c7e20-0000-4000-8000-000000000002"
OFF_1 = "5f1c7e20-0000-4000-8000-000000000003"
OTHER_1 = "5f1c7e20-0000-4000-8000-000000000004"

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0


class SimulatorError(OperationError):
    """The simulator did not start, or refused a request."""


@contextlib.contextmanager
def start(*arguments: str, log: int | IO[str] | None = None) -> Iterator[SimulatedVSphere]:
    """Run ``mksfilter simulator`` with *arguments* for as long as the context lasts.

    :param log: where its standard error goes; nowhere by default.
    :raises SimulatorError: it ended, or was not ready within half a minute.
    """
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "mksfilter.simulator", "--json", "--until-eof", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if log is None else log,
        start_new_session=True,  # a Ctrl-C is for the test run, which ends us in its own time
    )
    assert process.stdin is not None
    assert process.stdout is not None
    watchdog = threading.Timer(_START_TIMEOUT, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
    finally:
        watchdog.cancel()
    try:
        if not line:
            raise SimulatorError(f"the simulator ended with code {process.wait()}")
        yield SimulatedVSphere(json.loads(line), pid=process.pid)
    finally:
        process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class SimulatedVSphere:
    """A running simulator.

    ``vcenter``, ``vcenters``, ``hosts``, ``vms`` and ``control`` are as in its ready line and do
    not follow changes; :meth:`state` does.
    """

    def __init__(self, ready: Description, *, pid: int | None = None) -> None:
        self.vcenter = ready["vcenter"]
        self.vcenters = ready["vcenters"]
        self.hosts = ready["hosts"]
        self.vms = ready["vms"]
        self.control = ready["control"]
        self.pid = pid

    def vcenter_settings(self, vcenter: int | str = 0, **overrides: Any) -> VCenterSettings:
        """How to configure a client of one of the vCenters, verifying by the simulator's CA."""
        ready = self._named(self.vcenters, vcenter)
        settings = VCenterSettings(
            name=ready["name"],
            host=ready["host"],
            port=ready["port"],
            username=ready["username"],
            password=ready["password"],
            ca_file=ready["ca_file"],
        )
        return dataclasses.replace(settings, **overrides)

    def vm(self, name: str) -> VMDescription:
        """A VM by name or UUID, as in the ready line."""
        return next(vm for vm in self.vms if name in (vm["name"], vm["uuid"]))

    def host_of(self, vm: str) -> HostDescription:
        """The host that a VM is on now."""
        state = self.state()
        name = self._now(vm)["host"]
        return next(host for host in state["hosts"] if host["name"] == name)

    # Looking

    def state(self) -> Description:
        """Everything, as it is now."""
        description: Description = self._get("/state")
        return description

    def calls(self, vcenter: int | str = 0) -> Calls:
        """``calls`` by method, ``total`` (but ``RetrieveServiceContent``, by which a proxy sees
        now and then whether a vCenter is there), ``in_flight``, ``max_in_flight``,
        ``connections`` and ``sessions`` of a vCenter since the last reset."""
        name = self._named(self.vcenters, vcenter)["name"]
        calls: Calls = self._get("/calls")[name]
        return calls

    def connections(
        self, vm: str, *, count: int | None = None, timeout: float = 5.0
    ) -> list[dict[str, str]]:
        """A VM's open consoles; with *count*, waits until there are that many."""
        query = {} if count is None else {"count": count, "timeout": timeout}
        return list(self._get(f"/vms/{vm}/connections", query))

    def screen(self, vm: str, *, text: str = "", timeout: float = 5.0) -> list[str]:
        """The lines on a VM's screen; with *text*, waits until one contains it."""
        query = {"text": text, "timeout": timeout} if text else {}
        return list(self._get(f"/vms/{vm}/screen", query)["lines"])

    def shows(self, vm: str, text: str, *, timeout: float = 5.0) -> bool:
        """Whether a line on a VM's screen contains *text*, now or within the timeout (seconds)."""
        return any(text in line for line in self.screen(vm, text=text, timeout=timeout))

    def keys(self, vm: str, *, count: int = 0, timeout: float = 5.0) -> list[tuple[int, bool]]:
        """Scan codes that reached a VM's guest, down or up; waits until there are *count*."""
        query = {"count": count, "timeout": timeout}
        return [(code, down) for code, down in self._get(f"/vms/{vm}/keys", query)["strokes"]]

    def lights(self, vm: str) -> int:
        """The lights of a VM's keyboard: Scroll Lock 1, Num Lock 2, Caps Lock 4."""
        return int(self._get(f"/vms/{vm}/keys")["lights"])

    # Changing

    def set_vm(self, vm: str, **fields: object) -> None:
        """Set fields of :class:`~mksfilter.simulator.model.states.VMState`."""
        self._post(f"/vms/{vm}", fields)

    def set_host(self, host: int | str, **fields: object) -> None:
        """Set fields of :class:`~mksfilter.simulator.model.states.HostState`."""
        self._post(f"/hosts/{host}", fields)

    def set_vcenter(self, vcenter: int | str = 0, **fields: object) -> None:
        """Set fields of :class:`~mksfilter.simulator.model.states.VCenterState`."""
        self._post(f"/vcenters/{vcenter}", fields)

    def set_all(self, kind: str, **fields: object) -> None:
        """Set fields of every ``vm``, ``host`` or ``vcenter``."""
        self._post("/faults", {kind: fields})

    def power_on(self, vm: str) -> None:
        self.set_vm(vm, power="on")

    def power_off(self, vm: str) -> None:
        self.set_vm(vm, power="off")

    def suspend(self, vm: str) -> None:
        self.set_vm(vm, power="suspended")

    def delete(self, vm: str) -> None:
        """It cannot be found any more."""
        self.set_vm(vm, deleted=True)

    def drop(self, vm: str) -> None:
        """Reset the VM's open consoles."""
        self.set_vm(vm, drop=True)

    def close(self, vm: str) -> None:
        """Close the VM's open consoles in good order, with a close frame."""
        self.set_vm(vm, close=True)

    def vmotion(self, vm: str, host: int | None = None) -> None:
        """Move the VM to the other host of its vCenter, or to that of an index."""
        if host is None:
            host = 1 - int(self._now(vm)["state"]["host"])
        self.set_vm(vm, host=host)

    def reregister(self, vm: str) -> None:
        """Take the VM out of the inventory and back: it gets another managed object id."""
        self.set_vm(vm, registration=int(self._now(vm)["state"]["registration"]) + 1)

    def move(self, vm: str, vcenter: int) -> None:
        """Move the VM to another vCenter, by index."""
        self.set_vm(vm, vcenter=vcenter)

    def expire_sessions(self, vcenter: int | str = 0) -> None:
        """End all logins of a vCenter."""
        self.set_vcenter(vcenter, expire_sessions=True)

    def reset(self) -> None:
        """Back to how it was started; everything open is dropped."""
        self._post("/reset", {})

    def _now(self, vm: str) -> VMDescription:
        return next(one for one in self.state()["vms"] if vm in (one["name"], one["uuid"]))

    @staticmethod
    def _named(vcenters: Sequence[VCenterDescription], key: int | str) -> VCenterDescription:
        if isinstance(key, int):
            return vcenters[key]
        return next(vcenter for vcenter in vcenters if vcenter["name"] == key)

    def _get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        if query:
            path += "?" + urllib.parse.urlencode(query)
        return self._request("GET", path, None)

    def _post(self, path: str, body: dict[str, object]) -> None:
        self._request("POST", path, json.dumps(body))

    def _request(self, method: str, path: str, body: str | None) -> Any:
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.control).netloc)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status != 200:
                raise SimulatorError(answer["error"])
            return answer
