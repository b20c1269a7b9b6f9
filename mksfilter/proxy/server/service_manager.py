"""What systemd hears from the proxy: ready, alive, and still at it while it drains.

The protocol is a datagram to the socket that ``NOTIFY_SOCKET`` names (sd_notify(3), whose manual
page has it for those who do without libsystemd). gunicorn's own master says READY as soon as it
listens, before any worker can serve; :meth:`ServiceManager.of_environment` therefore takes the name
away from it. The workers speak (``NotifyAccess=all``): a node is alive as long as the event loop of
one of them turns.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping

__all__ = ["EXTENSION", "ServiceManager"]

#: Seconds by which a stop may take longer, each time that a draining worker asks for it.
EXTENSION = 30.0
#: Under this name the socket is handed on to the workers, and to a master that replaces this one.
_OWN = "MKSFILTER_NOTIFY_SOCKET"


class ServiceManager:
    """Whoever started this service, if it wants to be told.

    :param address: path of the socket, ``@name`` in the abstract namespace, or empty: nobody.
    :param watchdog: seconds within which something must be heard; 0: no matter.
    :param clock: seconds, monotonic.
    """

    def __init__(
        self, address: str = "", watchdog: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = watchdog
        self._clock = clock
        self._next = 0.0
        self._draining = False

    @classmethod
    def of_environment(cls, environ: MutableMapping[str, str] = os.environ) -> ServiceManager:
        """The one that started us."""
        address = environ.pop("NOTIFY_SOCKET", "")
        if address:
            environ[_OWN] = address
        return cls(environ.get(_OWN, ""), _watchdog(environ))

    def ready(self) -> None:
        """A worker can serve."""
        self._say("READY=1", "STATUS=serving")

    def taken_over(self) -> None:
        """This process is the service's main one from here on (SIGUSR2)."""
        self._say(f"MAINPID={os.getpid()}")

    def alive(self, *, draining: bool) -> None:
        """The event loop turns; call it often: it speaks as often as is needed."""
        now = self._clock()
        if now < self._next and draining == self._draining:
            return
        self._draining = draining
        # A watchdog may be slow; an extension has to be renewed before it is over.
        pause = self._watchdog or EXTENSION
        self._next = now + (min(pause, EXTENSION) if draining else pause) / 3
        if draining:
            self._say(
                "WATCHDOG=1",
                f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1_000_000)}",
                "STATUS=draining",
            )
        elif self._watchdog:
            self._say("WATCHDOG=1")

    def _say(self, *words: str) -> None:
        if not self._address:
            return
        # It may have gone away, or be too busy: no reason to stop serving.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
        ):
            sock.connect(self._address)
            sock.send("\n".join(words).encode())


def _watchdog(environ: Mapping[str, str]) -> float:
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    except ValueError:
        return 0.0
