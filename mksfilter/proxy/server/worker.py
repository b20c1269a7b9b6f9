"""The gunicorn worker: ``gunicorn -k mksfilter.proxy.worker.ConsoleWorker``.

gevent-websocket's own worker with our server, our handler and an orderly end of sessions. It runs
the applications of its process through one :class:`ServerState`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import time
from types import FrameType
from typing import Any, Final, NoReturn

import gevent
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from gunicorn.workers.base import Worker

from mksfilter import log, tls
from mksfilter.exceptions import MksFilterError
from mksfilter.log import event
from mksfilter.proxy.server import arbiter, gunicorn_adapter, log_outlet, node, roster, unfit
from mksfilter.proxy.server.handler import ConsoleHandler
from mksfilter.proxy.server.ledger import Ledger, take_over
from mksfilter.proxy.server.management import ManagementListener
from mksfilter.proxy.server.memory import Reclaimer
from mksfilter.proxy.server.roster import State
from mksfilter.proxy.server.server import ConsoleServer
from mksfilter.proxy.server.service_manager import ServiceManager
from mksfilter.proxy.server.state import ServerState, constructed

__all__ = ["ConsoleWorker"]

LOG = logging.getLogger(__name__)
_MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"

#: Seconds for the last close frames, after the time that sessions have.
_LAST_SECONDS: Final = 3.0
#: Seconds before another worker tries to start.
_PAUSE: Final = 3.0


class ConsoleWorker(GeventWebSocketWorker):
    """One worker process.

    :ivar state: what it serves; empty until the application is loaded.
    :ivar cell: what the other processes of the node know of it.
    :ivar ledger: its open sessions.
    :ivar generation: the master's: how many reloads came before it.
    :ivar retired: the master's: it was told to go.
    """

    wsgi_handler = ConsoleHandler

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state = ServerState()
        self._servers: list[ConsoleServer] = []
        self._service_manager = ServiceManager.of_environment()
        self._keep_until: float | None = None
        # What follows is still done in the master.
        self.cell = roster.shared().take()
        self.ledger = Ledger()
        self._left_behind = take_over()
        self.generation = 0
        self.retired = False
        arbiter.adopt_by(self.cfg)
        # Here too: it is the master who makes workers.
        self._unblock_logs()
        self._management: ManagementListener | None = None
        self._memory = Reclaimer()
        # Here and not later: this still runs in the master, whose memory all workers share.
        self._page = node.shared().board.take(self)

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ARG003
        """gunicorn's master calls this before it begins."""
        gunicorn_adapter.close_control_socket(cfg)

    def server_class(self, *args: Any, **kwargs: Any) -> ConsoleServer:
        """Make a server, one per listening socket; gunicorn calls it like a class."""
        server = ConsoleServer(*args, state=self.state, **kwargs)
        self._servers.append(server)
        return server

    def init_process(self) -> None:
        """After the fork: whatever logs from here on, secrets are masked."""
        log.mask_secrets()
        if os.environ.pop(_MULTIPROC_DIR, None):
            # prometheus_client would map files there, and a full disk would kill this process.
            LOG.warning(log.event("variable-ignored", name=_MULTIPROC_DIR, remedy="leave it out"))
        _raise_file_limit()
        super().init_process()

    def init_signals(self) -> None:
        """From here on the worker hears, and what the master has told it since the fork too."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, arbiter.WAITING_SIGNALS)

    def load_wsgi(self) -> None:
        """Load the application; a configuration it does not accept is one line, not a traceback."""
        try:
            super().load_wsgi()
            self._unblock_logs()  # those of the application
            self.state = ServerState(constructed(), self._page, ledger=self.ledger)
            self.state.certificates = _served_certificates(self.cfg.certfile)
            self.state.start()
            self.state.tell_lost(self._left_behind)
            self._service_manager.ready()
            # What is there now stays: no collection has to look at it again, and find nothing,
            # while a key press waits.
            gc.collect()
            gc.freeze()
        except MksFilterError as exc:
            self.log.critical("%s", exc)
            self._give_up()
        except Exception as exc:
            self.log.critical("%s", event("worker-cannot-start", detail=repr(exc)), exc_info=True)
            self._give_up()

    def _give_up(self) -> NoReturn:
        """It cannot start. At the node's start that is the end; later, what was good once may be
        good again: nobody is left waiting, and the master tries again."""
        if not roster.shared().served:
            gunicorn_adapter.exit_for_good()
        self._tell(State.UNFIT)
        unfit.answer(self.sockets, until=time.monotonic() + _PAUSE, alone=self._is_alone)
        sys.exit(1)

    def _is_alone(self) -> bool:
        return not any(each.state == State.SERVING for each in roster.shared().workers())

    def _unblock_logs(self) -> None:
        log_outlet.install()
        # gunicorn would look for the files in the handlers.
        gunicorn_adapter.reopen_by(self.log, log_outlet.reopen_files)

    def run(self) -> None:
        """Serve until told to stop, then until the last session has ended."""
        try:
            if self.cfg.is_ssl:
                gunicorn_adapter.tls_context(self.cfg)
        except (OSError, ValueError) as exc:
            self.log.critical("%s", event("worker-cannot-start", detail=f"certificate: {exc}"))
            self._give_up()
        managed = self.state.managed
        if managed is not None:
            self._management = ManagementListener(managed.management_bind, managed.manage)
            self._management.start()
        roster.shared().serve(self.state.drain_time)
        self._tell(State.SERVING)
        try:
            super().run()
            while self._busy() and not self._time_is_over():
                self.notify()
                gevent.sleep(0.1)
            self.state.close()
            gevent.sleep(0)
        finally:
            # However it ends: SIGINT and SIGQUIT raise SystemExit here.
            self.state.flush()

    def notify(self) -> None:
        """Called every second: the worker is alive, and looks at what it was ordered.

        gunicorn's own ends at once when its master is gone, and its consoles with it.
        """
        Worker.notify(self)
        if self.ppid != os.getppid() and self.alive:
            LOG.error(event("master-gone", detail="this worker drains, and ends"))
            if self._management is not None:
                self._management.abandon()
            self.handle_exit(signal.SIGTERM, None)
        if roster.shared().draining and not self.state.draining:
            self.state.drain(None)
        self._tell(State.DRAINING if self.state.draining else State.SERVING)
        self._service_manager.alive(draining=self.state.draining)
        self._memory.look(self.state.sessions)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: our pages move, other sessions are kept for ``drain_time``."""
        super().handle_exit(sig, frame)
        if self._keep_until is None:
            self._keep_until = time.monotonic() + self.state.drain_time
            gevent.spawn(self._drain)

    def _drain(self) -> None:
        # Now, and not at gunicorn's next look a second later: on a reload there are new workers
        # for whoever comes.
        for server in self._servers:
            if roster.shared().draining:  # the whole node: nobody else will
                server.accept_waiting()
            server.close()
        self.state.drain(self.state.drain_time)
        gevent.spawn(self._leave_management)

    def _leave_management(self) -> None:
        # On a reload it is the new workers' to answer, by the new configuration. Where there are
        # none, a node that drains says so to its end.
        managed = self.state.managed
        while self._management is not None and managed is not None:
            if managed.superseded:
                self._management.close()
                return
            gevent.sleep(1.0)

    def _busy(self) -> bool:
        return bool(self.state.sessions) or any(server.arriving for server in self._servers)

    def _time_is_over(self) -> bool:
        # Some more, for the last close frames.
        return self._keep_until is None or time.monotonic() > self._keep_until + _LAST_SECONDS

    def _tell(self, state: State) -> None:
        pages, others = self.state.kinds
        self.cell.write(roster.Worker(os.getpid(), state, pages, others))

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT, SIGQUIT: sessions get their close frame, and that is all."""
        gevent.spawn(self.state.close)
        super().handle_quit(sig, frame)


def _raise_file_limit() -> None:
    """Two descriptors a session: take all that the administrator allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _served_certificates(certfile: str | None) -> dict[str, float]:
    if not certfile:
        return {}
    try:
        with open(certfile, "rb") as file:
            return {"server": tls.expiry_of_pem(file.read())}
    except (OSError, ValueError) as exc:
        LOG.warning(log.event("certificate-unreadable", file=certfile, detail=exc))
        return {}
