"""The calls to one vCenter: how many at once, in which order, and for how long.

vCenter is shared with everything else in a cloud. Whatever the number of waiting users, no more
than ``workers`` calls are in flight, users take turns, and a call that does not end in time is cut
off: its socket is shut down from outside, so that a server that sends one byte at a time, which no
socket time-out ever ends, cannot hold a worker for ever.

Built on ``threading`` and ``concurrent.futures`` alone: real threads in nova-api, greenlets under
gunicorn's gevent worker.

Their locks are the interpreter's own (``_thread.RLock``) under gevent too, whose reentrant lock is
written in Python and costs a sixth of a call. That asks one thing of whoever holds one: not to wait
for anything, starting a thread included. Then no greenlet finds it taken by another one of the same
thread.
"""

from __future__ import annotations

import _thread
import contextvars
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Generic, TypeVar

from mksfilter.backends.vsphere.fair_queue import FairQueue
from mksfilter.exceptions import VCenterBusy, VCenterUnreachable
from mksfilter.log import event

__all__ = ["Call", "CallQueue"]

LOG = logging.getLogger(__name__)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_IDLE_WORKER_SECONDS = 30.0


class _Outcome(Future[T]):
    """A future with the interpreter's own lock."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = threading.Condition(_thread.RLock())


class Call(Generic[T_co]):
    """One piece of work, and the way to cut it off.

    :ivar subject: what the request that it is in, or that it failed in, is about: an instance;
        ``""``: the vCenter itself.
    """

    def __init__(self, work: Callable[[], T_co], queue_timeout: float) -> None:
        self.future: Future[T_co] = _Outcome()
        self.queue_timeout = queue_timeout
        self.deadline = 0.0
        self.cut_off = False
        self.subject = ""
        self._work = work
        self._abort: Callable[[], None] | None = None

    def result(self, queue_name: str) -> T_co:
        """Wait for the work, and give up on a place in the queue after ``queue_timeout`` seconds.

        :raises VCenterBusy: no worker came free in time; vCenter was not asked.
        :raises VCenterUnreachable: it was asked and did not answer in time.
        """
        try:
            return self.future.result(timeout=self.queue_timeout)
        except FutureTimeout:
            if not self.future.cancel():
                return self.future.result()  # it runs; its own deadline ends it
        except CancelledError:
            raise VCenterUnreachable(f"vcenter {queue_name}: this process shuts down") from None
        raise VCenterBusy(
            f"vcenter {queue_name}: no call slot came free within {self.queue_timeout:g} s; "
            f"raise its pool_size if it can take more calls at once"
        )

    def perform(self) -> T_co:
        """Do the work, in the calling thread."""
        return self._work()

    def abort_with(self, abort: Callable[[], None]) -> None:
        """*abort* ends the I/O that this call is now in; called from another thread."""
        self._abort = abort
        if self.cut_off:
            abort()

    def cut(self) -> None:
        """End the I/O of this call, now or as soon as it has some."""
        self.cut_off = True
        if self._abort is not None:
            self._abort()


class CallQueue:
    """At most *workers* calls at a time, users in turn, each call within *timeout* seconds.

    :param name: of the vCenter, for errors and thread names.
    :param timeout: seconds from the start of a call (or its last :meth:`extend`) to its end.
    :param queue_timeout: seconds a caller waits for its turn.
    :param quiet: a call that is cut off is nothing to tell.
    """

    def __init__(
        self,
        name: str,
        *,
        workers: int,
        timeout: float,
        queue_timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
    ) -> None:
        self.name = name
        self._level = logging.DEBUG if quiet else logging.WARNING
        self.timeout = timeout
        self._limit = workers
        self._queue_timeout = queue_timeout
        self._clock = clock
        self._waiting: FairQueue[Call[object]] = FairQueue()
        self._running: set[Call[object]] = set()
        self._workers = 0
        self._idle = 0
        self._closed = False
        self._watching = False
        self._watch_wakes = 0.0  # when the watch will look again
        self._lock = _thread.RLock()
        self._work_arrived = threading.Condition(self._lock)
        self._call_started = threading.Condition(self._lock)
        # Made here and not at import: gevent replaces the class, and a thread-local of threads
        # would be shared by all greenlets of one.
        self._local = threading.local()

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, work: Callable[[], T], *, user: str = "") -> Call[T]:
        """Queue *work*; wait for it with :meth:`Call.result`, or on ``Call.future``."""
        # In the context of who asks: its lines of the log name the session that is being opened.
        context = contextvars.copy_context()
        call = Call(functools.partial(context.run, work), self._queue_timeout)
        with self._lock:
            if self._closed:
                raise VCenterUnreachable(f"vcenter {self.name}: this process shuts down")
            self._waiting.put(user, call)
            if self._idle:
                self._work_arrived.notify()
            lacks_worker = len(self._waiting) > self._idle and self._workers < self._limit
            self._workers += lacks_worker
        if lacks_worker:
            self._spawn(self._work, "call")
        return call

    def run(self, work: Callable[[], T], *, user: str = "") -> T:
        """Queue *work* and wait for it; raises what it raises, and what ``Call.result`` does."""
        return self.submit(work, user=user).result(self.name)

    def current(self) -> Call[object] | None:
        """The call that the calling worker is in."""
        return getattr(self._local, "call", None)

    def extend(self) -> None:
        """From within a call: a new request starts, with a deadline of its own."""
        call = self.current()
        if call is not None:
            if call.cut_off:
                raise VCenterUnreachable(f"vcenter {self.name}: given up")
            call.deadline = self._clock() + self.timeout

    def close(self) -> None:
        """Refuse new work and let the workers end; waiting calls are cancelled."""
        left = []
        with self._lock:
            self._closed = True
            while len(self._waiting):
                left.append(self._waiting.pop())
            self._work_arrived.notify_all()
        for call in left:
            call.future.cancel()

    def _spawn(self, target: Callable[[], None], role: str) -> None:
        threading.Thread(target=target, name=f"vcenter-{self.name}-{role}", daemon=True).start()

    def _work(self) -> None:
        while True:
            call = self._next()
            if call is None:
                return
            self._perform(call)
            # A worker waits for a long time between calls; it must not keep a result alive.
            del call

    def _perform(self, call: Call[object]) -> None:
        result: object = None
        error: BaseException | None = None
        self._local.call = call
        try:
            result = call.perform()
        except BaseException as exc:  # raised where the caller waits
            error = exc
        self._local.call = None
        with self._lock:
            # Under the lock: a call that has ended must not be cut off, for its connection may
            # already serve the next one.
            self._running.discard(call)
        if call.cut_off:
            return  # the watch has told the caller
        if error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)

    def _next(self) -> Call[object] | None:
        with self._lock:
            call = self._first_waiting()
            while call is None:
                self._idle += 1
                woken = not self._closed and self._work_arrived.wait(_IDLE_WORKER_SECONDS)
                self._idle -= 1
                if not len(self._waiting) and (self._closed or not woken):
                    self._workers -= 1
                    return None
                call = self._first_waiting()
            call.deadline = self._clock() + self.timeout
            self._running.add(call)
            lacks_watch = not self._watching
            self._watching = True
            if not lacks_watch and self._watch_wakes > call.deadline:
                self._call_started.notify()
        if lacks_watch:
            self._spawn(self._watch, "watch")
        return call

    def _first_waiting(self) -> Call[object] | None:
        """The call whose turn it is; nobody can give it up any more."""
        while len(self._waiting):
            call = self._waiting.pop()
            if call.future.set_running_or_notify_cancel():
                return call
        return None

    def _watch(self) -> None:
        """Cut off what runs for too long."""
        while True:
            late: list[Call[object]] = []
            with self._lock:
                if not self._running:
                    self._watch_wakes = self._clock() + _IDLE_WORKER_SECONDS
                    woken = self._call_started.wait(_IDLE_WORKER_SECONDS)
                    if not self._running and not woken:
                        self._watching = False
                        return
                    continue
                now = self._clock()
                nearest = min(call.deadline for call in self._running)
                if nearest > now:
                    self._watch_wakes = nearest
                    self._call_started.wait(nearest - now)
                    continue
                late = [call for call in self._running if call.deadline <= now]
                for call in late:
                    self._running.discard(call)
                    call.cut()
            for call in late:
                LOG.log(
                    self._level,
                    event("call-cut-off", vcenter=self.name, timeout=f"{self.timeout:g}"),
                )
                call.future.set_exception(
                    VCenterUnreachable(
                        f"vcenter {self.name}: no answer within {self.timeout:g} s; check the "
                        f"network, and the load of the vCenter"
                    )
                )
