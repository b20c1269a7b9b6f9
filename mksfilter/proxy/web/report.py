"""What one worker says of itself, and what all workers of the node say together.

Every second a worker publishes its state on its page of the board. Every five it gathers its
metrics for that, which takes longer than to serve a key press. Whichever worker is asked by a probe
or by Prometheus answers for the node, with what the others have published.

The node is ready when one worker is: it takes sessions, it has turned its loop lately, and none of
its checks finds anything.
"""

from __future__ import annotations

import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import gevent

from mksfilter.log import event
from mksfilter.proxy.relay.timers import TimerWheel, shared_wheel
from mksfilter.proxy.server.board import Page
from mksfilter.proxy.web import samples
from mksfilter.proxy.web.metrics import Metrics

__all__ = ["OK", "PUBLISH_EVERY", "STUCK_AFTER", "NodeReport", "Worker", "readiness"]

LOG = logging.getLogger(__name__)

#: Seconds between two publications.
PUBLISH_EVERY: Final = 1.0
#: Seconds between two gatherings of the metrics.
_MEASURE_EVERY: Final = 5.0
#: Seconds without a publication after which a worker's loop does not turn.
STUCK_AFTER: Final = 5.0
OK: Final = "ok"

Check = Callable[[], str]


class Worker(NamedTuple):
    """One worker process, as it sees itself.

    :param age: seconds since it said so.
    :param draining: it takes no new sessions.
    :param sessions: that are open.
    :param checks: by name: :data:`OK`, or what is wrong.
    """

    pid: int
    age: float
    draining: bool
    sessions: int
    checks: dict[str, str]

    @property
    def stuck(self) -> bool:
        """Its loop does not turn."""
        return self.age > STUCK_AFTER

    @property
    def serves(self) -> bool:
        """It takes sessions."""
        return not self.draining and not self.stuck

    @property
    def ready(self) -> bool:
        """It takes sessions, and nothing is wrong with it."""
        return self.serves and all(words == OK for words in self.checks.values())


def readiness(workers: list[Worker]) -> tuple[bool, dict[str, Any]]:
    """Whether the node takes sessions, and what of it is wrong, by name.

    :param workers: of the node, the one that is asked first.
    """
    serving = [worker for worker in workers if worker.serves]
    speaker = next((one for one in serving if one.ready), (serving or workers)[0])
    checks = {"draining": OK if serving else "no worker takes new sessions", **speaker.checks}
    ready = all(words == OK for words in checks.values())
    return ready, {
        "status": "ready" if ready else "not ready",
        "checks": checks,
        "sessions": sum(worker.sessions for worker in workers),
        "workers": _numbers(workers),
    }


def _numbers(workers: list[Worker]) -> dict[str, int]:
    return {
        "serving": sum(worker.serves for worker in workers),
        "draining": sum(worker.draining and not worker.stuck for worker in workers),
        "stuck": sum(worker.stuck for worker in workers),
    }


def _of_node(workers: list[Worker]) -> samples.Families:
    """What no worker can say for itself."""
    ready, document = readiness(workers)
    checks, numbers = document["checks"], document["workers"]
    return [
        samples.gauge(
            "mksfilter_workers",
            "Worker processes of this node, by what they do.",
            {(("state", state),): number for state, number in numbers.items()},
        ),
        samples.gauge(
            "mksfilter_ready", "1 when /readyz answers 200, 0 when it does not.", {(): ready}
        ),
        samples.gauge(
            "mksfilter_ready_check",
            "1 when this check of /readyz is passed, 0 when it is not.",
            {(("check", name),): words == OK for name, words in checks.items()},
        ),
    ]


class NodeReport:
    """
    :param page: of this process.
    :param checks: by name; each returns what is wrong, or nothing.
    :param draining: whether this process takes no new sessions.
    :param sessions: how many it has.
    """

    def __init__(
        self,
        page: Page,
        metrics: Metrics,
        *,
        checks: Mapping[str, Check],
        draining: Callable[[], bool],
        sessions: Callable[[], int],
        wheel: TimerWheel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slot = 0
        self._page = page
        self._metrics = metrics
        self._checks = checks
        self._draining = draining
        self._sessions = sessions
        self._wheel = wheel or shared_wheel()
        self._clock = clock
        self._told = False
        self._measured: samples.Families = []
        self._measure_at = -math.inf
        # What the process counted that had this page before, and those before it.
        before = page.read()
        self._left = [] if before is None else _counted(_decoded(before.content))

    def start(self) -> None:
        """Publish now and again."""
        self.publish()
        self._wheel.schedule(self, self._clock() + PUBLISH_EVERY)

    def on_timer(self, now: float) -> float:
        """Called by the wheel, in the hub."""
        gevent.spawn(self.publish, measure=now >= self._measure_at)
        return now + PUBLISH_EVERY

    def publish(self, *, measure: bool = True) -> None:
        """Say what this process is and has.

        :param measure: its metrics as they are now; else those of up to five seconds ago.
        """
        now = self._clock()
        if measure:
            self._measured = self._metrics.families()
            self._measure_at = now + _MEASURE_EVERY
        content = {
            "time": now,
            "draining": self._draining(),
            "sessions": self._sessions(),
            "checks": {name: check() or OK for name, check in self._checks.items()},
            "metrics": self._measured,
            "left": self._left,
        }
        try:
            self._page.publish(zlib.compress(json.dumps(content).encode(), 1))
        except ValueError as exc:
            if not self._told:
                LOG.error(event("metrics-too-many", detail=exc))
            self._told = True

    def workers(self) -> list[Worker]:
        """All of the node, this one first."""
        self.publish(measure=False)
        return self._workers(self._read())

    @property
    def superseded(self) -> bool:
        """This process drains, and another one of the node takes new sessions."""
        return self._draining() and any(worker.serves for worker in self._workers(self._read()))

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """See :func:`readiness`."""
        return readiness(self.workers())

    def exposition(self) -> tuple[str, bytes]:
        """Content type and body for a scrape of the node."""
        self.publish()
        read = self._read()
        processes = [
            families
            for alive, content in read
            for families in (
                content["metrics"] if alive else samples.kept(content["metrics"]),
                content["left"],
            )
        ]
        return samples.exposition([*samples.add_up(processes), *_of_node(self._workers(read))])

    def _read(self) -> list[tuple[bool, dict[str, Any]]]:
        mine: list[tuple[bool, dict[str, Any]]] = []
        others: list[tuple[bool, dict[str, Any]]] = []
        for report in self._page.board.read():
            content = {**_decoded(report.content), "pid": report.pid}
            own = report.alive and report.pid == self._metrics.pid
            (mine if own else others).append((report.alive, content))
        return mine + others

    def _workers(self, read: list[tuple[bool, dict[str, Any]]]) -> list[Worker]:
        now = self._clock()
        return [
            Worker(
                content["pid"],
                max(0.0, now - content["time"]),
                content["draining"],
                content["sessions"],
                content["checks"],
            )
            for alive, content in read
            if alive
        ]


def _decoded(content: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(zlib.decompress(content))
    return decoded


def _counted(content: dict[str, Any]) -> samples.Families:
    return samples.kept(samples.add_up([content["metrics"], content["left"]]))
