"""The control API: plain HTTP and JSON on loopback, to look into the simulator and break things.

======  ====================================  ==========================================
GET     ``/state``                            everything, as in the ready line, and what is open
GET     ``/calls``                            SOAP calls per vCenter, most in flight
GET     ``/vms/VM/connections``               open consoles; ``?count=N&timeout=S`` waits for N
GET     ``/vms/VM/screen``                    lines on the screen; ``?text=T&timeout=S`` waits
GET     ``/vms/VM/screen.png``                the screen as a picture
POST    ``/vms/VM``                           set fields; ``"drop": true`` resets its consoles,
                                              ``"close": true`` closes them in good order
POST    ``/hosts/HOST``                       set fields
POST    ``/vcenters/VC``                      set fields; ``"expire_sessions": true``
POST    ``/faults``                           ``{"vm": {..}, "host": {..}, "vcenter": {..}}``: all
POST    ``/reset``                            back to how it was started
======  ====================================  ==========================================

A machine is named by UUID or name, a host or vCenter by name or index. The fields are those of
:mod:`mksfilter.simulator.states`.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent

from mksfilter.simulator.httpd import Request, Response
from mksfilter.simulator.inventory import Machine
from mksfilter.simulator.states import UnknownField

if TYPE_CHECKING:
    from mksfilter.simulator.server import Simulator

__all__ = ["Control"]

_KINDS = {"vms": "vm", "hosts": "host", "vcenters": "vcenter"}
_POLL = 0.005
_MAX_WAIT = 60.0


class _NotFound(Exception):
    """No such resource."""


class Control:
    """Answers the control API's requests."""

    def __init__(self, simulator: Simulator) -> None:
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

    def _get(self, path: list[str], query: Mapping[str, str]) -> Any:
        simulator = self._simulator
        if path == ["state"]:
            return simulator.state()
        if path == ["calls"]:
            return simulator.calls()
        if len(path) == 3 and path[0] == "vms":
            machine = simulator.inventory.find("vm", path[1])
            if path[2] == "connections":
                return self._connections(machine, query)
            if path[2] == "screen":
                return self._screen(machine, query)
            if path[2] == "screen.png":
                return simulator.consoles.screen(machine).picture()
        raise _NotFound("/" + "/".join(path))

    def _post(self, path: list[str], body: dict[str, Any]) -> Any:
        if path == ["reset"]:
            self._simulator.reset()
        elif path == ["faults"]:
            for kind, changes in body.items():
                for thing in self._simulator.inventory.all(kind):
                    self._simulator.change(kind, thing, changes)
        elif len(path) == 2 and path[0] in _KINDS:
            kind = _KINDS[path[0]]
            thing = self._simulator.inventory.find(kind, path[1])
            self._simulator.change(kind, thing, body)
        else:
            raise _NotFound("/" + "/".join(path))
        return {}

    def _connections(self, machine: Machine, query: Mapping[str, str]) -> list[dict[str, str]]:
        consoles = self._simulator.consoles
        if "count" in query:
            count = int(query["count"])
            _wait(lambda: len(consoles.of(machine)) == count, query)
        return [
            {"label": console.label, "client": console.client, "user": console.user}
            for console in consoles.of(machine)
        ]

    def _screen(self, machine: Machine, query: Mapping[str, str]) -> dict[str, Any]:
        text = query.get("text", "")

        def shown() -> list[str]:
            return self._simulator.consoles.screen(machine).lines

        _wait(lambda: any(text in line for line in shown()), query)
        return {"title": machine.name, "lines": shown()}


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, json.dumps(value).encode(), "application/json")


def _wait(condition: Callable[[], bool], query: Mapping[str, str]) -> None:
    deadline = time.monotonic() + min(float(query.get("timeout", 0)), _MAX_WAIT)
    while not condition() and time.monotonic() < deadline:
        gevent.sleep(_POLL)
