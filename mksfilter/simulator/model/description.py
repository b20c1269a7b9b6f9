"""A running simulator in JSON's terms: its ready line, and what ``GET /state`` answers.

``vcenter`` is the first of ``vcenters``. Digests are upper-case hex pairs with colons, and
``thumbprint`` is the SHA-256 one. ``state`` has the fields of
:mod:`~mksfilter.simulator.model.states`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypedDict

from mksfilter.simulator.model.inventory import VM, Credentials, Host, Inventory, VCenter
from mksfilter.simulator.model.states import FieldValue

__all__ = [
    "Calls",
    "Description",
    "HostDescription",
    "State",
    "VCenterDescription",
    "VMDescription",
    "describe",
]

State = dict[str, FieldValue]


class VCenterDescription(TypedDict):
    name: str
    host: str
    port: int
    username: str
    password: str
    thumbprint: str
    digests: dict[str, str]
    ca_file: str
    other_ca_file: str
    fqdn: str
    instance_uuid: str
    console_ports: dict[str, int]
    state: State


class HostDescription(TypedDict):
    name: str
    vcenter: str
    address: str
    address6: str
    port: int
    authd_port: int
    thumbprint: str
    digests: dict[str, str]
    state: State


class VMDescription(TypedDict):
    name: str
    uuid: str
    project_id: str
    vcenter: str
    moid: str
    host: str
    power: str
    connections: int
    state: State


class Calls(TypedDict):
    """What a vCenter was asked since the start or the last reset; ``calls`` are by method."""

    calls: dict[str, int]
    total: int
    in_flight: int
    max_in_flight: int
    connections: int
    sessions: int


class Description(TypedDict):
    vcenter: VCenterDescription
    vcenters: list[VCenterDescription]
    hosts: list[HostDescription]
    vms: list[VMDescription]
    control: str


def describe(
    inventory: Inventory,
    *,
    connections: Callable[[VM], int],
    credentials: Credentials,
    ca_file: str,
    other_ca_file: str,
    control: str,
) -> Description:
    """Everything that a client or a test wants to know.

    :param connections: how many consoles of a VM are open.
    :param other_ca_file: of the CA that signs ``foreign`` certificates.
    """
    ca_files = (ca_file, other_ca_file)
    vcenters = [_vcenter(vcenter, credentials, *ca_files) for vcenter in inventory.vcenters]
    return {
        "vcenter": vcenters[0],
        "vcenters": vcenters,
        "hosts": [_host(host, vcenter) for vcenter in inventory.vcenters for host in vcenter.hosts],
        "vms": [_vm(vm, connections(vm)) for vm in inventory.vms],
        "control": control,
    }


def _vcenter(
    vcenter: VCenter, credentials: Credentials, ca_file: str, other_ca_file: str
) -> VCenterDescription:
    return {
        "name": vcenter.name,
        "host": vcenter.address,
        "port": vcenter.port,
        "username": credentials.username,
        "password": credentials.password,
        "thumbprint": vcenter.digests["sha256"],
        "digests": vcenter.digests,
        "ca_file": ca_file,
        "other_ca_file": other_ca_file,
        "fqdn": vcenter.fqdn,
        "instance_uuid": vcenter.uuid,
        "console_ports": vcenter.console_ports,
        "state": dataclasses.asdict(vcenter.state),
    }


def _host(host: Host, vcenter: VCenter) -> HostDescription:
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


def _vm(vm: VM, connections: int) -> VMDescription:
    return {
        "name": vm.name,
        "uuid": vm.uuid,
        "project_id": vm.project_id,
        "vcenter": vm.vcenter.name,
        "moid": vm.moid,
        "host": vm.host.name,
        "power": vm.state.power,
        "connections": connections,
        "state": dataclasses.asdict(vm.state),
    }
