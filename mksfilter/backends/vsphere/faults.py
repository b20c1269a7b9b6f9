"""vCenter's faults as our errors: what happened, where, and the remedy."""

from __future__ import annotations

from pyVmomi import vim, vmodl

from mksfilter.backends.vsphere.client import VM
from mksfilter.backends.vsphere.question import question_for_user
from mksfilter.exceptions import (
    AnswerUnreadable,
    BackendError,
    ConnectionLimitReached,
    ConsoleNotPermitted,
    HostDisconnected,
    InstanceNotFound,
    InstancePoweredOff,
    InstanceSuspended,
    MachineAsks,
    MachineFailingOver,
    MachineInaccessible,
    MachineLocked,
    TicketRefused,
    VCenterLoginRefused,
)

__all__ = [
    "CONSOLE_PRIVILEGE",
    "as_error",
    "check_power",
    "check_refused",
    "check_state",
    "forgot_us",
    "limit_error",
    "login_error",
    "unreadable",
    "waiting_for",
]

CONSOLE_PRIVILEGE = "VirtualMachine.Interact.ConsoleInteract"

_POWERED_OFF = "poweredOff"
_SUSPENDED = "suspended"
_CONNECTED = "connected"
_DISCONNECTED = "disconnected"
_NOT_RESPONDING = "notResponding"
_MAX_QUESTION = 200


def check_state(vm: VM, vcenter: str) -> None:
    """Whether *vm* can have a console at all, by what vCenter said of it.

    One that runs may be locked, or wait for an answer, and have a console all the same.

    :raises InstancePoweredOff, InstanceSuspended, HostDisconnected, MachineAsks: it cannot.
    :raises MachineFailingOver, MachineInaccessible, MachineLocked: the same.
    """
    is_connected = vm.connection_state in ("", _CONNECTED)
    if is_connected and vm.power_state not in (_POWERED_OFF, _SUSPENDED):
        return
    check_refused(vm, vcenter)


def check_refused(vm: VM, vcenter: str) -> None:
    """Why *vm* was refused a console, if that is seen from what vCenter said of it.

    :raises BackendError: as :func:`check_state`.
    """
    where = f"vcenter {vcenter}: instance {vm.instance_uuid}"
    if vm.locked:
        raise MachineLocked(
            f"{where} is encrypted and locked; make its key provider (KMS) answer its host, then "
            f"unlock it in vCenter"
        )
    if vm.question:
        question = " ".join(vm.question.split())[:_MAX_QUESTION]
        raise MachineAsks(
            f"{where} waits for an answer in vCenter; give it there: {question}",
            question=question_for_user(vm.question),
        )
    state = vm.connection_state
    if state == _DISCONNECTED and vm.host_state == _NOT_RESPONDING and vm.protected:
        raise MachineFailingOver(
            f"{where} is disconnected and its host does not respond; vSphere HA starts it on "
            f"another host, unless that one has only lost its network: see its host in vCenter"
        )
    if state in ("", _CONNECTED, _DISCONNECTED):
        check_power(vm.power_state, vcenter, vm.instance_uuid)
    if state == _DISCONNECTED:
        host = "does not respond" if vm.host_state == _NOT_RESPONDING else "is disconnected"
        raise HostDisconnected(
            f"{where} is disconnected, as its host {host}; reconnect the host in vCenter"
        )
    if state not in ("", _CONNECTED):
        raise MachineInaccessible(
            f"{where} is {state}; see whether its host reaches its datastore, and whether it has "
            f"to be registered anew"
        )


def waiting_for(vm: VM, vcenter: str) -> str:
    """The reason for which a page waits until *vm* has a console; ``""``: it need not wait."""
    try:
        check_state(vm, vcenter)
    except BackendError as error:
        return error.reason if error.retry == "wait" else ""
    return ""


def check_power(state: str, vcenter: str, instance_uuid: str) -> None:
    """Whether a machine can have a console, by its power state; one that is not known can.

    :raises InstancePoweredOff, InstanceSuspended: it cannot.
    """
    if state == _POWERED_OFF:
        raise InstancePoweredOff(
            f"vcenter {vcenter}: instance {instance_uuid} is powered off; start it"
        )
    if state == _SUSPENDED:
        raise InstanceSuspended(
            f"vcenter {vcenter}: instance {instance_uuid} is suspended; resume it"
        )


def forgot_us(fault: Exception) -> bool:
    """Whether logging in once more can help: the session has expired, or the vCenter was replaced
    by one that does not speak the API version that was agreed on."""
    if isinstance(fault, vim.fault.NotAuthenticated):
        return True
    return (
        type(fault) is vmodl.fault.InvalidRequest and "unsupported version" in _words(fault).lower()
    )


def limit_error(vcenter: str, instance_uuid: str, limit: int | None) -> ConnectionLimitReached:
    """The error of a VM whose *limit* consoles are all in use; None: vCenter does not tell it."""
    of_all = f"all {limit}" if limit else "all its"
    return ConnectionLimitReached(
        f"vcenter {vcenter}: instance {instance_uuid}: {of_all} consoles are in use; raise "
        f"RemoteDisplay.maxConnections of the VM, end one with 'mksfilter sessions drop', "
        f"or set take_over = drop"
    )


def login_error(fault: Exception, vcenter: str, username: str) -> BackendError:
    """The error of a log-in that vCenter refused."""
    if isinstance(fault, vim.fault.InvalidLogin):
        return VCenterLoginRefused(
            f"vcenter {vcenter}: login refused for user {username}; "
            f"check password_file, and whether the account is locked"
        )
    if isinstance(fault, vim.fault.NoPermission):
        return VCenterLoginRefused(
            f"vcenter {vcenter}: user {username} may not log in; give it a role with System.View"
        )
    return VCenterLoginRefused(
        f"vcenter {vcenter}: login failed for user {username}: {_words(fault)}"
    )


def as_error(fault: Exception, vcenter: str, username: str, instance_uuid: str) -> BackendError:
    """The error of a call about one instance that vCenter answered with *fault*."""
    where = f"vcenter {vcenter}: instance {instance_uuid}"
    if isinstance(fault, vmodl.fault.ManagedObjectNotFound):
        return InstanceNotFound(f"{where}: the VM was deleted")
    # A subclass of NoPermission. A new log-in was tried before this is called.
    if isinstance(fault, vim.fault.NotAuthenticated):
        return VCenterLoginRefused(
            f"vcenter {vcenter}: the session of user {username} is refused right after login; "
            f"is there a load balancer without affinity in front of the vCenter?"
        )
    if isinstance(fault, vim.fault.NoPermission):
        return ConsoleNotPermitted(
            f"{where}: user {username} lacks {fault.privilegeId or CONSOLE_PRIVILEGE}; "
            f"a console needs System.View, System.Read and {CONSOLE_PRIVILEGE} on the VM"
        )
    if isinstance(fault, vim.fault.MksConnectionLimitReached):
        return limit_error(vcenter, instance_uuid, fault.connectionLimit)
    if isinstance(fault, vim.fault.InvalidPowerState):
        try:
            check_power(str(fault.existingState), vcenter, instance_uuid)
        except BackendError as error:
            return error
    if isinstance(fault, vmodl.fault.HostCommunication):
        return HostDisconnected(f"{where}: vCenter cannot talk to its host; reconnect the host")
    if isinstance(fault, vmodl.fault.MethodNotFound):
        if str(fault.method) in ("QueryConnections", "DropConnections"):
            return TicketRefused(
                f"{where}: vSphere before 7.0.1 can neither list nor end a VM's consoles"
            )
        return TicketRefused(
            f"{where}: this vCenter is too old for {fault.method or 'this call'}; "
            f"set backend = auto"
        )
    if isinstance(fault, vmodl.fault.InvalidArgument):
        return TicketRefused(
            f"{where}: vCenter does not know this kind of ticket; set backend = auto"
        )
    return TicketRefused(f"{where}: no ticket: {_words(fault)}")


def unreadable(exc: AnswerUnreadable, vcenter: str, instance_uuid: str) -> TicketRefused:
    """The error of a call about one instance whose answer is no answer."""
    _, _, why = str(exc).rpartition("): the answer ")
    if why.startswith("is not XML"):
        why = "is not XML: is there a control character in its name?"
    return TicketRefused(
        f"vcenter {vcenter}: instance {instance_uuid}: what vCenter answers about this VM cannot "
        f"be read: it {why}"
    )


def _words(fault: Exception) -> str:
    text = " ".join(str(getattr(fault, "msg", "") or "").split())
    name = type(fault).__name__.rpartition(".")[2]
    return f"{name}: {text[:200]}" if text else name
