"""A session with one vCenter: log-in, its renewal, bounded calls, and what is asked in them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container, Iterable
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
from mksfilter.backends.vsphere.faults import as_error, forgot_us, login_error
from mksfilter.backends.vsphere.vm_cache import VMCache
from mksfilter.config import VCenterSettings
from mksfilter.exceptions import (
    CertificateMismatch,
    InstanceNotFound,
    VCenterLoginRefused,
    VCenterUnreachable,
)
from mksfilter.log import event

__all__ = ["Session", "log_out"]

LOG = logging.getLogger(__name__)

# QueryEvents gives no more at once; a second with more than that is not divided further.
_MOST_EVENTS: Final = 1000
_SHORTEST_SPAN: Final = 1.0
T = TypeVar("T")

_LISTS_CONNECTIONS: Final = (7, 0, 1)


class Session:
    """A vCenter session shared by all consoles of this process. Thread-safe.

    Callers use :meth:`submit` and :meth:`run`. The methods below them talk to vCenter; they are
    called from the work that is submitted.

    :param queue_timeout: seconds a caller waits for its turn.
    """

    def __init__(
        self,
        settings: VCenterSettings,
        *,
        queue_timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.vms = VMCache(clock=clock)
        self.breaker = Breaker(clock=clock)
        self.last_error = ""
        self.calls = CallQueue(
            settings.name,
            workers=settings.pool_size,
            timeout=settings.timeout,
            queue_timeout=queue_timeout,
            clock=clock,
        )
        # A refused password is tried again after two minutes at the earliest: vCenter locks an
        # account after five failures in three minutes, and every worker process has a session.
        self._login_breaker = Breaker(threshold=1, pause=120.0, longest=1800.0, clock=clock)
        self._login_error = ""
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
        """Seconds until a refused log-in is tried again."""
        return self._login_breaker.retry_in

    # -- for callers

    def submit(self, work: Callable[[], T], *, user: str = "") -> Call[T]:
        """Queue *work*, unless the breaker is open.

        :raises VCenterUnreachable: it has not answered several times in a row.
        """
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
        call.future.add_done_callback(self._record)
        return call

    def run(self, work: Callable[[], T], *, user: str = "") -> T:
        """Queue *work* and wait for it.

        :raises VCenterUnreachable: see :meth:`submit`; or it did not answer in time.
        :raises VCenterBusy: no turn came in time.
        """
        return self.submit(work, user=user).result(self.name)

    def log_out(self) -> Future[None] | None:
        """Start to log out. A courtesy: vCenter forgets idle sessions by itself."""
        if not self._epoch or self.breaker.state != "closed":
            return None
        with contextlib.suppress(VCenterUnreachable):
            return self.calls.submit(self._client.logout).future
        return None

    def close(self) -> None:
        """Let the workers end; new work is refused."""
        self.calls.close()
        self._client.close()

    def _abortable(self, abort: Callable[[], None]) -> None:
        call = self.calls.current()
        if call is not None:
            call.abort_with(abort)

    def _record(self, future: Future[T]) -> None:
        if future.cancelled():
            self.breaker.abandoned()
            return
        error = future.exception()
        if isinstance(error, VCenterUnreachable):
            self.last_error = str(error)
            before = self.breaker.state
            self.breaker.failed()
            if before == "closed" and self.breaker.state != "closed":
                LOG.warning(
                    event(
                        "vcenter-left-alone",
                        vcenter=self.name,
                        seconds=round(self.breaker.retry_in),
                        detail=self.last_error,
                    )
                )
            return
        if isinstance(error, (CertificateMismatch, VCenterLoginRefused)):
            self.last_error = str(error)
            self.breaker.abandoned()
            return
        self.last_error = ""
        self.breaker.succeeded()

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
        return vm

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
        instance_uuid: str = "-",
        after_login: Callable[[], object] = lambda: None,
    ) -> T:
        epoch = self._epoch or self._ensure_login(0)
        try:
            try:
                self.calls.extend()
                return request()
            except (vim.fault.NotAuthenticated, vmodl.fault.InvalidRequest) as fault:
                if not forgot_us(fault):
                    raise
                self._ensure_login(epoch)
                after_login()
                self.calls.extend()
                return request()
        except vmodl.MethodFault as fault:
            raise as_error(fault, self.name, self.settings.username, instance_uuid) from None

    def _ensure_login(self, seen: int) -> int:
        """Log in, once for all who saw the session of epoch *seen* fail."""
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
        if not self._login_breaker.allow():
            raise VCenterLoginRefused(
                f"{self._login_error}; not tried again for {self._login_breaker.retry_in:.0f} s, "
                f"lest the account be locked"
            )
        try:
            # What is remembered belongs to the old session; see find().
            self.vms.clear()
            self.calls.extend()
            # Once more at each log-in: a vCenter that was away may have come back as another
            # version.
            about = self._client.open()
            self.calls.extend()
            self._client.login()
        except (vim.fault.InvalidLogin, vim.fault.NoPermission) as fault:
            self._login_breaker.failed()
            error = login_error(fault, self.name, self.settings.username)
            self._login_error = str(error)
            raise error from None
        except vmodl.MethodFault as fault:
            self._login_breaker.abandoned()
            raise login_error(fault, self.name, self.settings.username) from None
        except BaseException:
            self._login_breaker.abandoned()
            raise
        self._login_breaker.succeeded()
        self._epoch += 1
        LOG.info(
            event(
                "vcenter-login",
                vcenter=self.name,
                api_version=".".join(map(str, about.api_version)),
                user=self.settings.username,
            )
        )


def log_out(sessions: Iterable[Session], *, timeout: float = 2.0) -> None:
    """Log out of all *sessions* at once, as far as they answer within *timeout* seconds."""
    wait([future for session in sessions if (future := session.log_out())], timeout)
