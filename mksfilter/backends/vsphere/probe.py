"""Whether a vCenter answers at all: asked in the background, without a VM and without a log-in.

The call is ``RetrieveServiceContent``, which needs no session: it can lock no account, it works for
a vCenter that nobody has asked for a console yet, and no VM or host has a part in it. It goes over
a connection of its own and past the call queue, whose places may all be held by calls that hang.

How often: every 15 s for as long as nothing else was answered, since what users ask for is as good
a sign; while the vCenter does not answer, after 1 s, 2 s, 4 s and then every 5 s, so that a heal
is noticed within that time whether anybody asks or not. The workers of a node share what they find
(:class:`.shared_record.SharedRecord`): the first success is everybody's, and one of them asks for
all of them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from mksfilter.backends.vsphere.call_queue import CallQueue
from mksfilter.backends.vsphere.client import VSphereClient
from mksfilter.backends.vsphere.shared_record import SharedRecord
from mksfilter.config import VCenterSettings
from mksfilter.exceptions import BackendError
from mksfilter.log import event

__all__ = ["IDLE", "PAUSES", "Health", "Prober"]

LOG = logging.getLogger(__name__)

#: Seconds between two looks at a vCenter that is well and that nobody asks.
IDLE: Final = 15.0
#: Seconds before each further look at one that does not answer; then the last one again and again.
PAUSES: Final = (1.0, 2.0, 4.0, 5.0)
#: Seconds for an answer, where a call may take longer.
_TIMEOUT: Final = 5.0
#: Clocks and threads are late now and then.
_MARGIN: Final = 0.8


class Health(Protocol):
    """Whoever wants to know; :class:`.session.Session` is one."""

    @property
    def well(self) -> bool:
        """It answers, as far as is known."""

    @property
    def answered_ago(self) -> float:
        """Seconds since it last answered anything; infinite before the first time."""

    def probe_answered(self) -> None:
        """It has answered this process or another one."""

    def probe_failed(self, error: BackendError) -> None:
        """It has not."""


class Prober:
    """Looks after one vCenter.

    :param record: shared by the processes of this node.
    :param clock: of the node.
    """

    def __init__(
        self,
        settings: VCenterSettings,
        health: Health,
        record: SharedRecord,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._health = health
        self._record = record
        self._clock = clock
        self._name = settings.name
        timeout = min(_TIMEOUT, settings.timeout)
        self._calls = CallQueue(
            settings.name, workers=1, timeout=timeout, queue_timeout=timeout, quiet=True
        )
        self._client = VSphereClient(settings, abortable=self._abortable)
        self._wake = threading.Event()
        self._changed = threading.Condition()
        self._running = False
        self._closed = False
        self._always = False
        self._forced = False
        self._looks = 0
        self._failures = 0
        self._failed_at = -math.inf

    def watch(self) -> None:
        """Look from now on, whether anybody asks for a console or not."""
        self._always = True
        self.doubt()

    def doubt(self) -> None:
        """A call had no answer, and whose fault that is is not known: look now."""
        self._forced = True
        self._start()

    def lost(self) -> None:
        """It does not answer: look until it does, and soon for the first time."""
        self._failed_at = self._clock()
        self._start()

    def settle(self, seconds: float) -> None:
        """Look now, and wait for what comes of it, *seconds* at the most."""
        with self._changed:
            seen = self._looks
            self.doubt()
            self._changed.wait_for(lambda: self._looks > seen, seconds)

    def healed(self) -> bool:
        """Whether another process had an answer since this one had none."""
        return self._time(self._record.read(), "answered") > self._failed_at

    def close(self) -> None:
        """Let the thread end."""
        self._closed = True
        self._wake.set()
        self._calls.close()
        self._client.close()

    def _abortable(self, abort: Callable[[], None]) -> None:
        call = self._calls.current()
        if call is not None:
            call.abort_with(abort)

    def _start(self) -> None:
        with self._changed:
            if not (self._running or self._closed):
                self._running = True
                threading.Thread(
                    target=self._run, name=f"vcenter-{self._name}-probe", daemon=True
                ).start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            woken = self._wake.wait(self._pause())
            self._wake.clear()
            forced, self._forced = self._forced, False
            if not self._closed and (forced or not woken):
                # A thread that ends is noticed by nobody.
                try:
                    self._look(forced=forced)
                except Exception as exc:
                    LOG.error(event("probe-failed", vcenter=self._name, detail=exc), exc_info=exc)
            with self._changed:
                self._looks += 1
                self._changed.notify_all()
                if self._closed or (self._health.well and not self._always):
                    self._running = False
                    return

    def _look(self, *, forced: bool) -> None:
        if not forced:
            well = self._health.well
            if well and self._health.answered_ago < IDLE * _MARGIN:
                return
            since = self._clock() - IDLE * _MARGIN if well else self._failed_at
            if self._time(self._record.read(), "answered") > since:
                self._answered()
                return
            if self._asked_by_another():
                return
        began = self._clock()
        try:
            self._calls.run(self._client.probe)
        except BackendError as exc:
            self._failed_at = began
            self._failures += 1
            self._health.probe_failed(exc)
        else:
            self._record.change(self._note_answer)
            self._answered()

    def _answered(self) -> None:
        self._failures = 0
        self._health.probe_answered()

    def _asked_by_another(self) -> bool:
        """Whether another process has asked within this pause; if not, this one does now."""
        pause, taken = self._pause() * _MARGIN, False

        def note(record: dict[str, Any]) -> None:
            nonlocal taken
            taken = 0 <= self._clock() - self._time(record, "asked") < pause
            if not taken:
                record["asked"] = self._clock()

        self._record.change(note)
        return taken

    def _pause(self) -> float:
        if self._health.well:
            return IDLE
        return PAUSES[min(self._failures, len(PAUSES) - 1)]

    def _note_answer(self, record: dict[str, Any]) -> None:
        record["answered"] = self._clock()

    def _time(self, record: dict[str, Any], name: str) -> float:
        """When it was written; a time to come is of a machine that has started anew since."""
        written = record.get(name, 0.0)
        if not isinstance(written, (int, float)) or written > self._clock():
            return -math.inf
        return float(written)
