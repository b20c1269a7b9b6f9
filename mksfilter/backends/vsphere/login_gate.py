"""When an account may be tried again after vCenter has refused it.

vCenter counts refused log-ins, and locks an account after five in three minutes by default. Every
worker process of every node logs in by itself, so that a password that was changed in vCenter alone
would be refused to all of them at once, and each would try again. Two rules, over all processes of
a node that share a :class:`SharedRecord`:

* **Two in a window.** Whatever the password, at most two refusals in *window* seconds.
* **Another password.** One that was refused is tried again after two thirds of the window, then
  after twice as long each time, up to half an hour: the second try finds a vCenter whose directory
  was away. A password that has not been refused may be tried at once.

The record holds no password, and no digest that could be tried against a list of them: 16 bits of
an HMAC tell one password from the next, and nothing else. No clock but the one passed in, which is
the same for all processes of the node and is not set: a clock that jumps must not let a password be
tried once more.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from mksfilter.backends.vsphere.shared_record import SharedRecord

__all__ = ["MOST", "LoginGate"]

#: Refused log-ins in the window.
MOST: Final = 2

_LONGEST: Final = 1800.0
_MARK_BYTES: Final = 2


class _Refusal(NamedTuple):
    """One refused log-in.

    :ivar times: how often this password has been refused in a row.
    """

    at: float
    mark: str
    times: int


class LoginGate:
    """The refused log-ins of one account.

    :param window: seconds for which vCenter counts them.
    :param clock: seconds, the same for all processes of the node.
    """

    def __init__(
        self, record: SharedRecord, *, window: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._record = record
        self._window = window
        self._clock = clock

    def retry_in(self, password: str) -> float:
        """Seconds until *password* may be tried; 0: now."""
        record = self._record.read()
        refusals, now = self._refusals(record), self._clock()
        if not refusals:
            return 0.0
        mark = _mark(record, password)
        ends = [one.at + self._pause(one.times) for one in refusals if one.mark == mark]
        recent = sorted(one.at for one in refusals if one.at > now - self._window)
        if len(recent) >= MOST:
            ends.append(recent[-MOST] + self._window)
        return max(0.0, *(end - now for end in ends)) if ends else 0.0

    def refused(self, password: str, words: str) -> None:
        """vCenter has refused *password*.

        :param words: the error, for those who are not let through.
        """

        def note(record: dict[str, Any]) -> None:
            record.setdefault("salt", secrets.token_hex(16))
            mark = _mark(record, password)
            refusals = self._refusals(record)
            times = 1 + max((one.times for one in refusals if one.mark == mark), default=0)
            refusals.append(_Refusal(self._clock(), mark, times))
            record["refused"] = [list(one) for one in refusals[-16:]]
            record["words"] = words

        self._record.change(note)

    def accepted(self, password: str) -> None:
        """vCenter has accepted *password*: if it was refused before, its pauses begin anew."""
        record = self._record.read()
        mark = _mark(record, password)
        if not any(one.mark == mark and one.times > 1 for one in self._refusals(record)):
            return

        def forget(record: dict[str, Any]) -> None:
            record["refused"] = [
                [one.at, one.mark, 1 if one.mark == mark else one.times]
                for one in self._refusals(record)
            ]

        self._record.change(forget)

    @property
    def words(self) -> str:
        """What vCenter said last, to whichever process."""
        return str(self._record.read().get("words", ""))

    def _pause(self, times: int) -> float:
        first = self._window * 2 / 3
        return max(first, min(_LONGEST, first * 2.0 ** (min(times, 16) - 1)))

    def _refusals(self, record: dict[str, Any]) -> list[_Refusal]:
        """Those that still matter; a time to come is of a machine that has started anew since."""
        now = self._clock()
        found = []
        for written in record.get("refused", ()):
            try:
                at, mark, times = written
                one = _Refusal(float(at), str(mark), int(times))
            except (TypeError, ValueError):
                continue
            # A pause that is over is remembered for as long again, for the next to be longer.
            lasting = max(self._window, 2 * self._pause(one.times))
            if now - lasting < one.at <= now + 1:
                found.append(one)
        return found


def _mark(record: dict[str, Any], password: str) -> str:
    salt = str(record.get("salt", "")).encode()
    return hmac.digest(salt, password.encode(), hashlib.sha256)[:_MARK_BYTES].hex()
