"""A session with one vCenter: log-in, its renewal, bounded calls, and what is asked in them."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import Future, wait
from typing import Final, TypeVar

from pyVmomi import vim, vmodl

from mksfilter.backends.vsphere.breaker import Breaker
from mksfilter.backends.vsphere.call_queue import Call, CallQueue
from mksfilter.backends.vsphere.client import (
    VM,
    About,
    Connection,
    ConsoleEvent,
    Ticket,
    VSphereClient,
)
from mksfilter.backends.vsphere.faults import as_error, forgot_us, login_error, unreadable
from mksfilter.backends.vsphere.login_gate import LoginGate
from mksfilter.backends.vsphere.machines import Machines
from mksfilter.backends.vsphere.probe import Prober
from mksfilter.backends.vsphere.shared_record import SharedRecord
from mksfilter.backends.vsphere.vm_cache import VMCache
from mksfilter.config import VCenterSettings, current_password
from mksfilter.exceptions import (
    AnswerUnreadable,
    BackendError,
    CertificateMismatch,
    ConfigurationError,
    InstanceNotFound,
    MachineUnresponsive,
    VCenterLoginRefused,
    VCenterUnreachable,
)
from mksfilter.log import event
from mksfilter.lru import LRUMap

__all__ = ["Session", "log_out"]

LOG = logging.getLogger(__name__)

# QueryEvents gives no more at once; a second with more than that is not divided further.
_MOST_EVENTS: Final = 1000
_SHORTEST_SPAN: Final = 1.0
T = TypeVar("T")

_LISTS_CONNECTIONS: Final = (7, 0, 1)
_NO_INSTANCE: Final = "-"
#: Seconds for which nobody asks a vCenter that did not answer; a probe ends it sooner.
_PAUSE: Final = 10.0
#: Seconds for which an answer is news, and that a user waits for it to be found out whose fault it
#: is that there was none.
_VERDICT_SECONDS: Final = 2.0
_KNOWN_HOSTS: Final = 10_000
#: Seconds for each step of a log-out at the end of a process.
_LEAVE_SECONDS: Final = 1.0


class Session:
    """A vCenter session shared by all consoles of this process. Thread-safe.

    Callers use :meth:`submit` and :meth:`run`. The methods below them talk to vCenter; they are
    called from the work that is submitted.

    What counts against the vCenter is what fails without a VM: to connect, to log in, a probe. A
    call about a VM that has no answer proves nothing of it. It makes the prober look, and when the
    vCenter answers that, it counts against the VM and its host alone.

    :param queue_timeout: seconds a caller waits for its turn.
    :param record: what the processes of this node share about the vCenter and the account.
    :param clock: seconds, the same for these processes and never set: CLOCK_MONOTONIC is.
    :ivar healthy: whether the last call or probe was answered; False before the first.
    """

    def __init__(
        self,
        settings: VCenterSettings,
        *,
        queue_timeout: float = 30.0,
        record: SharedRecord | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        record = record or SharedRecord()
        self.settings = settings
        self.name = settings.name
        self.vms = VMCache(clock=clock)
        self.breaker = Breaker(pause=_PAUSE, longest=_PAUSE, clock=clock)
        self.healthy = False
        self.last_error = ""
        self._clock = clock
        self._answered_at = -math.inf
        self._doubtful = False
        self._machines = Machines(clock=clock)
        self._host_of: LRUMap[str, str] = LRUMap(_KNOWN_HOSTS)
        self.calls = CallQueue(
            settings.name,
            workers=settings.pool_size,
            timeout=settings.timeout,
            queue_timeout=queue_timeout,
            clock=clock,
        )
        self._record = record
        self._login_gate = LoginGate(record, window=settings.lockout_window, clock=clock)
        self._prober = Prober(settings, self, record, clock=clock)
        self._client = VSphereClient(settings, abortable=self._abortable)
        self._login_lock = threading.Lock()
        self._epoch = 0
        self._fqdn: str | None = None
        if settings.insecure:
            LOG.warning(
                event(
                    "certificate-not-verified",
                    vcenter=self.name,
                    option=f"[vcenter.{self.name}] insecure",
                    detail="its password and its consoles can be intercepted",
                )
            )

    @property
    def about(self) -> About | None:
        """None until the first connection."""
        return self._client.about

    @property
    def certificate(self) -> bytes | None:
        """The vCenter's certificate (DER) as last seen; None until the first connection."""
        return self._client.certificate

    @property
    def logged_in(self) -> bool:
        return self._epoch > 0

    @property
    def login_retry_in(self) -> float:
        """Seconds until a refused log-in is tried again, by whichever process of this node."""
        try:
            return self._login_gate.retry_in(current_password(self.settings))
        except ConfigurationError:
            return 0.0

    # -- for callers

    def watch(self) -> None:
        """Have the vCenter looked after from now on, whether consoles are asked for or not."""
        self._prober.watch()

    def submit(self, work: Callable[[], T], *, user: str = "", machine: str = "") -> Call[T]:
        """Queue *work*, unless the vCenter or the VM is left alone.

        :param machine: the instance that it is about.
        :raises VCenterUnreachable: the vCenter has not answered several times in a row.
        :raises MachineUnresponsive: what concerned this VM, or its host, was not answered.
        """
        if self.breaker.state != "closed" and self._prober.healed():
            self.probe_answered()
        wait_for = self._machines.retry_in(machine, self._host_of.get(machine) or "")
        if wait_for > 0:
            raise MachineUnresponsive(
                f"vcenter {self.name}: instance {machine}: left alone for {wait_for:.0f} s more: "
                f"vCenter gave no answer about it several times; does its host hang?"
            )
        if not self.breaker.allow():
            raise VCenterUnreachable(
                f"vcenter {self.name}: left alone for {self.breaker.retry_in:.0f} s more after "
                f"repeated failures; last: {self.last_error}"
            )
        try:
            call = self.calls.submit(work, user=user)
        except BaseException:
            self.breaker.abandoned()
            raise
        call.future.add_done_callback(lambda future: self._note(call, future, machine))
        return call

    def run(self, work: Callable[[], T], *, user: str = "", machine: str = "") -> T:
        """Queue *work* and wait for it.

        :param machine: as for :meth:`submit`.
        :raises VCenterUnreachable: see :meth:`submit`; or it did not answer in time.
        :raises MachineUnresponsive: see :meth:`submit`; or it answers others.
        :raises VCenterBusy: no turn came in time.
        """
        call = self.submit(work, user=user, machine=machine)
        try:
            return call.result(self.name)
        except VCenterUnreachable as error:
            raise self.judged(call, error) from None

    def judged(self, call: Call[T], error: VCenterUnreachable) -> BackendError:
        """*error* of a call that failed, or that of the VM when the vCenter answers others."""
        if not call.subject:
            return error
        if self.answered_ago > _VERDICT_SECONDS:
            self._prober.settle(_VERDICT_SECONDS)
            if self.answered_ago > _VERDICT_SECONDS:
                return error
        self._machines.failed(call.subject, self._host_of.get(call.subject) or "")
        return MachineUnresponsive(
            f"vcenter {self.name}: instance {call.subject}: vCenter answers, and not what concerns "
            f"this VM ({error}); does its host hang?"
        )

    def log_out(self) -> Future[None] | None:
        """Start to log out. A courtesy: vCenter forgets idle sessions by itself."""
        if not self._epoch or self.breaker.state != "closed":
            return None
        with contextlib.suppress(VCenterUnreachable):
            return self.calls.submit(self._client.logout).future
        return None

    def leave(self) -> None:
        """Log out in the calling thread, if that is quick."""
        if self._epoch and self.breaker.state == "closed":
            with contextlib.suppress(VCenterUnreachable, CertificateMismatch, vmodl.MethodFault):
                self._client.leave(_LEAVE_SECONDS)

    def close(self) -> None:
        """Let the workers end; new work is refused."""
        self._prober.close()
        self.calls.close()
        self._client.close()

    def _abortable(self, abort: Callable[[], None]) -> None:
        call = self.calls.current()
        if call is not None:
            call.abort_with(abort)

    # -- what is known of the vCenter

    @property
    def well(self) -> bool:
        """See :class:`.probe.Health`."""
        return not self._doubtful

    @property
    def answered_ago(self) -> float:
        """See :class:`.probe.Health`."""
        return self._clock() - self._answered_at

    def probe_answered(self) -> None:
        """See :class:`.probe.Health`."""
        if self.breaker.state != "closed":
            LOG.info(event("vcenter-answers-again", vcenter=self.name))
        self._answered()

    def probe_failed(self, error: BackendError) -> None:
        """See :class:`.probe.Health`."""
        # Where a pause is over it is this that was let through, not a user.
        if self.breaker.state != "open" and self.breaker.allow():
            self._failed(error)
        else:
            self._doubt(error)

    def _note(self, call: Call[T], future: Future[T], machine: str) -> None:
        """What a call has shown."""
        cancelled = future.cancelled()
        error = None if cancelled else future.exception()
        if cancelled:
            self.breaker.abandoned()
        elif isinstance(error, VCenterUnreachable) and call.subject:
            self.breaker.abandoned()
            self._prober.doubt()
        elif isinstance(error, (VCenterUnreachable, CertificateMismatch)):
            self._failed(error)
        elif isinstance(error, VCenterLoginRefused):
            self.last_error = str(error)
            self.breaker.abandoned()
        else:
            self._answered()
            if machine:
                self._machines.answered(machine, self._host_of.get(machine) or "")

    def _answered(self) -> None:
        self._answered_at = self._clock()
        self._doubtful = False
        self.healthy = True
        self.last_error = ""
        self.breaker.succeeded()

    def _doubt(self, error: BackendError) -> None:
        self._doubtful = True
        self.healthy = False
        self.last_error = str(error)

    def _failed(self, error: BackendError) -> None:
        """It is the vCenter that failed."""
        self._doubt(error)
        if isinstance(error, CertificateMismatch):
            self.breaker.abandoned()  # somebody is there: each caller is told what is wrong
            return
        before = self.breaker.state
        self.breaker.failed()
        if before == "closed" and self.breaker.state != "closed":
            self._prober.lost()
            LOG.warning(
                event(
                    "vcenter-left-alone",
                    vcenter=self.name,
                    seconds=round(self.breaker.retry_in),
                    detail=self.last_error,
                )
            )

    # -- inside submitted work

    def find(self, instance_uuid: str, *, current: bool = False) -> VM:
        """The VM of this instance, remembered or looked up.

        :param current: its states are needed as they are now.
        :raises InstanceNotFound: there is none here.
        """
        known = self.vms.get(instance_uuid)
        if known is not None:
            vm, fresh = known
            if fresh and not current:
                # Not asked again, which is safe: a moid belongs to one VM for as long as this
                # vCenter session lives, for vCenter numbers VMs from a sequence that only a
                # restore from backup turns back. Such a restart ends the session, and with it
                # all that is remembered (see _login). What is left is an operator who gives the
                # same instanceUuid to another VM; that is noticed once this is no longer fresh.
                return vm
            with contextlib.suppress(InstanceNotFound):
                return self.verify(vm.moid, instance_uuid)
        return self.look_up(instance_uuid)

    def look_up(self, instance_uuid: str) -> VM:
        """Like :meth:`find`, without looking into memory.

        :raises InstanceNotFound: there is none here.
        """
        self.vms.forget(instance_uuid)
        moid = self._ask(lambda: self._client.find(instance_uuid), instance_uuid)
        if moid is None:
            raise InstanceNotFound(
                f"vcenter {self.name}: no VM has the instanceUuid {instance_uuid}"
            )
        return self.verify(moid, instance_uuid)

    def verify(self, moid: str, instance_uuid: str) -> VM:
        """Read the VM *moid* and make sure that it is this instance (CVE-2014-8750).

        :raises InstanceNotFound: it is another VM, or none any more.
        """
        return self._ask(lambda: self._check(moid, instance_uuid), instance_uuid)

    def _check(self, moid: str, instance_uuid: str) -> VM:
        self.vms.forget(instance_uuid)
        vm = self._client.vm(moid)
        if vm.instance_uuid != instance_uuid:
            LOG.warning(
                event(
                    "wrong-vm",
                    vcenter=self.name,
                    instance=instance_uuid,
                    moid=moid,
                    found_instance=vm.instance_uuid,
                )
            )
            raise InstanceNotFound(
                f"vcenter {self.name}: VM {moid} was found for instance {instance_uuid} but has "
                f"another instanceUuid; is it being replaced?"
            )
        self.vms.put(vm)
        self._host_of.put(instance_uuid, vm.host)
        return vm

    def machines(self, vms: Mapping[str, str]) -> dict[str, VM]:
        """Several VMs as they are now, in one request.

        :param vms: instance UUID -> id of its VM; what is not that instance any more is left out.
        """
        found = self._ask(lambda: self._client.vms(list(vms.values())), next(iter(vms)))
        return {
            uuid: vm
            for uuid, moid in vms.items()
            if (vm := found.get(moid)) is not None and vm.instance_uuid == uuid
        }

    def ticket(self, vm: VM, kind: str) -> Ticket:
        """``AcquireTicket`` of *kind* (``webmks`` or ``mks``).

        :raises InstanceNotFound: *vm* is not that VM any more; :meth:`look_up` heals it.
        """
        return self._ask_about(vm, lambda: self._client.ticket(vm.moid, kind))

    def clone_ticket(self) -> str:
        """``AcquireCloneTicket``. Its bearer gets this session's rights in vCenter."""
        return self._ask(self._client.clone_ticket)

    def fqdn(self) -> str:
        """How the vCenter calls itself (``VirtualCenter.FQDN``); ``""`` when it does not."""
        if self._fqdn is None:
            self._fqdn = self._ask(lambda: self._client.option("VirtualCenter.FQDN"))
        return self._fqdn

    def connections(self, vm: VM) -> list[Connection]:
        """The live consoles of *vm* in vCenter's order (API 7.0.1.0 and later)."""
        return self._ask_about(vm, lambda: self._client.connections(vm.moid))

    def drop(self, vm: VM, unwanted: Callable[[list[Connection]], Container[Connection]]) -> int:
        """End those consoles of *vm* that *unwanted* picks; returns how many."""
        return self._ask_about(vm, lambda: self._client.drop(vm.moid, unwanted))

    def exhausted(self, vm: VM) -> int:
        """How many consoles *vm* may have, if all of them are in use; else 0."""
        used, allowed = self._ask_about(vm, lambda: self._client.console_counts(vm.moid))
        if allowed > used and self.connect().api_version >= _LISTS_CONNECTIONS:
            used = max(used, len(self.connections(vm)))
        return allowed if used >= allowed else 0

    def privileges(self, names: list[str]) -> list[bool]:
        """Which of *names* the user has on the root folder."""
        return self._ask(lambda: self._client.privileges(names))

    def console_events(self, begin: float, end: float) -> list[ConsoleEvent]:
        """What happened to consoles between two moments (seconds since the epoch), oldest first.

        A span with as many events as vCenter gives at once is asked for in halves.
        """
        found = self._ask(lambda: self._client.console_events(begin, end))
        if len(found) >= _MOST_EVENTS and end - begin > _SHORTEST_SPAN:
            middle = (begin + end) / 2
            found = [*self.console_events(begin, middle), *self.console_events(middle, end)]
        unique = {event.key: event for event in found}
        return sorted(unique.values(), key=lambda event: (event.time, event.key))

    def ask(self, question: Callable[[VSphereClient], T], *, about: str = _NO_INSTANCE) -> T:
        """What *question* finds out by the client; for what opening a console does not need.

        :param about: the instance that it concerns.
        """
        return self._ask(lambda: question(self._client), about)

    def connect(self) -> About:
        """Log in unless that is done; what the server says about itself."""
        self._ensure_login(0)
        assert self._client.about is not None
        return self._client.about

    def _ask_about(self, vm: VM, request: Callable[[], T]) -> T:
        return self._ask(
            request,
            vm.instance_uuid,
            # The moid came from the session that has ended.
            after_login=lambda: self._check(vm.moid, vm.instance_uuid),
        )

    def _ask(
        self,
        request: Callable[[], T],
        instance_uuid: str = _NO_INSTANCE,
        after_login: Callable[[], object] = lambda: None,
    ) -> T:
        epoch = self._epoch or self._ensure_login(0)
        try:
            try:
                return self._send(request, instance_uuid)
            except (vim.fault.NotAuthenticated, vmodl.fault.InvalidRequest) as fault:
                if not forgot_us(fault):
                    raise
                self._ensure_login(epoch)
                after_login()
                return self._send(request, instance_uuid)
        except vmodl.MethodFault as fault:
            raise as_error(fault, self.name, self.settings.username, instance_uuid) from None
        except AnswerUnreadable as exc:
            if instance_uuid == _NO_INSTANCE:
                raise
            # Something in this VM, or not a vCenter any more: that is looked into.
            self._prober.doubt()
            raise unreadable(exc, self.name, instance_uuid) from exc

    def _send(self, request: Callable[[], T], instance_uuid: str) -> T:
        self.calls.extend()
        call = self.calls.current()
        if call is None:
            return request()
        call.subject = "" if instance_uuid == _NO_INSTANCE else instance_uuid
        answer = request()
        call.subject = ""  # of one that failed it stays, for who asks whose fault that was
        return answer

    def _ensure_login(self, seen: int) -> int:
        """Log in, once for all who saw the session of epoch *seen* fail."""
        if self._epoch != seen:  # as in nearly every call: no lock, and under gevent no timer
            return self._epoch
        # Whoever holds the lock is cut off in time; the others must not wait for ever either.
        if not self._login_lock.acquire(timeout=2 * self.settings.timeout):
            raise VCenterUnreachable(f"vcenter {self.name}: another log-in does not end")
        try:
            if self._epoch == seen:
                self._login()
            return self._epoch
        finally:
            self._login_lock.release()

    def _login(self) -> None:
        password = self._password()
        # What is remembered belongs to the old session; see find().
        self.vms.clear()
        call = self.calls.current()
        if call is not None:
            call.subject = ""
        self.calls.extend()
        # Once more at each log-in: a vCenter that was away may have come back as another version.
        about = self._client.open()
        self.calls.extend()
        # One process of this node at a time: whoever comes next knows how it went.
        with self._record.alone("login", self.settings.timeout / 2) as alone:
            if not alone:
                raise VCenterUnreachable(
                    f"vcenter {self.name}: the log-in of another process does not end"
                )
            self._refuse_in_pause(password)
            self.calls.extend()
            try:
                self._client.login(password)
            except vmodl.MethodFault as fault:
                error = login_error(fault, self.name, self.settings.username)
                if isinstance(fault, (vim.fault.InvalidLogin, vim.fault.NoPermission)):
                    self._login_gate.refused(password, str(error))
                raise error from None
        self._login_gate.accepted(password)
        self._epoch += 1
        LOG.info(
            event(
                "vcenter-login",
                vcenter=self.name,
                api_version=".".join(map(str, about.api_version)),
                user=self.settings.username,
            )
        )

    def _password(self) -> str:
        """As it is written now: a password that was changed needs no restart."""
        try:
            password = current_password(self.settings)
        except ConfigurationError as exc:
            raise VCenterLoginRefused(f"vcenter {self.name}: {exc}") from None
        self._refuse_in_pause(password)
        return password

    def _refuse_in_pause(self, password: str) -> None:
        wait_for = self._login_gate.retry_in(password)
        if wait_for > 0:
            raise VCenterLoginRefused(
                f"{self._login_gate.words}; not tried again for {wait_for:.0f} s, lest the account "
                f"be locked"
            )


def log_out(sessions: Iterable[Session], *, timeout: float = 2.0) -> None:
    """Log out of all *sessions* at once, as far as they answer within *timeout* seconds."""
    wait([future for session in sessions if (future := session.log_out())], timeout)
