"""Which of a cloud's nodes are vSphere's, so that only their consoles are answered here.

Nova's VMware driver names its node ``<cluster moid>.<vCenter about.instanceUuid>``, for example
``domain-c26.9d51f082-58a4-4449-beed-6fd205a5726b``; no other driver has names of this form. Where
the name does not tell, the operator lists hosts (option ``vsphere_hosts``).
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["ALL_HOSTS", "VSphereNodes", "vcenter_of"]

#: In ``vsphere_hosts``: every host of this cloud is vSphere's.
ALL_HOSTS = "*"

_VMWARE_NODE = re.compile(
    r"[A-Za-z]+-[A-Za-z]*[0-9]+\.([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
)


def vcenter_of(node: str | None) -> str | None:
    """The UUID of the vCenter that *node* is in; None where it is not the VMware driver's name.

    >>> vcenter_of("domain-c26.9d51f082-58a4-4449-beed-6fd205a5726b")
    '9d51f082-58a4-4449-beed-6fd205a5726b'
    >>> vcenter_of("kvm-7.example.com")
    """
    match = _VMWARE_NODE.fullmatch(node or "")
    return match.group(1).lower() if match else None


class VSphereNodes:
    """Tells a vSphere node from others."""

    def __init__(self, hosts: Collection[str] = ()) -> None:
        """:param hosts: names of nova-compute hosts that are vSphere's too; ``*``: all are."""
        self._all = ALL_HOSTS in hosts
        self._hosts = frozenset(hosts)

    def has(self, node: str | None, host: str | None) -> bool:
        """Whether an instance on *node* of the nova-compute on *host* is on vSphere.

        :param node: ``hypervisor_hostname``; None: the instance is on none, or it is not told.
        :param host: ``OS-EXT-SRV-ATTR:host``; None: the same.
        """
        return self._all or host in self._hosts or vcenter_of(node) is not None

    def may_have(self, node: str | None, host: str | None) -> bool:
        """The same, where an API that does not tell the node leaves it open."""
        return self.has(node, host) or not node
