"""Where audit events go on their way out: nobody waits for a disk or a broker, none is lost unsaid.

Each place that events are kept in (a sink) has a queue and a writer of its own, so that a broker
which is down takes nothing from the file. A queue is bounded. While its sink fails, what is queued
is tried again by a timer; what finds the queue full is lost, which is counted and said.

With ``fail_closed`` a console is opened, and a link given out, only when every sink has its event:
:meth:`Trail.confirm` waits for that, for a bounded time, and takes the event back otherwise.

Refusals of requests without a good token cost whoever sends them nothing. They are written at a
bounded rate, and how many were not is in the next one, so that nobody can push other events out or
fill a disk.

Writers are ordinary threads, which are greenlets in the proxy. One starts with the first event,
since a process may fork before that.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from mksfilter.audit.events import AuditEvent
from mksfilter.exceptions import AuditUnavailable
from mksfilter.log import event

__all__ = ["NO_TRAIL", "Sink", "Trail"]

LOG = logging.getLogger(__name__)

#: Events without a good token: as many at once, and as many a second for good.
_STRANGERS_AT_ONCE: Final = 100
_STRANGERS_PER_SECOND: Final = 10.0
_RETRY_AFTER: Final = 1.0
_CONFIRM_TIMEOUT: Final = 3.0
_POLL: Final = 0.01


class Sink(Protocol):
    """Keeps events."""

    name: str

    def write(self, item: AuditEvent) -> None:
        """Keep one. It may wait, for a bounded time.

        :raises Exception: it is not kept; it will be given again.
        """

    def close(self) -> None:
        """Nothing more comes."""


@dataclasses.dataclass(eq=False)
class _Item:
    event: AuditEvent
    tried: threading.Event | None = None
    kept: bool = False
    withdrawn: bool = False


class _Writer:
    """A sink with its queue."""

    def __init__(self, sink: Sink, capacity: int, lost: Callable[[str, int], None]) -> None:
        self.sink = sink
        self.failure = ""
        self.lost = 0
        self._report = lost
        self._capacity = capacity
        self._queue: collections.deque[_Item] = collections.deque()
        self._work = threading.Event()
        self._closing = False
        self._pid = 0
        self._lock = threading.Lock()

    def put(self, item: _Item) -> bool:
        """Never waits; False: there is no room."""
        if self._pid != os.getpid():
            self._start()
        if len(self._queue) >= self._capacity:
            self._lose(1)
            return False
        self._queue.append(item)
        self._work.set()
        return True

    def close(self, timeout: float) -> None:
        """Write what is queued, as far as that takes no longer than *timeout* seconds."""
        if self._pid == os.getpid():
            deadline = time.monotonic() + timeout
            # An event leaves the queue when it is written.
            while self._queue and time.monotonic() < deadline:
                time.sleep(_POLL)
            self._closing = True
            self._work.set()
            if left := len(self._queue):
                self._queue.clear()
                self._lose(left)
        self.sink.close()

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            if self._pid:
                self._queue.clear()  # those of the process that this one was forked from
            self._pid = os.getpid()
            name = f"audit-{self.sink.name}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while not self._closing:
            self._work.wait()
            self._work.clear()
            while self._queue and not self._closing:
                item = self._queue[0]
                if not item.withdrawn and not self._write(item):
                    self._work.wait(_RETRY_AFTER)
                    # What has come meanwhile does not make the sink be tried more often.
                    self._work.clear()
                    continue
                if self._queue and self._queue[0] is item:
                    self._queue.popleft()

    def _write(self, item: _Item) -> bool:
        try:
            self.sink.write(item.event)
        except Exception as exc:
            self._failed(exc)
            return False
        if self.failure or self.lost:
            LOG.warning(event("audit-restored", sink=self.sink.name, lost=self.lost))
            self.failure = ""
            self.lost = 0
        item.kept = True
        if item.tried is not None:
            item.tried.set()
        return True

    def _failed(self, exc: Exception) -> None:
        words = " ".join(str(exc).split())[:200]
        failure = words if isinstance(exc, OSError) else f"{type(exc).__name__}: {words}"
        if failure != self.failure:
            LOG.error(
                event(
                    "audit-failing",
                    sink=self.sink.name,
                    detail=failure,
                    note=f"up to {self._capacity} events are kept and tried again",
                )
            )
        self.failure = failure
        # Who waits for an event behind this one need not wait for its turn.
        for item in list(self._queue):
            if item.tried is not None:
                item.tried.set()

    def _lose(self, count: int) -> None:
        if not self.lost:
            LOG.error(
                event(
                    "audit-events-lost",
                    sink=self.sink.name,
                    detail=self.failure or "more events than can be written",
                )
            )
        self.lost += count
        self._report(self.sink.name, count)


class Trail:
    """Takes the audit events of one process.

    :param service: ``api``, ``proxy`` or ``command``.
    :param sinks: none: nothing is recorded, and nothing fails.
    :param fail_closed: option ``audit_fail_closed``.
    :param capacity: events that wait for each sink.
    :param lost: called with a sink's name and a number of events that it will not get.
    :param clock: seconds since the epoch.
    :param monotonic: seconds, never running backwards.
    """

    def __init__(
        self,
        service: str,
        sinks: Sequence[Sink] = (),
        *,
        fail_closed: bool = False,
        capacity: int = 10_000,
        lost: Callable[[str, int], None] = lambda _sink, _count: None,
        node: str = "",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        confirm_timeout: float = _CONFIRM_TIMEOUT,
    ) -> None:
        self._service = service
        self._fail_closed = fail_closed
        self._node = node or socket.gethostname()
        self._clock = clock
        self._monotonic = monotonic
        self._confirm_timeout = confirm_timeout
        self._writers = [_Writer(sink, capacity, lost) for sink in sinks]
        self._allowance = float(_STRANGERS_AT_ONCE)
        self._allowed_at = monotonic()
        self._suppressed = 0

    def __bool__(self) -> bool:
        """Whether anything is recorded."""
        return bool(self._writers)

    def record(self, action: str, **fields: Any) -> None:
        """Record an event; never waits, never raises.

        :param fields: of :class:`AuditEvent`.
        """
        if self._writers:
            item = self._item(action, fields)
            for writer in self._writers:
                writer.put(item)

    def record_stranger(self, action: str, **fields: Any) -> None:
        """As :meth:`record`, for what anybody can bring about as often as they like."""
        if not self._writers:
            return
        now = self._monotonic()
        self._allowance = min(
            float(_STRANGERS_AT_ONCE),
            self._allowance + (now - self._allowed_at) * _STRANGERS_PER_SECOND,
        )
        self._allowed_at = now
        if self._allowance < 1:
            self._suppressed += 1
            return
        self._allowance -= 1
        suppressed, self._suppressed = self._suppressed, 0
        self.record(action, suppressed=suppressed, **fields)

    def confirm(self, action: str, **fields: Any) -> None:
        """As :meth:`record`; with ``fail_closed`` every sink has the event when this returns.

        :raises AuditUnavailable: one has not, within some seconds; none will have it.
        """
        if not self._fail_closed:
            self.record(action, **fields)
            return
        if not self._writers:
            return
        deadline = self._monotonic() + self._confirm_timeout
        items: list[tuple[_Writer, _Item]] = []
        failed = ""
        for writer in self._writers:
            item = self._item(action, fields, threading.Event())
            items.append((writer, item))
        # One event, whatever the number of places it is in.
        for _, item in items[1:]:
            item.event = items[0][1].event
        for writer, item in items:
            if writer.failure or not writer.put(item):
                failed = failed or f"{writer.sink.name}: {writer.failure or 'too many events wait'}"
        for writer, item in items:
            assert item.tried is not None
            if not failed:
                item.tried.wait(max(0.0, deadline - self._monotonic()))
            if not item.kept:
                failed = failed or f"{writer.sink.name}: {writer.failure or 'no answer in time'}"
        if failed:
            for _, item in items:
                item.withdrawn = True
            raise AuditUnavailable(
                f"the audit event cannot be kept ({failed}), and audit_fail_closed is set"
            )

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, within *timeout* seconds; what is left counts as lost."""
        for writer in self._writers:
            writer.close(timeout)

    def _item(
        self, action: str, fields: dict[str, Any], tried: threading.Event | None = None
    ) -> _Item:
        made = AuditEvent(
            action=action,
            service=self._service,
            node=self._node,
            id=secrets.token_hex(16),
            time=self._clock(),
            **fields,
        )
        return _Item(made, tried)


#: Records nothing.
NO_TRAIL: Final = Trail("proxy", node="-")
