"""What a kind of console is: find the VM, take a ticket, say where and how to connect."""

from __future__ import annotations

import abc
import ipaddress
import re
from typing import TYPE_CHECKING, ClassVar

from mksfilter import tcp
from mksfilter.config import VCenterSettings
from mksfilter.exceptions import TicketRefused

if TYPE_CHECKING:
    from mksfilter.backends.vsphere.client import VM, Ticket
    from mksfilter.backends.vsphere.session import Session
    from mksfilter.endpoint import Endpoint

__all__ = ["Backend", "console_host", "console_port", "named_host", "safe_text"]

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_SAFE_TEXT = re.compile(r"[!-~]+")


class Backend(abc.ABC):
    """A kind of console. A site adds its own with an entry point in ``mksfilter.backends`` that
    names a subclass; one object serves all consoles of a vCenter, in several threads at once.

    Each method runs within a worker of the vCenter's call queue and may use *session* freely; what
    it raises should be of :class:`~mksfilter.exceptions.BackendError`.
    """

    #: Taking a ticket does not tell whether the VM runs: its state is read each time.
    needs_state: ClassVar[bool] = False

    def __init__(self, settings: VCenterSettings) -> None:
        self.settings = settings

    def find(self, session: Session, instance_uuid: str) -> VM:
        """The VM, by its instance UUID and by nothing that a tenant may edit (CVE-2026-25199).

        :raises InstanceNotFound: this vCenter has no such VM.
        """
        return session.find(instance_uuid, current=self.needs_state)

    @abc.abstractmethod
    def ticket(self, session: Session, vm: VM) -> Ticket:
        """Take a ticket that is good for one connection, soon."""

    @abc.abstractmethod
    def endpoint(self, session: Session, vm: VM, ticket: Ticket) -> Endpoint:
        """Where and how to connect with *ticket*."""


def console_host(settings: VCenterSettings, named: str) -> str:
    """Where to connect when a ticket names *named* (see :func:`named_host`), which may be nothing.

    A ticket without a host means the server it came from (VirtualMachineTicket.host). Option
    ``console_host`` replaces whatever the ticket says, or, when it holds ``{host}``, completes
    short names: ``{host}.esx.example.com``.
    """
    host = named or settings.host
    pattern = settings.console_host
    if not pattern:
        return host
    if "{host}" not in pattern:
        return pattern
    return host if "." in host or ":" in host else pattern.replace("{host}", host)


def named_host(settings: VCenterSettings, name: str) -> str:
    """The host that a ticket names, IPv6 without brackets; ``""`` when it names none.

    :raises TicketRefused: no host can have that name.
    """
    host = tcp.unbracketed(name)
    if host and not _HOST_NAME.fullmatch(host):
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise TicketRefused(
                f"vcenter {settings.name}: the ticket names a host {host[:100]!r} that cannot be; "
                f"set console_host"
            ) from None
        if "%" in host:
            raise TicketRefused(f"vcenter {settings.name}: the ticket's host is not one of ours")
    return host


def console_port(settings: VCenterSettings, named: int | None, usual: int) -> int:
    """Where to connect when a ticket names port *named*, which may be none.

    :raises TicketRefused: there is no such port.
    """
    port = settings.console_port or named or usual
    if not 0 < port < 65536:
        raise TicketRefused(f"vcenter {settings.name}: the ticket names port {port}")
    return port


def safe_text(text: str, what: str) -> str:
    """*text* if it can stand in a request line or an authd command as it is.

    :raises TicketRefused: it is empty, or holds a control character or a space.
    """
    if not _SAFE_TEXT.fullmatch(text):
        raise TicketRefused(f"{what} is empty or holds characters that no {what} has")
    return text
