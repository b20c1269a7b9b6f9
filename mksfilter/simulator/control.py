"""The control API: plain HTTP and JSON on loopback, to look into the simulator and break things.

======  ====================================  ==========================================
GET     ``/state``                            everything, as in the ready line, and what is open
GET     ``/calls``                            SOAP calls per vCenter, most in flight
GET     ``/vms/VM/connections``               open consoles; ``?count=N&timeout=S`` waits for N
GET     ``/vms/VM/screen``                    lines on the screen; ``?text=T&timeout=S`` waits
GET     ``/vms/VM/screen.png``                the screen as a picture
GET     ``/vms/VM/keys``                      scan codes that reached the guest, down or up, and the
                                              lights; ``?count=N&timeout=S`` waits for so many
POST    ``/vms/VM``                           set fields; ``"drop": true`` resets its consoles,
                                              ``"close": true`` closes them in good order
POST    ``/hosts/HOST``                       set fields
POST    ``/vcenters/VC``                      set fields; ``"expire_sessions": true``
POST    ``/faults``                           ``{"vm": {..}, "host": {..}, "vcenter": {..}}``: all
POST    ``/reset``                            back to how it was started
======  ====================================  ==========================================

A VM is named by UUID or name, a host or vCenter by name or index. The fields are those of
:mod:`mksfilter.simulator.model.states`.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Protocol

import gevent

from mksfilter.simulator.esxi.consoles import Consoles
from mksfilter.simulator.model.description import Calls, Description
from mksfilter.simulator.model.inventory import VM, Inventory, Item
from mksfilter.simulator.model.states import UnknownField
from mksfilter.simulator.net.httpd import Request, Response

__all__ = ["Control", "Controlled"]

_KINDS = {"vms": "vm", "hosts": "host", "vcenters": "vcenter"}
_POLL = 0.005
_MAX_WAIT = 60.0


class _NotFound(Exception):
    """No such resource."""


class Controlled(Protocol):
    """The simulator, as the control API changes it and looks into it."""

    inventory: Inventory
    consoles: Consoles

    def state(self) -> Description: ...
    def calls(self) -> Mapping[str, Calls]: ...
    def change(self, item: Item, changes: Mapping[str, object]) -> None: ...
    def reset(self) -> None: ...


class Control:
    """Answers the control API's requests."""

    def __init__(self, simulator: Controlled) -> None:
        self._simulator = simulator

    def handle(self, request: Request) -> Response:
        path = [urllib.parse.unquote(part) for part in request.path.strip("/").split("/")]
        try:
            if request.method == "POST":
                body = json.loads(request.body or b"{}")
                if not isinstance(body, dict):
                    raise UnknownField("the body has to be a JSON object")
                answer = self._post(path, body)
            else:
                answer = self._get(path, request.query)
        except (_NotFound, KeyError) as exc:
            return _json({"error": f"not found: {exc}"}, 404)
        except ValueError as exc:
            return _json({"error": str(exc)}, 400)
        return Response(200, answer, "image/png") if isinstance(answer, bytes) else _json(answer)

    def _get(self, path: list[str], query: Mapping[str, str]) -> object:
        simulator = self._simulator
        if path == ["state"]:
            return simulator.state()
        if path == ["calls"]:
            return simulator.calls()
        if len(path) == 3 and path[0] == "vms":
            vm = simulator.inventory.vm(path[1])
            if path[2] == "connections":
                return self._connections(vm, query)
            if path[2] == "screen":
                return self._screen(vm, query)
            if path[2] == "keys":
                return self._keys(vm, query)
            if path[2] == "screen.png":
                return simulator.consoles.screen(vm).picture()
        raise _NotFound("/" + "/".join(path))

    def _post(self, path: list[str], body: dict[str, object]) -> object:
        if path == ["reset"]:
            self._simulator.reset()
        elif path == ["faults"]:
            for kind, changes in body.items():
                if not isinstance(changes, dict):
                    raise UnknownField(f"{kind}: the fields have to be a JSON object")
                for item in self._simulator.inventory.all(kind):
                    self._simulator.change(item, changes)
        elif len(path) == 2 and path[0] in _KINDS:
            item = self._simulator.inventory.find(_KINDS[path[0]], path[1])
            self._simulator.change(item, body)
        else:
            raise _NotFound("/" + "/".join(path))
        return {}

    def _connections(self, vm: VM, query: Mapping[str, str]) -> list[dict[str, str]]:
        consoles = self._simulator.consoles
        if "count" in query:
            count = int(query["count"])
            _wait(lambda: len(consoles.of(vm)) == count, query)
        return [
            {"label": console.label, "client": console.client, "user": console.user}
            for console in consoles.of(vm)
        ]

    def _screen(self, vm: VM, query: Mapping[str, str]) -> dict[str, object]:
        text = query.get("text", "")

        def shown() -> list[str]:
            return self._simulator.consoles.screen(vm).lines

        _wait(lambda: any(text in line for line in shown()), query)
        return {"title": vm.name, "lines": shown()}

    def _keys(self, vm: VM, query: Mapping[str, str]) -> dict[str, object]:
        keys = self._simulator.consoles.keys(vm)
        if "count" in query:
            _wait(lambda: len(keys.strokes) >= int(query["count"]), query)
        return {"strokes": keys.strokes, "lights": keys.lights}


def _json(value: object, status: int = 200) -> Response:
    return Response(status, json.dumps(value).encode(), "application/json")


def _wait(condition: Callable[[], bool], query: Mapping[str, str]) -> None:
    deadline = time.monotonic() + min(float(query.get("timeout", 0)), _MAX_WAIT)
    while not condition() and time.monotonic() < deadline:
        gevent.sleep(_POLL)
