"""The gunicorn worker: ``gunicorn -k mksfilter.proxy.worker.ConsoleWorker``.

gevent-websocket's own worker with our server, our handler and an orderly end of sessions. It runs
the applications of its process through one :class:`ServerState`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import time
from types import FrameType
from typing import Any

import gevent
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

from mksfilter import log, tls
from mksfilter.exceptions import MksFilterError
from mksfilter.proxy.server import gunicorn_adapter, log_outlet, node
from mksfilter.proxy.server.handler import ConsoleHandler
from mksfilter.proxy.server.management import ManagementListener
from mksfilter.proxy.server.server import ConsoleServer
from mksfilter.proxy.server.service_manager import ServiceManager
from mksfilter.proxy.server.state import ServerState, constructed

__all__ = ["ConsoleWorker"]

LOG = logging.getLogger(__name__)
_MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"


class ConsoleWorker(GeventWebSocketWorker):
    """One worker process.

    :ivar state: what it serves; empty until the application is loaded.
    """

    wsgi_handler = ConsoleHandler

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state = ServerState()
        self._servers: list[ConsoleServer] = []
        self._service_manager = ServiceManager.of_environment()
        # Here too: it is the master who makes workers.
        self._unblock_logs()
        self._management: ManagementListener | None = None
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

    def load_wsgi(self) -> None:
        """Load the application; a configuration it does not accept is one line, not a traceback."""
        try:
            super().load_wsgi()
            self._unblock_logs()  # those of the application
            self.state = ServerState(constructed(), self._page)
            self.state.certificates = _served_certificates(self.cfg.certfile)
            self.state.start()
            self._service_manager.ready()
        except MksFilterError as exc:
            self.log.critical("%s", exc)
            gunicorn_adapter.exit_for_good()

    def notify(self) -> None:
        """gunicorn's loop calls this every second, and so does whoever drains."""
        super().notify()
        self._service_manager.alive(draining=self.state.draining)

    def _unblock_logs(self) -> None:
        log_outlet.install()
        # gunicorn would look for the files in the handlers.
        self.log.reopen_files = log_outlet.reopen_files

    def run(self) -> None:
        """Serve until told to stop, then until the last session has ended."""
        managed = self.state.managed
        if managed is not None:
            self._management = ManagementListener(managed.management_bind, managed.manage)
            self._management.start()
        try:
            super().run()
            deadline = time.monotonic() + self.cfg.graceful_timeout
            while self._busy() and time.monotonic() < deadline:
                self.notify()
                gevent.sleep(0.1)
            self.state.close()
            gevent.sleep(0)
        finally:
            # However it ends: SIGINT and SIGQUIT raise SystemExit here.
            self.state.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: sessions are told, and end within the graceful timeout."""
        super().handle_exit(sig, frame)
        gevent.spawn(self._drain)

    def _drain(self) -> None:
        # Now, and not at gunicorn's next look a second later: on a reload there are new workers
        # for whoever comes.
        for server in self._servers:
            server.close()
        # Leave time for the last close frames before the arbiter's SIGKILL.
        self.state.drain(max(0.0, self.cfg.graceful_timeout - 2.0))
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
