"""Requests that are ready to be served, and the greenlets that serve them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import gevent

__all__ = ["Lane"]

_Request = TypeVar("_Request")

#: Requests that are served one directly after the other, as long as none of them waits.
_AT_ONCE: Final = 4


class Lane(Generic[_Request]):
    """A bounded number of greenlets, each of which serves one request after the other.

    A burst that nobody has looked at yet waits for its turn, a few milliseconds for each thousand.
    Only what comes while every greenlet waits in the middle of a request is refused.

    :param size: greenlets at the same time.
    :param spawn: starts one.
    :param serve: called in a greenlet; raises nothing.
    :param refuse: called for what is not served.
    :param served: called in a greenlet whenever one has been served.
    """

    def __init__(
        self,
        size: int,
        spawn: Callable[[Callable[[], None]], object],
        *,
        serve: Callable[[_Request], None],
        refuse: Callable[[_Request], None],
        served: Callable[[], None] = lambda: None,
    ) -> None:
        self._size = size
        self._spawn = spawn
        self._serve = serve
        self._refuse = refuse
        self._served = served
        self._ready: deque[_Request] = deque()
        self._greenlets = 0
        self._serving = 0

    def __len__(self) -> int:
        """Requests that are served or wait for it."""
        return self._serving + len(self._ready)

    def put(self, request: _Request) -> None:
        """Have *request* served, or refused. Does not block."""
        if self._serving >= self._size:
            self._refuse(request)
            return
        self._ready.append(request)
        self._start()

    def _start(self) -> None:
        """One greenlet more, if a request may need it.

        gevent's greenlets take turns. If as many were started as requests are ready, everything
        else of the process would wait for all of them.
        """
        if self._greenlets < min(self._size, self._serving + _AT_ONCE):
            self._greenlets += 1
            self._spawn(self._work)

    def _work(self) -> None:
        try:
            while self._ready:
                request = self._ready.popleft()
                self._serving += 1
                if self._ready:
                    self._start()
                try:
                    if self._serving >= self._size and self._ready:
                        # Called when this greenlet waits, or has ended its request.
                        gevent.get_hub().loop.run_callback(self._refuse_if_all_wait)
                    self._serve(request)
                finally:
                    self._serving -= 1
                    self._served()
                # It is not to be held until this greenlet's next request.
                del request
                if self._ready:
                    gevent.sleep(0)
        finally:
            self._greenlets -= 1

    def _refuse_if_all_wait(self) -> None:
        while self._ready and self._serving >= self._size:
            self._refuse(self._ready.popleft())
