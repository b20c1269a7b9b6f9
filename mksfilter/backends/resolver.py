"""From an instance to its console: which vCenter has the VM, and a ticket from there.

Nova's VMware driver gives a VM the instance's UUID as ``instanceUuid``, so the UUID alone finds the
VM, in whichever vCenter it is. Three steps:

1. **The likely vCenter** is asked first: the one whose cache has the instance, else the one that
   the caller's hint names, else the only one. A wrong guess costs a round trip and nothing else.
2. **The search** asks all others at once, and the first that has the VM wins. "No such instance"
   is the answer only when every vCenter has said so. If one did not answer, its error is raised
   instead: a user who is told that an instance does not exist stops trying.
3. **The ticket** is one queued call at that vCenter: find the VM, from the cache or by a look-up,
   take the ticket, build the endpoint.

A cache entry may be stale: a VM moved between vCenters or registered anew has another id. That
shows when the VM is used (``InstanceNotFound`` of a remembered VM), and then the call is repeated
once with a look-up. Whether a VM that is remembered runs is not asked in advance; a refused ticket
makes its states be read, so that the error says what is the matter.

Nothing here does I/O. Each :class:`~mksfilter.backends.vsphere.session.Session` has its own
queue, breaker and log-in, so that one vCenter's trouble delays no console of another.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import threading
import time
import uuid as uuids
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

from mksfilter.backends import registry
from mksfilter.backends.base import Backend
from mksfilter.backends.vsphere import faults
from mksfilter.backends.vsphere.call_queue import Call
from mksfilter.backends.vsphere.client import VM, About, Connection
from mksfilter.backends.vsphere.power_watch import PowerWatch
from mksfilter.backends.vsphere.question import question_for_user
from mksfilter.backends.vsphere.session import Session, log_out
from mksfilter.backends.vsphere.shared_record import SharedRecord
from mksfilter.config import VCenterSettings
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import (
    BackendError,
    ConfigurationError,
    ConnectionLimitReached,
    HostDisconnected,
    InstanceNotFound,
    InstancePoweredOff,
    InstanceSuspended,
    TicketRefused,
    VCenterUnreachable,
)
from mksfilter.log import event
from mksfilter.tls import expiry, ssl_context

__all__ = ["Consoles", "VCenterState"]

LOG = logging.getLogger(__name__)

_ESCAPED = re.compile("%(2[fF]|5[cC]|25)")
T = TypeVar("T")

# How long a VM takes to notice that its oldest console is gone.
_TAKE_OVER_PAUSES = (0.0, 0.1, 0.4, 1.0)


@dataclasses.dataclass(frozen=True)
class VCenterState:
    """What an operator sees of a vCenter.

    :param state: ``new`` (not asked yet), ``up``, ``down`` (not asked for a while), ``probing``
        (one attempt is let through), ``login-refused``.
    :param healthy: its last call or probe was answered; false before the first. It says nothing of
        the password.
    :param retry_in: seconds until it is asked again; 0 when it may be asked now.
    :param in_flight: calls being answered; ``waiting``: calls in the queue.
    :param remembered: VMs in its cache.
    :param certificate_ends: seconds since the epoch; 0: not known yet.
    """

    name: str
    state: str
    healthy: bool
    retry_in: float
    in_flight: int
    waiting: int
    api_version: str
    remembered: int
    last_error: str
    certificate_ends: float = 0.0


class Consoles:
    """All consoles of all vCenters. Thread-safe; threads are greenlets where gevent patched them.

    Nothing is connected, and no thread started, before the first console is asked for: it may be
    made before a worker forks.

    :param take_over: ``drop``: at its console limit, a VM's oldest console is ended first.
    :param took_over: is called with the vCenter's name and the instance when that was done.
    :param queue_timeout: seconds for which a caller waits in a vCenter's queue, and for which all
        vCenters together are searched.
    :param runtime_directory: where the processes of this node share what they know of a vCenter;
        ``""``: each goes by what it knows itself.
    :raises ConfigurationError: certificates or backends of a vCenter cannot be used as configured.
    """

    def __init__(
        self,
        vcenters: Sequence[VCenterSettings],
        *,
        allowed_networks: Iterable[str] = (),
        take_over: str = "refuse",
        queue_timeout: float = 30.0,
        runtime_directory: str = "",
        took_over: Callable[[str, str], None] = lambda _vcenter, _instance: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.allowed_networks = tuple(allowed_networks)  # checked where names are resolved: dial
        self._take_over = take_over
        self._queue_timeout = queue_timeout
        self._runtime_directory = runtime_directory
        self._took_over = took_over
        self._clock = clock
        self._sleep = sleep or time.sleep
        self._vcenters = tuple(vcenters)
        for settings in self._vcenters:
            ssl_context(settings)
            registry.load(settings)
        self._built: dict[str, _Site] | None = None
        self._building = threading.Lock()

    @property
    def _sites(self) -> dict[str, _Site]:
        # A worker may load the application before it forks and before gevent patches it; locks and
        # sockets made then would be of the wrong kind.
        if self._built is None:
            with self._building:
                self._built = self._built or {
                    settings.name: self._site(settings) for settings in self._vcenters
                }
        return self._built

    def _site(self, settings: VCenterSettings) -> _Site:
        session = Session(
            settings,
            queue_timeout=self._queue_timeout,
            record=SharedRecord.of(settings, self._runtime_directory),
            clock=self._clock,
        )
        power = SharedRecord.of(settings, self._runtime_directory, "power")
        return _Site(session, PowerWatch.of(session, power), registry.load(settings))

    def require_running(self, instance_id: str) -> None:
        """Nothing is asked of anybody: whether a machine that is waited for may run by now.

        :raises BackendError: it could not a moment ago; one whose ``retry`` is ``wait``.
        """
        for site in self._sites.values():
            site.power.require_running(_canonical(instance_id))

    def connect(
        self,
        instance_id: str,
        *,
        vcenter: str | None = None,
        user_id: str = "",
        may_take_over: bool = True,
    ) -> Endpoint:
        """Find the VM of *instance_id* and take a ticket for its console.

        :param vcenter: where it is thought to be: the name of a ``[vcenter.NAME]`` group, or Nova's
            node name ``<cluster moid>.<vCenter instanceUuid>``. A wrong hint costs time only.
        :param user_id: users take turns at each vCenter.
        :param may_take_over: option ``take_over`` is for this caller. It is not for a page that
            comes back by itself: two of them would end each other's console for ever.
        :raises BackendError: one of its subclasses, within the vCenters' time-outs.
        """
        take_over = may_take_over and self._take_over == "drop"
        return self._at_vcenter_of(
            instance_id, vcenter, user_id, lambda site, uuid: self._open(site, uuid, take_over)
        )

    def make_room(
        self,
        instance_id: str,
        *,
        vcenter: str | None = None,
        user_id: str = "",
        may_take_over: bool = True,
    ) -> bool:
        """After a console host has refused a ticket: was it that the VM's consoles are used up?

        Where vCenter gives tickets beyond the limit, the host's refusal alone tells nothing.

        :returns: true when there is room now, for :meth:`connect` to be tried once more; false when
            there was room all the time, and the refusal has another cause.
        :raises ConnectionLimitReached: they are used up, and none may be ended for this caller.
        :raises BackendError: vCenter could not be asked.
        """
        take_over = may_take_over and self._take_over == "drop"
        return self._at_vcenter_of(
            instance_id, vcenter, user_id, lambda site, uuid: self._make_room(site, uuid, take_over)
        )

    def connections(
        self, instance_id: str, *, vcenter: str | None = None, user_id: str = ""
    ) -> list[Connection]:
        """The live consoles of an instance, through this proxy or not, in vCenter's order.

        That is taken to be oldest first; the API reference does not say.

        :raises BackendError: like :meth:`connect`; TicketRefused before vSphere 7.0.1.
        """
        return self._at_vcenter_of(
            instance_id,
            vcenter,
            user_id,
            lambda site, uuid: site.with_vm(uuid, site.session.connections),
        )

    def drop(
        self,
        instance_id: str,
        *,
        labels: Container[str] | None = None,
        vcenter: str | None = None,
        user_id: str = "",
    ) -> int:
        """End the live consoles of an instance, or those with one of *labels*; returns how many.

        :raises BackendError: like :meth:`connections`.
        """

        def unwanted(listed: list[Connection]) -> list[Connection]:
            return [one for one in listed if labels is None or one.label in labels]

        return self._at_vcenter_of(
            instance_id,
            vcenter,
            user_id,
            lambda site, uuid: site.with_vm(uuid, lambda vm: site.session.drop(vm, unwanted)),
        )

    def questions(self, vcenter: str, vms: Mapping[str, str]) -> dict[str, str]:
        """What machines wait to be told in vCenter, in one call, in words for their users.

        :param vcenter: the name of a ``[vcenter.NAME]`` group.
        :param vms: instance UUID -> id of its VM.
        :returns: by instance, ``""`` for one that waits for nothing.
        :raises BackendError: vCenter could not be asked.
        """
        site = self._sites.get(vcenter)
        if site is None:
            return {}
        session = site.session
        found = session.run(lambda: session.machines(vms))
        return {uuid: question_for_user(vm.question) for uuid, vm in found.items()}

    def watch(self) -> None:
        """Have all vCenters looked after from now on, whether consoles are asked for or not."""
        for site in self._sites.values():
            site.session.watch()

    def state(self) -> list[VCenterState]:
        """The vCenters in the order of the configuration."""
        return [site.state() for site in self._sites.values()]

    def close(self, *, timeout: float = 2.0) -> None:
        """Log out everywhere; new calls are refused.

        :param timeout: seconds for all vCenters to take leave.
        """
        sessions = [site.session for site in self._sites.values()]
        for site in self._sites.values():
            site.power.close()
        log_out(sessions, timeout=timeout)
        for session in sessions:
            session.close()

    def leave(self) -> None:
        """Log out everywhere in the calling thread: an interpreter that ends starts no other."""
        for site in (self._built or {}).values():
            site.session.leave()

    # -- one vCenter

    def _open(self, site: _Site, instance_uuid: str, take_over: bool) -> Endpoint:
        if not take_over:
            return site.with_vm(instance_uuid, site.open)
        for pause in _TAKE_OVER_PAUSES:
            try:
                return site.with_vm(instance_uuid, site.open)
            except ConnectionLimitReached as limit:
                if not pause:
                    self._drop_oldest(site, instance_uuid, limit)
                else:
                    self._sleep(pause)
        return site.with_vm(instance_uuid, site.open)

    def _make_room(self, site: _Site, instance_uuid: str, take_over: bool) -> bool:
        allowed = site.with_vm(instance_uuid, site.session.exhausted)
        if not allowed:
            return False
        limit = faults.limit_error(site.session.name, instance_uuid, allowed)
        if not take_over:
            raise limit
        self._drop_oldest(site, instance_uuid, limit)
        for pause in _TAKE_OVER_PAUSES:
            self._sleep(pause)
            if not site.with_vm(instance_uuid, site.session.exhausted):
                break
        return True

    def _drop_oldest(self, site: _Site, instance_uuid: str, limit: ConnectionLimitReached) -> None:
        try:
            site.with_vm(instance_uuid, site.drop_oldest)
        except TicketRefused as exc:
            raise ConnectionLimitReached(f"{limit}; take_over failed: {exc}") from exc
        self._took_over(site.session.name, instance_uuid)

    # -- all of them

    def _at_vcenter_of(
        self,
        instance_id: str,
        vcenter: str | None,
        user_id: str,
        work: Callable[[_Site, str], T],
    ) -> T:
        instance_uuid = _canonical(instance_id)
        site = self._likely(instance_uuid, vcenter)
        if site is not None:
            try:
                return site.session.run(
                    lambda: work(site, instance_uuid), user=user_id, machine=instance_uuid
                )
            except InstanceNotFound:
                if len(self._sites) == 1:
                    raise
        found = self._search(instance_uuid, user_id, but=site)
        return found.session.run(
            lambda: work(found, instance_uuid), user=user_id, machine=instance_uuid
        )

    def _likely(self, instance_uuid: str, hint: str | None) -> _Site | None:
        """Where to look first, by what we remember, what we are told, or for lack of choice."""
        if not self._sites:
            raise ConfigurationError("no vCenter is configured; set vcenters in [mksfilter]")
        for site in self._sites.values():
            if instance_uuid in site.session.vms:
                return site
        if hint:
            if hint in self._sites:
                return self._sites[hint]
            server = hint.rpartition(".")[2].lower()
            for site in self._sites.values():
                about = site.session.about
                if about is not None and about.instance_uuid == server:
                    return site
        if len(self._sites) == 1:
            return next(iter(self._sites.values()))
        return None

    def _search(self, instance_uuid: str, user_id: str, but: _Site | None) -> _Site:
        """Ask all vCenters at once; the first that has the VM wins.

        :raises InstanceNotFound: all have answered, and none has it.
        :raises BackendError: none has it, and this one did not answer.
        """
        errors: dict[str, BackendError] = {}
        searching: dict[Future[VM], tuple[_Site, Call[VM]]] = {}
        for site in self._sites.values():
            if site is but:
                continue
            try:
                call = site.session.submit(
                    _finder(site, instance_uuid), user=user_id, machine=instance_uuid
                )
            except BackendError as exc:
                errors[site.session.name] = exc
            else:
                searching[call.future] = (site, call)
        give_up = self._clock() + self._queue_timeout
        try:
            while searching:
                done, _ = wait(
                    searching, max(0.0, give_up - self._clock()), return_when=FIRST_COMPLETED
                )
                if not done:
                    break
                for future in done:
                    site, call = searching.pop(future)
                    try:
                        future.result()
                    except InstanceNotFound:
                        continue
                    except VCenterUnreachable as exc:
                        errors[site.session.name] = site.session.judged(call, exc)
                    except BackendError as exc:
                        errors[site.session.name] = exc
                    else:
                        return site
        finally:
            # Those that wait for a place need not ask any more; those that are being answered end
            # by themselves, or are cut off by their own deadline.
            for future in searching:
                future.cancel()
        for site, _call in searching.values():
            errors[site.session.name] = VCenterUnreachable(
                f"vcenter {site.session.name}: no answer within {self._queue_timeout:g} s"
            )
        if errors:
            # The instance may well be there; who is told that it does not exist stops trying.
            raise next(iter(errors.values()))
        raise InstanceNotFound(
            f"no VM has the instanceUuid {instance_uuid}; searched vcenters "
            f"{', '.join(self._sites)}"
        )


@dataclasses.dataclass(frozen=True)
class _Site:
    """A vCenter session and the kind of console taken from there."""

    session: Session
    power: PowerWatch
    backend_for: Callable[[About], Backend]

    def with_vm(self, instance_uuid: str, use: Callable[[VM], T]) -> T:
        """*use* the VM; what was remembered of it is healed once when it proves stale."""
        vm = self.backend().find(self.session, instance_uuid)
        try:
            return use(vm)
        except InstanceNotFound:
            if not vm.remembered:
                raise
        self.session.vms.forget(instance_uuid)
        return use(self.backend().find(self.session, instance_uuid))

    def open(self, vm: VM) -> Endpoint:
        try:
            return self._open(vm)
        except BackendError as exc:
            exc.facts["machine"] = _unescaped(vm.name)
            if exc.retry == "wait":  # who is told so will ask again and again
                self.power.watch(vm.instance_uuid, vm.moid, exc.reason)
            raise

    def _open(self, vm: VM) -> Endpoint:
        backend = self.backend()
        if not vm.remembered:
            faults.check_state(vm, self.session.name)
        try:
            ticket = backend.ticket(self.session, vm)
        except (TicketRefused, HostDisconnected, InstancePoweredOff, InstanceSuspended):
            # "Not in the current state" can mean anything, and one that is off may be locked, or
            # ask something before it starts; the VM's own states say what.
            now = self.session.verify(vm.moid, vm.instance_uuid)
            faults.check_refused(now, self.session.name)
            raise
        endpoint = backend.endpoint(self.session, vm, ticket)
        question = "" if vm.remembered else question_for_user(vm.question)
        return dataclasses.replace(
            endpoint, vm=vm.moid, name=_unescaped(vm.name), question=question
        )

    def drop_oldest(self, vm: VM) -> None:
        LOG.info(event("take-over", vcenter=self.session.name, instance=vm.instance_uuid))
        self.session.drop(vm, lambda listed: listed[:1])

    def backend(self) -> Backend:
        return self.backend_for(self.session.connect())

    def state(self) -> VCenterState:
        session = self.session
        about = session.about
        if session.breaker.state != "closed":
            state = {"open": "down", "half-open": "probing"}[session.breaker.state]
            retry_in = session.breaker.retry_in
        else:
            retry_in = session.login_retry_in
            state = "login-refused" if retry_in else "up" if session.healthy else "new"
        return VCenterState(
            name=session.name,
            state=state,
            healthy=session.healthy,
            retry_in=retry_in,
            in_flight=session.calls.in_flight,
            waiting=session.calls.waiting,
            api_version=".".join(map(str, about.api_version)) if about else "",
            remembered=len(session.vms),
            last_error=session.last_error,
            certificate_ends=_certificate_ends(session.certificate),
        )


@functools.lru_cache(maxsize=64)
def _certificate_ends(der: bytes | None) -> float:
    if der is None:
        return 0.0
    try:
        return expiry(der)
    except ValueError:  # OpenSSL takes what is not DER to the letter
        return 0.0


def _finder(site: _Site, instance_uuid: str) -> Callable[[], VM]:
    return lambda: site.backend().find(site.session, instance_uuid)


def _canonical(instance_id: str) -> str:
    """
    :raises InstanceNotFound: not a UUID; Nova's instances have no other names.
    """
    try:
        return str(uuids.UUID(instance_id))
    except ValueError:
        raise InstanceNotFound("the instance id is not a UUID") from None


def _unescaped(name: str) -> str:
    """A ``ManagedEntity.name`` as people know it: vCenter escapes slash, backslash and percent."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
