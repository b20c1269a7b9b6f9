"""gunicorn's master, careful with consoles. docs/development.md lists the names it relies on.

gunicorn's own ends an old worker within the graceful timeout, waits for that in the middle of a
reload, hears no signal meanwhile, counts workers that only finish as workers that serve, and stops
when a new worker cannot start. Here

* SIGHUP tries the new configuration in a process of its own first; what does not start changes
  nothing. Old workers go when as many new ones serve.
* a worker that goes is none of those that serve, and may take ``drain_time``.
* SIGTERM drains while the master goes on: it hears SIGINT, sees workers that hang, and reaps.
* once the node has served, no worker that fails stops it.
* the sessions of a worker that was killed are told to have ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from gunicorn import sock
from gunicorn.arbiter import Arbiter

from mksfilter.exceptions import MksFilterError, WorkerLost
from mksfilter.log import event
from mksfilter.proxy.server import ledger, rehearsal, roster
from mksfilter.proxy.server.roster import State
from mksfilter.proxy.server.service_manager import ServiceManager

if TYPE_CHECKING:
    from mksfilter.proxy.server.worker import ConsoleWorker

__all__ = ["LAST_SECONDS", "WAITING_SIGNALS", "ConsoleArbiter", "adopt_by"]

#: A worker that was just forked still has the master's handlers, which would swallow these.
WAITING_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGQUIT, signal.SIGINT})
#: Seconds for the last close frames, after the time that sessions have.
LAST_SECONDS: Final = 5.0


class ConsoleArbiter(Arbiter):
    """See above."""

    LISTENERS: list[Any]
    WORKERS: dict[int, ConsoleWorker]

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.begin()
        # With `python -m` the first argument is a file of a package, which is no script.
        self.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]

    def begin(self) -> None:
        """Set what gunicorn's own has not."""
        self._generation = 0
        self._known: dict[int, ConsoleWorker] = {}
        self._leaving = False
        self._configured = time.strftime("%Y-%m-%d %H:%M:%S %z")
        self.drain_ordered = False

    # -- workers -------------------------------------------------------------------------------

    def manage_workers(self) -> None:
        """As many workers of this generation as there should be; those of earlier ones go when
        these serve."""
        self._mourn()
        if self._leaving:
            self._leave()
            return
        if self.drain_ordered:
            self.drain_ordered = False
            self._order_drain()
        workers = self._workers()
        current = [each for each in workers if each.generation == self._generation]
        for _ in range(self.num_workers - len(current)):
            self.spawn_worker()
        for each in current[: max(0, len(current) - self.num_workers)]:
            self._retire(each)
        serving = sum(each.cell.state == State.SERVING for each in current)
        if serving >= self.num_workers:
            for each in workers:
                if each.generation < self._generation:
                    self._retire(each)

    def spawn_worker(self) -> Any:
        """Fork one. What it is told before it can hear waits (``ConsoleWorker.init_signals``)."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WAITING_SIGNALS)
        try:
            pid = super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING_SIGNALS)
        worker = self.WORKERS.get(pid)
        if worker is not None:
            worker.generation = self._generation
            self._known[pid] = worker
        return pid

    def _workers(self) -> list[ConsoleWorker]:
        """Those that have not been told to go, oldest first."""
        there = [each for each in list(self.WORKERS.values()) if not each.retired]
        return sorted(there, key=lambda each: each.age)

    def _retire(self, worker: ConsoleWorker) -> None:
        worker.retired = True
        self.kill_worker(worker.pid, signal.SIGTERM)

    def _mourn(self) -> None:
        """Tell what those had open who have ended since the last look."""
        for pid, worker in list(self.WORKERS.items()):
            self._known.setdefault(pid, worker)
        for pid, worker in list(self._known.items()):
            if pid in self.WORKERS and _runs(pid):
                continue
            self.WORKERS.pop(pid, None)
            del self._known[pid]
            for facts in worker.ledger.left_open():
                ledger.leave_behind(facts)
                self._tell_lost(pid, dict(facts))
            worker.cell.free()

    def _tell_lost(self, pid: int, facts: dict[str, Any]) -> None:
        reason = WorkerLost(f"worker {pid} was killed, or died")
        since = facts.pop("since", None)
        facts.pop("returns", None)
        if since is not None:
            facts["seconds"] = f"{max(0.0, time.time() - since):.1f}"
        self.log.warning("%s", event("session-ended", **facts, reason=reason.reason, detail=reason))

    # -- signals -------------------------------------------------------------------------------

    def init_signals(self) -> None:
        """gunicorn's, and one for the drain."""
        super().init_signals()
        _hear_drain(self)

    def handle_term(self) -> None:
        """SIGTERM: take nobody, move who can move, keep the others for ``drain_time``."""
        if self._leaving:
            return
        self._leaving = True
        unlink = self.reexec_pid == self.master_pid == 0 and not self.systemd
        sock.close_sockets(self.LISTENERS, unlink and not self.cfg.reuse_port)
        self.LISTENERS = []
        seconds = roster.shared().drain_time
        roster.shared().drain(time.monotonic() + seconds)
        for worker in self._workers():
            self._retire(worker)
        self._leave()

    def _leave(self) -> None:
        over = roster.shared().ends_at + LAST_SECONDS
        if not self.WORKERS or time.monotonic() > over:
            raise StopIteration

    def handle_hup(self) -> None:
        """SIGHUP: take the new configuration if it is good."""
        if self._leaving:
            self._tell_kept("this node is being stopped")
            return
        problem = rehearsal.of_reload(self.app)
        if problem:
            self._tell_kept(problem)
            return
        roster.shared().undo_drain()
        # gunicorn's own looks only at the workers that it starts, and waits for no others.
        before, self.WORKERS = self.WORKERS, {}
        self._generation += 1
        try:
            super().reload()
            self._configured = time.strftime("%Y-%m-%d %H:%M:%S %z")
        except MksFilterError as exc:  # it has changed in between
            self._generation -= 1
            self._tell_kept(str(exc))
        finally:
            self.WORKERS = {**before, **self.WORKERS}
        self.manage_workers()

    def _tell_kept(self, problem: str) -> None:
        self.log.error(
            "%s",
            event(
                "configuration-not-reloaded",
                detail=problem,
                kept=f"the configuration of {self._configured}",
                workers=len(self._workers()),
            ),
        )

    def _order_drain(self) -> None:
        if not roster.shared().draining:
            roster.shared().drain()
            self.log.warning("%s", event("drain-ordered"))

    def maybe_promote_master(self) -> None:
        """After SIGUSR2 and the end of the old master; systemd is told."""
        second = self.master_pid
        super().maybe_promote_master()
        if second and not self.master_pid:
            ServiceManager.of_environment().taken_over()


def adopt_by(cfg: Any) -> None:
    """Have gunicorn's own master, started by its own command line, become a
    :class:`ConsoleArbiter` when it forks its first worker. Called by that worker's constructor.
    """
    hook = cfg.pre_fork
    if getattr(hook, "adopts", False):
        return

    def pre_fork(arbiter: Arbiter, worker: Any) -> None:
        if type(arbiter) is Arbiter:
            arbiter.__class__ = ConsoleArbiter
            arbiter.begin()
            _hear_drain(arbiter)
        hook(arbiter, worker)

    pre_fork.adopts = True  # type: ignore[attr-defined]
    cfg.set("pre_fork", pre_fork)


def _hear_drain(arbiter: Any) -> None:
    def order(_number: int, _frame: object) -> None:
        arbiter.drain_ordered = True
        arbiter.wakeup()

    signal.signal(roster.DRAIN_SIGNAL, order)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
