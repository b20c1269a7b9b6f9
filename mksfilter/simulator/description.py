"""A running simulator in JSON's terms: its ready line, and what ``GET /state`` answers."""

from __future__ import annotations

import dataclasses
from typing import Any

from mksfilter.simulator.consoles import Consoles
from mksfilter.simulator.inventory import Host, Inventory, Machine, VCenter
from mksfilter.simulator.sessions import Credentials

__all__ = ["describe"]


def describe(
    inventory: Inventory,
    *,
    consoles: Consoles,
    credentials: Credentials,
    ca_file: str,
    control: str,
) -> dict[str, Any]:
    """Everything that a client or a test wants to know.

    ``vcenter`` is the first of ``vcenters``. Digests are upper-case hex pairs with colons, and
    ``thumbprint`` is the SHA-256 one.
    """
    vcenters = [_vcenter(vcenter, credentials, ca_file) for vcenter in inventory.vcenters]
    return {
        "vcenter": vcenters[0],
        "vcenters": vcenters,
        "hosts": [_host(host, vcenter) for vcenter in inventory.vcenters for host in vcenter.hosts],
        "vms": [_machine(machine, len(consoles.of(machine))) for machine in inventory.machines],
        "control": control,
    }


def _vcenter(vcenter: VCenter, credentials: Credentials, ca_file: str) -> dict[str, Any]:
    return {
        "name": vcenter.name,
        "host": vcenter.address,
        "port": vcenter.port,
        "username": credentials.username,
        "password": credentials.password,
        "thumbprint": vcenter.digests["sha256"],
        "digests": vcenter.digests,
        "ca_file": ca_file,
        "fqdn": vcenter.fqdn,
        "instance_uuid": vcenter.uuid,
        "console_ports": vcenter.console_ports,
        "state": dataclasses.asdict(vcenter.state),
    }


def _host(host: Host, vcenter: VCenter) -> dict[str, Any]:
    return {
        "name": host.name,
        "vcenter": vcenter.name,
        "address": host.address,
        "address6": host.address6,
        "port": host.port,
        "authd_port": host.authd_port,
        "thumbprint": host.digests["sha256"],
        "digests": host.digests,
        "state": dataclasses.asdict(host.state),
    }


def _machine(machine: Machine, connections: int) -> dict[str, Any]:
    return {
        "name": machine.name,
        "uuid": machine.uuid,
        "project_id": machine.project_id,
        "vcenter": machine.vcenter.name,
        "moref": machine.moref,
        "host": machine.host.name,
        "power": machine.state.power,
        "connections": connections,
        "state": dataclasses.asdict(machine.state),
    }
