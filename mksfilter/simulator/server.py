"""The simulated vSphere as a whole: listens, knows what it listens on, and can be changed."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from typing import Protocol

import gevent
from gevent import socket
from gevent.event import Event
from gevent.ssl import SSLContext

from mksfilter.exceptions import ConfigurationError
from mksfilter.log import event
from mksfilter.simulator.control import Control
from mksfilter.simulator.esxi.authd import Authd
from mksfilter.simulator.esxi.consoles import Consoles
from mksfilter.simulator.esxi.endpoint import Endpoint
from mksfilter.simulator.esxi.webmks import WebMKS
from mksfilter.simulator.model import inventory as inventories
from mksfilter.simulator.model import states
from mksfilter.simulator.model.description import Calls, Description, describe
from mksfilter.simulator.model.inventory import (
    VM,
    Credentials,
    Host,
    Inventory,
    Item,
    VCenter,
)
from mksfilter.simulator.model.tickets import Tickets
from mksfilter.simulator.net.certificates import Authority, Certificate
from mksfilter.simulator.net.httpd import serve_connection
from mksfilter.simulator.net.listeners import Listeners, own_loopback, reachable
from mksfilter.simulator.vcenter.console_proxy import OLD_PATH, WEB_CLIENT_PATH, ConsoleProxy
from mksfilter.simulator.vcenter.front import Front
from mksfilter.simulator.vcenter.methods import Methods
from mksfilter.simulator.vcenter.service import PROBE, VCenterService
from mksfilter.simulator.vcenter.sessions import Sessions

__all__ = ["Options", "Simulator", "serve"]

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """How to start a simulator.

    :ivar host: address to listen on. On 127.0.0.1 the ESXi hosts take 127.0.0.2 and so on.
    :ivar port: port of the first vCenter; everything else is on ports that the system chooses.
    :ivar vms: how many VMs beside the demo's.
    :ivar settings: ``(kind, key, {field: value})``; an empty key means all of that kind.
    """

    host: str = "127.0.0.1"
    port: int = 0
    control_port: int = 0
    vcenters: int = 1
    vms: int = 0
    username: str = "administrator@vsphere.local"
    password: str = "simulated"  # noqa: S105
    settings: tuple[tuple[str, str, Mapping[str, object]], ...] = ()


class Simulator:
    """A running simulator.

    :raises ConfigurationError: a setting names nothing that there is.
    :raises OperationError: an address cannot be listened on.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.credentials = Credentials(options.username, options.password)
        self.inventory: Inventory = inventories.build(vcenters=options.vcenters, vms=options.vms)
        self.tickets = Tickets()
        self.consoles = Consoles()
        self.authority = Authority(context_class=SSLContext)
        self.other_authority = Authority("another CA", context_class=SSLContext)
        self._listeners = Listeners()
        self._services: dict[str, VCenterService] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._fronts: dict[str, Front] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="mksfilter-simulator-")
        self.ca_file = os.path.join(self._directory.name, "ca.pem")
        self.other_ca_file = os.path.join(self._directory.name, "other-ca.pem")
        for path, authority in (
            (self.ca_file, self.authority),
            (self.other_ca_file, self.other_authority),
        ):
            with open(path, "wb") as file:
                file.write(authority.pem)
        for kind, key, changes in options.settings:
            self._preset(kind, key, changes)
        self.inventory.remember()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop listening, end every console and remove the CA file."""
        self.consoles.reset()
        self._listeners.stop()
        self._directory.cleanup()

    def reset(self) -> None:
        """Everything back to how it was started; what is open is dropped."""
        self.inventory.reset()
        self.consoles.reset()
        self.tickets.clear()
        for service in self._services.values():
            service.reset()
        for front in self._fronts.values():
            front.follow()
        self._release_silent()

    def change(self, item: Item, changes: Mapping[str, object]) -> None:
        """Set fields of a VM, host or vCenter, with what follows from it for consoles.

        :raises UnknownField: a field or value that there is not.
        """
        fields = dict(changes)
        drop = isinstance(item, VM) and fields.pop("drop", False)
        close = isinstance(item, VM) and fields.pop("close", False)
        expire = isinstance(item, VCenter) and fields.pop("expire_sessions", False)
        before = _whereabouts(item) if isinstance(item, VM) else None
        states.change(item, fields)
        LOG.info(event("changed", kind=type(item).__name__, name=item.name, changes=dict(changes)))
        if isinstance(item, VM):
            if drop or _whereabouts(item) != before:
                self.consoles.drop(item)
            if close:
                self.consoles.finish(item)
        elif isinstance(item, Host):
            if not item.state.responding:
                for vm in self.inventory.vms:
                    if vm.host is item:
                        self.consoles.drop(vm)
        elif isinstance(item, VCenter):
            self._fronts[item.name].follow()
            if expire:
                self._services[item.name].sessions.clear()
        self._release_silent()

    def state(self) -> Description:
        """All that there is to know, for the ready line and ``GET /state``."""
        return describe(
            self.inventory,
            connections=lambda vm: len(self.consoles.of(vm)),
            credentials=self.credentials,
            ca_file=self.ca_file,
            other_ca_file=self.other_ca_file,
            control=f"http://127.0.0.1:{self._control_port}",
        )

    def calls(self) -> dict[str, Calls]:
        """What each vCenter was asked since the start or the last reset."""
        return {
            name: {
                "calls": dict(service.counts.calls),
                "total": service.counts.calls.total() - service.counts.calls[PROBE],
                "in_flight": service.counts.in_flight,
                "max_in_flight": service.counts.max_in_flight,
                "connections": service.counts.connections,
                "sessions": len(service.sessions),
            }
            for name, service in self._services.items()
        }

    def _preset(self, kind: str, key: str, changes: Mapping[str, object]) -> None:
        try:
            items = [self.inventory.find(kind, key)] if key else self.inventory.all(kind)
            for item in items:
                states.change(item, changes)
        except KeyError as exc:
            raise ConfigurationError(f"simulator: there is no {kind} called {key}") from exc
        except states.UnknownField as exc:
            raise ConfigurationError(f"simulator: {key or kind}: {exc}") from exc

    def _start(self) -> None:
        control = Control(self)
        self._control_port = self._listeners.serve(
            "127.0.0.1",
            self.options.control_port,
            lambda sock, peer: serve_connection(sock, peer[0], control.handle),
        )
        for number, vcenter in enumerate(self.inventory.vcenters):
            self._start_vcenter(vcenter, self.options.port if number == 0 else 0)
        for number, host in enumerate(self.inventory.hosts()):
            self._start_host(host, number)

    def _start_vcenter(self, vcenter: VCenter, port: int) -> None:
        address = self.options.host
        vcenter.address = reachable(address)
        sessions = Sessions(vcenter, self.credentials)
        methods = Methods(
            vcenter,
            self.inventory,
            sessions=sessions,
            tickets=self.tickets,
            consoles=self.consoles,
        )
        service = VCenterService(sessions, methods)
        self._services[vcenter.name] = service

        def issue(name: str) -> Certificate:
            authority = self.other_authority if name == "foreign" else self.authority
            return authority.issue(vcenter.fqdn, ["127.0.0.1", vcenter.address])

        front = self._fronts[vcenter.name] = Front(vcenter, service, issue)
        certificate = front.certificate
        vcenter.port = self._listeners.serve(address, port, front.handle)
        for name, path, context in (
            ("ws", OLD_PATH, None),
            ("wss", OLD_PATH, certificate.context),
            ("web_client", WEB_CLIENT_PATH, certificate.context),
        ):
            proxy = ConsoleProxy(
                service, path, context, tickets=self.tickets, consoles=self.consoles
            )
            vcenter.console_ports[name] = self._listeners.serve(address, 0, proxy.handle)

    def _start_host(self, host: Host, number: int) -> None:
        local = self.options.host == "127.0.0.1"
        address = own_loopback(number) if local else self.options.host
        host.address = reachable(address)
        names = ["127.0.0.1", "::1", host.address]
        right, wrong, display = (self.authority.issue(host.name, names) for _ in range(3))
        host.digests, host.pem = right.digests(), right.pem
        endpoint = Endpoint(host, right, wrong)
        self._endpoints[host.name] = endpoint
        webmks = WebMKS(endpoint, tickets=self.tickets, consoles=self.consoles)
        authd = Authd(
            endpoint,
            tickets=self.tickets,
            consoles=self.consoles,
            display=display,
        )
        if local:
            host.port, host.address6 = self._listeners.serve_both(address, webmks.handle)
            host.authd_port, _ = self._listeners.serve_both(address, authd.handle)
        else:
            host.port = self._listeners.serve(address, 0, webmks.handle)
            host.authd_port = self._listeners.serve(address, 0, authd.handle)

    def _release_silent(self) -> None:
        """Drop the connections that were kept waiting by what is not silent any more."""
        for vcenter in self.inventory.vcenters:
            _release(self._services[vcenter.name], vcenter.state.silent)
        for host in self.inventory.hosts():
            _release(self._endpoints[host.name], host.state.silent)


def _whereabouts(vm: VM) -> tuple[object, ...]:
    """What a console does not survive a change of."""
    state = vm.state
    return state.power, state.host, state.vcenter, state.registration, state.deleted


class _Holder(Protocol):
    """What may meet connections with silence, until its event is set."""

    released: Event


def _release(holder: _Holder, silent: bool) -> None:
    if silent:
        holder.released.clear()
    else:
        holder.released.set()


def serve(*, until_eof: bool = False) -> None:
    """Serve until SIGINT, SIGTERM or, if wanted, the end of standard input.

    By the last a simulator notices that the process that started it has ended.
    """
    done = Event()
    handlers = [
        gevent.signal_handler(number, done.set) for number in (signal.SIGINT, signal.SIGTERM)
    ]
    if until_eof:
        gevent.spawn(_wait_for_eof, done)
    done.wait()
    for handler in handlers:
        handler.cancel()


def _wait_for_eof(done: Event) -> None:
    descriptor = sys.stdin.fileno()
    while True:
        socket.wait_read(descriptor)
        if not os.read(descriptor, 4096):
            done.set()
            return
