"""Logins at a vCenter."""

from __future__ import annotations

import dataclasses
import datetime
import secrets
import time
from collections.abc import Callable

from mksfilter.simulator.model.inventory import Credentials, VCenter
from mksfilter.simulator.vcenter.soap import Data, Fault

__all__ = ["Session", "Sessions"]


@dataclasses.dataclass(eq=False)
class Session:
    """A login. *key* is what it is called, the cookie that proves it is something else."""

    key: str
    user: str
    address: str
    since: datetime.datetime
    active: float

    def as_data(self) -> Data:
        """The ``UserSession`` that clients see."""
        return Data(
            "UserSession",
            key=self.key,
            userName=self.user,
            fullName=self.user,
            loginTime=self.since,
            lastActiveTime=_now(),
            locale="en",
            messageLocale="en",
            extensionSession=False,
            ipAddress=self.address,
        )


class Sessions:
    """The live sessions of one vCenter, by their cookies.

    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        vcenter: VCenter,
        credentials: Credentials,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vcenter = vcenter
        self._credentials = credentials
        self._clock = clock
        self._live: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._live)

    def of(self, cookie: str) -> Session | None:
        """The session that a cookie proves, if it lives."""
        session = self._live.get(cookie)
        now = self._clock()
        if session is None or now - session.active > self._vcenter.state.session_lifetime:
            self._live.pop(cookie, None)
            return None
        session.active = now
        return session

    def login(
        self, username: str, password: str, address: str, current: Session | None
    ) -> tuple[Session, str]:
        """A new session and its cookie.

        :raises Fault: wrong credentials, or, as documented, a *current* session already.
        """
        wanted = (self._credentials.username, self._credentials.password)
        if current or (username, password) != wanted or self._vcenter.state.refuse_logins:
            raise Fault(
                "InvalidLogin",
                "Cannot complete login due to an incorrect user name or password.",
            )
        session = Session(f"52{secrets.token_hex(14)}", username, address, _now(), self._clock())
        cookie = secrets.token_hex(20)
        self._live[cookie] = session
        return session, cookie

    def logout(self, session: Session) -> None:
        self._live = {c: live for c, live in self._live.items() if live is not session}

    def clear(self) -> None:
        """End all sessions, as idle time or a restart of vCenter does."""
        self._live.clear()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
