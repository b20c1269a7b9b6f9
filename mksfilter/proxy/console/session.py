"""One live console, and what it needs of others."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import gevent

from mksfilter.exceptions import SessionEnded

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims
    from mksfilter.proxy.console.limits import Reservation
    from mksfilter.proxy.relay.transport import Transport, Upstream
    from mksfilter.proxy.web.metrics import Step

__all__ = [
    "LiveRelay",
    "NoLedger",
    "RelayFactory",
    "ResumeTokens",
    "Session",
    "SessionLedger",
    "SessionMetrics",
    "SessionOwner",
]


class ResumeTokens(Protocol):
    """What mints resume tokens; :class:`mksfilter.auth.token.TokenCodec` is one."""

    def renew(self, claims: Claims, *, ttl: int, cnf: str, kid: str) -> str:
        """A resume token of the session of *claims*, good for *ttl* seconds.

        :param cnf: thumbprint of the key that it is bound to.
        :param kid: name of the key by which the session is vouched for.
        :raises TokenError: the session has ended, or that key is gone.
        """


class LiveRelay(Protocol):
    """What a session asks of its relay; :class:`mksfilter.proxy.relay.driver.Relay` is one.

    Nothing here waits.
    """

    @property
    def bytes_in(self) -> int:
        """Bytes received from the browser."""

    @property
    def bytes_out(self) -> int:
        """Bytes received from the host."""

    @property
    def unanswered_at(self) -> float:
        """Monotonic seconds of the browser's last data, where the host had been silent before and
        has said nothing since; minus infinity: it has."""

    def start(self) -> None:
        """Begin."""

    def send_control(self, text: str) -> None:
        """Send a message of the control channel; ignored without one, or when it is over."""

    def close(self, reason: SessionEnded) -> None:
        """End; *on_end* follows. Harmless when it is over."""


class RelayFactory(Protocol):
    """Makes the relay of a session, not yet started."""

    def __call__(
        self,
        client: Transport,
        upstream: Upstream,
        *,
        view_only: bool,
        control: bool,
        rfb_handshake: str,
        lifetime: float | None,
        on_end: Callable[[object, SessionEnded], None],
        on_first_byte: Callable[[], object],
        on_heard: Callable[[], object] | None,
    ) -> LiveRelay:
        """
        :param control: the client understands the control channel.
        :param rfb_handshake: see :class:`mksfilter.endpoint.Endpoint`.
        :param lifetime: seconds after which the session ends whatever happens; None: never.
        :param on_end: called once, in a greenlet, with the relay and why it has ended.
        :param on_first_byte: called once, in the hub, when the host has sent something.
        :param on_heard: the same, when the browser has; None: nobody asks.
        """


class SessionOwner(Protocol):
    """Whose a session is; :class:`mksfilter.proxy.console.sessions.SessionRegistry` is one.

    Both are called in a greenlet.
    """

    def wake(self, session: Session) -> None:
        """Something of it is due."""

    def ended(self, session: Session, reason: SessionEnded) -> None:
        """Its relay is over."""


class SessionLedger(Protocol):
    """What outlives this process; :class:`mksfilter.proxy.server.ledger.Ledger` is one."""

    def enter(self, facts: Mapping[str, object]) -> int | None:
        """A session is open. Returns what :meth:`leave` is to be given."""

    def leave(self, slot: int | None) -> None:
        """It has ended, and its end is told."""


class NoLedger:
    """Writes nothing down."""

    def enter(self, facts: Mapping[str, object]) -> int | None:  # noqa: ARG002
        """See :class:`SessionLedger`."""
        return None

    def leave(self, slot: int | None) -> None:
        """See :class:`SessionLedger`."""


class SessionMetrics(Protocol):
    """What is counted; :class:`mksfilter.proxy.web.metrics.Metrics` is one."""

    def session_opened(self, mode: str) -> None:
        """A session has begun."""

    def session_lost(self, reason: str) -> None:
        """A session is over that another process had opened, which cannot say so."""

    def session_ended(self, reason: str) -> None:
        """A session is over."""

    def count_bytes(self, arrived: int, sent: int) -> None:
        """So many bytes more went each way."""

    def took(self, step: Step, seconds: float, vcenter: str = "") -> None:
        """A step of an opening was done."""


@dataclasses.dataclass(eq=False, slots=True)
class Session:
    """One live console.

    :ivar id: of the session: the same through every reconnect, and on every node.
    :ivar connection_id: of this opening of it.
    :ivar kid: name of the key that vouches for it; empty for a token of Nova's own.
    :ivar cnf: thumbprint of the page's key; empty without one: it cannot reconnect.
    :ivar greeting: first message of the control channel; None without one.
    :ivar client: address of the browser.
    :ivar host: ``host:port`` of the console.
    :ivar vm: the VM's managed object id; empty where it is not known.
    :ivar has_control: the client understands the control channel.
    :ivar ends: seconds since the epoch at which it ends whatever happens; None: open.
    :ivar place: counts towards the limits until it is released.
    :ivar question: what the machine waits to be told in vCenter, as its user was told; empty:
        nothing that is known.
    :ivar owner: does what is due, and is told of the end.
    :ivar relay: set before anybody else sees the session.
    :ivar entry: of the ledger.
    :ivar started: monotonic seconds.
    """

    claims: Claims
    kid: str
    cnf: str
    client: str
    vcenter: str
    vm: str
    host: str
    rfb_handshake: str
    has_control: bool
    ends: int | None
    place: Reservation
    owner: SessionOwner
    started: float = dataclasses.field(default_factory=time.monotonic)
    connection_id: str = dataclasses.field(default_factory=lambda: os.urandom(6).hex())
    greeting: str | None = None
    question: str = ""
    counted_in: int = 0
    counted_out: int = 0
    # Monotonic seconds at which something is due; infinity: never.
    renew_at: float = math.inf
    notice_at: float = math.inf
    drain_at: float = math.inf
    # When vCenter was last asked about a machine that gives no picture.
    looked_at: float = -math.inf
    entry: int | None = None
    slot: int = 0
    relay: LiveRelay = dataclasses.field(init=False)

    @property
    def id(self) -> str:
        """See above."""
        return self.claims.session_id

    @property
    def can_move(self) -> bool:
        """Its client reconnects by itself, to whichever node."""
        return self.has_control and bool(self.cnf)

    def on_timer(self, now: float) -> None:  # noqa: ARG002
        """Something is due; called by the wheel, in the hub."""
        gevent.spawn(self.owner.wake, self)

    def on_relay_end(self, _relay: object, reason: SessionEnded) -> None:
        """Its relay is over; called in a greenlet."""
        self.owner.ended(self, reason)
