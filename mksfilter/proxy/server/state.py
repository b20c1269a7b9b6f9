"""What a worker process serves, and whether it still takes new sessions.

The worker makes one :class:`ServerState` after the fork and hands it to what needs it: its servers,
their handlers, and the applications. Nothing here is global but the set of applications: a paste
pipeline wraps them in whatever middleware the operator likes, with ``preload_app`` already in
gunicorn's master, so no object that the worker is given leads to them.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Protocol

from mksfilter.log import event
from mksfilter.proxy.server import board
from mksfilter.proxy.server.ledger import Ledger

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Application", "ServerState", "constructed", "register"]

LOG = logging.getLogger(__name__)

#: Seconds for a whole request where no application says otherwise.
_HANDSHAKE_SECONDS = 10.0
#: Seconds within which pages leave a node that has closed its socket, and one that still listens
#: until its load balancers notice that it is not ready.
_MOVE_WITHIN = 4.0
_MOVE_BY_ORDER = 20.0
#: Pages that leave a worker in a second, where there are many: whoever takes them has 3 to 5 ms of
#: CPU to spend on each. They leave in the first half of the time, after a tenth of it.
_MOVES_PER_SECOND = 10.0
_LEAVING = 0.4


class Application(Protocol):
    """An application as its worker sees it. Nothing here may block."""

    @property
    def handshake_timeout(self) -> float:
        """Seconds for a client to send a whole request."""

    @property
    def sessions(self) -> int:
        """Live sessions."""

    @property
    def management_bind(self) -> str:
        """``HOST:PORT`` of the listener for :meth:`manage`; empty: none."""

    @property
    def superseded(self) -> bool:
        """This process drains, and another one of the node takes new sessions."""

    def expects_proxy_header(self, peer: str) -> bool:
        """Does a connection from this address start with a PROXY protocol header?"""

    def manage(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request for the management listener (PEP 3333)."""

    def start(self, state: ServerState) -> None:
        """Called once in each worker, after the fork and after gevent's patches.

        :raises MksFilterError: it cannot serve.
        """

    @property
    def drain_time(self) -> float:
        """Seconds for which sessions that cannot move are kept when the worker has to go."""

    @property
    def kinds(self) -> tuple[int, int]:
        """Live sessions that can move to another node by themselves, and those that cannot."""

    def drain(self, seconds: float | None, *, move_within: float) -> None:
        """Have sessions that can move do so, and end the others after so many seconds.

        :param seconds: None: never. May come again with another value.
        :param move_within: seconds.
        """

    def tell_lost(self, sessions: Iterable[Mapping[str, Any]]) -> None:
        """Count and record the end of sessions of a worker that was killed."""

    def close(self) -> None:
        """End all sessions now."""

    def flush(self) -> None:
        """The process ends: write what waits to be written; bounded."""

    def refused(self, reason: str) -> None:
        """Count a request that was refused before it reached the application."""


#: Weak, so that an application ends with its last user: a reloaded configuration makes a new one.
_constructed: weakref.WeakSet[Application] = weakref.WeakSet()


def register(application: Application) -> None:
    """*application* is now complete; a worker of this process will start it."""
    _constructed.add(application)


def constructed() -> list[Application]:
    """The applications of this process, those made before a fork included."""
    return list(_constructed)


class ServerState:
    """One worker process.

    :param page: where it tells the other workers of the node what it does.
    :param ledger: where open sessions are written down.
    :ivar certificates: when those that are served end (seconds since the epoch), by name.
    :ivar held: requests for consoles that nobody has looked at yet, by server.
    :ivar draining: it is being taken out of service: nothing new is to come here.
    :ivar refusing: no new sessions are accepted either; without it, whoever connected before the
        socket was closed still gets one.
    :ivar page: the same; by default one that nobody else sees.
    :ivar ledger: the same.
    """

    def __init__(
        self,
        applications: Iterable[Application] = (),
        page: board.Page | None = None,
        *,
        ledger: Ledger | None = None,
    ) -> None:
        self.certificates: Mapping[str, float] = {}
        self.held: list[Sized] = []
        self.draining = self.refusing = False
        self.page = page or board.alone()
        self.ledger = ledger or Ledger(1)
        self._applications = tuple(applications)

    def start(self) -> None:
        """The worker begins to serve.

        :raises MksFilterError: an application cannot.
        """
        for application in self._applications:
            application.start(self)

    def drain(self, seconds: float | None) -> None:
        """No new sessions; those that can move do so now, the others end after *seconds*.

        :param seconds: None: they are kept, and the process goes on to listen.
        """
        pages, others = self.kinds
        unhurried = pages / _MOVES_PER_SECOND / _LEAVING
        # Who listens on still gets what load balancers send until they have noticed.
        move_within = (
            max(_MOVE_BY_ORDER, unhurried)
            if seconds is None
            else min(seconds, max(_MOVE_WITHIN, unhurried))
        )
        if not self.draining or seconds is not None:
            LOG.info(
                event(
                    "draining",
                    moving=pages,
                    kept=others,
                    seconds="" if seconds is None else f"{seconds:g}",
                )
            )
        self.draining = True
        self.refusing = self.refusing or seconds is None
        for application in self._applications:
            application.drain(seconds, move_within=move_within)

    def tell_lost(self, sessions: Sequence[Mapping[str, Any]]) -> None:
        """A worker was killed that had these sessions open, as its ledger has them."""
        for application in self._applications[:1] if sessions else ():
            application.tell_lost(sessions)

    def close(self) -> None:
        """All sessions end now."""
        self.draining = self.refusing = True
        for application in self._applications:
            application.close()

    def flush(self) -> None:
        """What waits to be written is written, as far as that is quick."""
        for application in self._applications:
            application.flush()

    def refused(self, reason: str) -> None:
        """A request was refused before it reached an application."""
        for application in self._applications:
            application.refused(reason)

    @property
    def sessions(self) -> int:
        """Live sessions of this process."""
        return sum(application.sessions for application in self._applications)

    @property
    def managed(self) -> Application | None:
        """The application that has a management listener."""
        wanted = (one for one in self._applications if one.management_bind)
        return next(wanted, None)

    @property
    def kinds(self) -> tuple[int, int]:
        """Live sessions that can move by themselves, and those that cannot."""
        kinds = [application.kinds for application in self._applications]
        return sum(pages for pages, _ in kinds), sum(others for _, others in kinds)

    @property
    def drain_time(self) -> float:
        """Seconds for which sessions that cannot move are kept when the worker has to go."""
        return max((application.drain_time for application in self._applications), default=0.0)

    @property
    def handshake_timeout(self) -> float:
        """Seconds for a client to send a whole request."""
        return min(
            (application.handshake_timeout for application in self._applications),
            default=_HANDSHAKE_SECONDS,
        )

    def expects_proxy_header(self, peer: str) -> bool:
        """Does a connection from this address start with a PROXY protocol header?"""
        return any(application.expects_proxy_header(peer) for application in self._applications)
