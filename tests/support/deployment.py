"""A cloud with every kind of console: a vCenter for each, and one proxy in front of them all."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from mksfilter.config import VCenterSettings
from mksfilter.simulator.client import SimulatedVSphere, start
from tests.support.proxy import RunningProxy, start_proxy

__all__ = ["AUTOMATIC", "KINDS", "Deployment", "start_deployment"]

#: API versions of the vCenters whose kind of console is found out.
AUTOMATIC = ("5.5", "6.0", "6.5", "7.0", "8.0", "9.0")


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A kind of console.

    :ivar proxy_port: of which of the vCenter's own console proxies; their usual ports are taken
        by the system's choice in the simulator.
    :ivar host_port: which port of the ESXi host ``console_host`` and ``console_port`` lead to;
        empty: they are not set.
    """

    api_version: str
    backend: str
    proxy_port: str = ""
    host_port: str = ""


#: By the name of the configuration group.
KINDS = {
    "webmks": _Kind("8.0", "webmks"),
    "vcenter-55": _Kind("5.5", "vcenter", proxy_port="wss"),
    "vcenter-60": _Kind("6.0", "vcenter", proxy_port="web_client"),
    "mks": _Kind("8.0", "mks"),
}
_MORE = {
    "webmks-fixed": _Kind("8.0", "webmks", host_port="port"),
    "mks-fixed": _Kind("8.0", "mks", host_port="authd_port"),
    **{
        f"auto-{version}": _Kind(version, "auto", proxy_port="wss" if version == "5.5" else "")
        for version in AUTOMATIC
    },
}


class Deployment:
    """A simulated vSphere with a vCenter for each kind of console, and a proxy in front.

    :ivar settings: how the proxy is configured, by kind.
    """

    def __init__(
        self,
        vsphere: SimulatedVSphere,
        proxy: RunningProxy,
        settings: dict[str, VCenterSettings],
        machines: dict[str, str],
    ) -> None:
        self.vsphere = vsphere
        self.proxy = proxy
        self.settings = settings
        self._machines = machines

    def machine(self, kind: str) -> str:
        """The name of a running machine whose console is of that kind."""
        return self._machines[kind]

    def token(self, kind: str, **claims: Any) -> str:
        """A token for that machine, which says where it is."""
        uuid = self.vsphere.vm(self.machine(kind))["uuid"]
        return self.proxy.token(uuid, **{"vcenter": kind, **claims})

    def set_vcenter(self, kind: str, **fields: Any) -> None:
        """Change the vCenter that has that kind of console."""
        self.vsphere.set_vcenter(self.vsphere.vm(self.machine(kind))["vcenter"], **fields)

    def set_host(self, kind: str, **fields: Any) -> None:
        """Change the host that its machine is on."""
        self.vsphere.set_host(self.vsphere.host_of(self.machine(kind))["name"], **fields)

    def console_of(self, token: str) -> str:
        """``host:port`` that the session of *token* was connected to, as the proxy logs it."""
        jti = self.proxy.codec.verify(token, uses=("connect", "resume")).jti
        line = self.proxy.wait_for_log(f"jti={jti} use=")
        return next(word[5:] for word in line.split() if word.startswith("host="))


@contextlib.contextmanager
def start_deployment(*arguments: str, every_version: bool = True) -> Iterator[Deployment]:
    """Run simulator and proxy for as long as the context lasts.

    :param arguments: more of the simulator's command line.
    :param every_version: with more than :data:`KINDS`.
    """
    kinds = {**KINDS, **(_MORE if every_version else {})}
    versions = [
        f"--set=vc{number}.api_version={kind.api_version}"
        for number, kind in enumerate(kinds.values(), 1)
    ]
    counts = [f"--vcenters={len(kinds)}", f"--vms={len(kinds)}"]
    with start(*counts, *versions, *arguments) as vsphere:
        machines, settings = {}, {}
        for index, (name, kind) in enumerate(kinds.items()):
            ready = vsphere.vcenters[index]
            machine = next(
                vm["name"]
                for vm in vsphere.vms
                if vm["vcenter"] == ready["name"] and vm["name"].startswith("vm-")
            )
            options: dict[str, Any] = {"name": name, "backend": kind.backend}
            if kind.proxy_port:
                options["console_port"] = ready["console_ports"][kind.proxy_port]
            if kind.host_port:
                host = vsphere.host_of(machine)
                options["console_host"] = host["address"]
                options["console_port"] = host[kind.host_port]
            machines[name] = machine
            settings[name] = vsphere.vcenter_settings(index, **options)
        with start_proxy(settings.values(), allowed_networks="127.0.0.0/8,::1/128") as proxy:
            yield Deployment(vsphere, proxy, settings, machines)
