"""What is not counted when it happens but looked at: vCenters, keys, limits, certificates, the log.

Each worker looks for itself, once a second; a gauge says how those of several workers are one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from prometheus_client import Counter

import mksfilter
from mksfilter import log
from mksfilter.exceptions import KeyRepositoryError
from mksfilter.log import event

if TYPE_CHECKING:
    from mksfilter.auth.clock import SetClock
    from mksfilter.backends.resolver import VCenterState
    from mksfilter.proxy.web.metrics import Metrics

__all__ = [
    "watch_build",
    "watch_certificates",
    "watch_clock",
    "watch_keys",
    "watch_limits",
    "watch_log",
    "watch_vcenters",
]

LOG = logging.getLogger(__name__)

#: As :class:`VCenterState` has them.
_STATES = ("new", "up", "down", "probing", "login-refused")


class Keys(Protocol):
    """The signing keys; :class:`mksfilter.auth.keys.KeyRepository` is one."""

    def look(self) -> tuple[frozenset[str], str]:
        """Names of the keys that are good, and of the primary one.

        :raises KeyRepositoryError: there are none that could be read.
        """

    def created(self) -> dict[int, float]:
        """When each was made, by its number.

        :raises KeyRepositoryError: there are none that could be read.
        """


def watch_vcenters(
    metrics: Metrics, vcenters: Callable[[], Iterable[VCenterState]], places: Mapping[str, int]
) -> None:
    """The state of each vCenter, and the calls to it.

    :param places: calls in flight that each may have from this process.
    """
    up = metrics.gauge(
        "vcenter_up",
        "1 when the vCenter answered its last call or probe, 0 when it did not.",
        ("vcenter",),
        merge="max",
    )
    state = metrics.gauge(
        "vcenter_state",
        "Workers that see the vCenter in this state: new (not asked yet), up, down (not asked for "
        "a while), probing (one attempt is let through), login-refused.",
        ("vcenter", "state"),
    )
    calls = metrics.gauge(
        "vcenter_calls",
        "Calls that a vCenter is working on, and those that wait for a place.",
        ("vcenter", "state"),
    )
    limit = metrics.gauge("vcenter_calls_limit", "Calls it may be working on.", ("vcenter",))
    retry = metrics.gauge(
        "vcenter_retry_seconds",
        "Seconds until the vCenter is asked again; 0: it is asked.",
        ("vcenter",),
        merge="min",
    )
    for name, number in places.items():
        limit.labels(name).set(number)

    def look() -> None:
        for vcenter in vcenters():
            up.labels(vcenter.name).set(int(vcenter.healthy))
            for one in _STATES:
                state.labels(vcenter.name, one).set(int(vcenter.state == one))
            calls.labels(vcenter.name, "in-flight").set(vcenter.in_flight)
            calls.labels(vcenter.name, "waiting").set(vcenter.waiting)
            retry.labels(vcenter.name).set(vcenter.retry_in)

    metrics.look_with(look)


def watch_keys(metrics: Metrics, keys: Keys) -> None:
    """How many keys there are, and how old those are that matter."""
    number = metrics.gauge(
        "keys", "Signing keys that can be read; 0: no token can be verified.", merge="min"
    )
    created = metrics.gauge(
        "key_created_timestamp_seconds",
        "When the key was made: primary signs; staged is as old as the last rotation.",
        ("role",),
        merge="min",
    )

    primary = metrics.gauge(
        "primary_key",
        "1 for the name of the key that signs; nodes that differ for long have not the same keys.",
        ("kid",),
        merge="max",
    )

    def look() -> None:
        primary.clear()
        try:
            made = keys.created()
            primary.labels(keys.look()[1]).set(1)
        except KeyRepositoryError:
            number.set(0)
            return
        number.set(len(made))
        created.labels("primary").set(made[max(made)])
        if 0 in made:
            created.labels("staged").set(made[0])

    metrics.look_with(look)


def watch_limits(metrics: Metrics, use: Callable[[], Mapping[str, tuple[float, float]]]) -> None:
    """Limits of a process, and how much of each is used.

    :param use: by the name of its option: the limit (0: none), and what is used of it.
    """
    limit = metrics.gauge(
        "limit",
        "A limit of each worker, by the name of its option (openings: consoles being opened); "
        "0: none.",
        ("limit",),
        merge="max",
    )
    used = metrics.gauge(
        "limit_used",
        "How much of it is used, in the worker that uses most.",
        ("limit",),
        merge="max",
    )

    def look() -> None:
        for name, (most, now) in use().items():
            limit.labels(name).set(most)
            used.labels(name).set(now)

    metrics.look_with(look)


def watch_certificates(metrics: Metrics, expiry: Callable[[], Mapping[str, float]]) -> None:
    """When certificates end.

    :param expiry: seconds since the epoch, by ``server`` or ``vcenter NAME``.
    """
    ends = metrics.gauge(
        "certificate_expiry_timestamp_seconds",
        "When the certificate ends: the one that this node serves, or a vCenter's.",
        ("certificate",),
        merge="min",
    )

    def look() -> None:
        for name, when in expiry().items():
            ends.labels(name).set(when)

    metrics.look_with(look)


def watch_clock(metrics: Metrics, clock: SetClock) -> None:
    """Jumps of the clock: tokens of a node whose clock is wrong are good nowhere else."""
    jumps = Counter(
        "mksfilter_clock_jumps",
        "How often this machine's clock was set by more than clock_skew.",
        registry=metrics.registry,
    )

    def look() -> None:
        for seconds in clock.take_jumps():
            jumps.inc()
            LOG.warning(
                event(
                    "clock-jumped",
                    seconds=round(seconds),
                    detail="open consoles go on; for ten minutes tokens are good here by the time "
                    "before and after; tokens of this node are refused by nodes with another "
                    "time: check NTP",
                )
            )

    metrics.look_with(look)


def watch_log(metrics: Metrics) -> None:
    """Lines of the log that were lost."""
    dropped = Counter(
        "mksfilter_log_lines_dropped",
        "Lines of the log that nobody took in time.",
        registry=metrics.registry,
    )
    before = 0

    def look() -> None:
        nonlocal before
        now = log.lines_dropped()
        dropped.inc(now - before)
        before = now

    metrics.look_with(look)


def watch_build(metrics: Metrics) -> None:
    """Which release this is."""
    metrics.gauge("build_info", "1, with the release.", ("version",), merge="max").labels(
        mksfilter.__version__
    ).set(1)
