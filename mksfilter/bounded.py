"""Calls that may hang: a few at a time, and each given up on at its deadline.

A socket's time-out does not end an answer that drips in byte by byte, nor does it count several
services together. Waiting for another thread (a greenlet in the proxy) does; the call itself ends
by time-outs of its own and holds its place until then.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

__all__ = ["BoundedCalls", "DeadlinePassed", "NoPlace"]

_Result = TypeVar("_Result")


class NoPlace(Exception):
    """As many calls as are allowed are in flight already."""


class DeadlinePassed(Exception):
    """The call has not ended in time."""


class BoundedCalls:
    """Runs calls in threads of their own."""

    def __init__(
        self,
        name: str,
        *,
        limit: int,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param name: of the threads.
        :param limit: calls in flight.
        :param timeout: seconds from :meth:`run` to its result, waiting for a place included.
        :param clock: seconds, never running backwards.
        """
        self._clock = clock
        self._name = name
        self._timeout = timeout
        self._places = threading.BoundedSemaphore(limit)

    def run(self, call: Callable[[], _Result], *, wait: bool = False) -> _Result:
        """The result of *call*, or what it raises.

        :param wait: for a place, until the deadline.
        :raises NoPlace: there is none.
        :raises DeadlinePassed: *call* goes on, and nobody waits for it any more.
        """
        deadline = self._clock() + self._timeout
        if not self._places.acquire(blocking=wait, timeout=self._timeout if wait else None):
            raise NoPlace
        result: Future[_Result] = Future()
        # The call's lines of the log name the session of who asks.
        context = contextvars.copy_context()

        def run() -> None:
            try:
                result.set_result(context.run(call))
            except BaseException as exc:
                result.set_exception(exc)
            finally:
                self._places.release()

        threading.Thread(target=run, name=self._name, daemon=True).start()
        try:
            return result.result(timeout=max(0.0, deadline - self._clock()))
        except FutureTimeout:
            if result.done():
                # From Python 3.11 on it is the TimeoutError that the call itself may raise.
                return result.result()
            raise DeadlinePassed from None
