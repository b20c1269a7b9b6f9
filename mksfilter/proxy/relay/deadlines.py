"""When a session has to be looked at, and whether it then has to end. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from mksfilter.exceptions import (
    ClientLost,
    IdleTimeout,
    LifetimeReached,
    SessionEnded,
    SlowReader,
    UpstreamLost,
)
from mksfilter.proxy.relay.options import RelayOptions
from mksfilter.proxy.relay.state import BrowserState, HostState, PeerState

__all__ = ["next_look", "overdue", "pinged"]


def pinged(
    options: RelayOptions, browsers: Sequence[BrowserState], host: HostState
) -> list[tuple[PeerState, float]]:
    """The peers that get pings, and how often, in seconds."""
    peers: list[tuple[PeerState, float]] = []
    if options.ping_interval:
        peers += [(browser, options.ping_interval) for browser in browsers]
    if options.upstream_ping_interval and host.tracker is not None:
        peers.append((host, options.upstream_ping_interval))
    return peers


def overdue(
    now: float,
    options: RelayOptions,
    browsers: Sequence[BrowserState],
    host: HostState,
    expires: float | None,
) -> SessionEnded | None:
    """Why a session has to end at *now*, if it has to.

    :param expires: the end of its lifetime.
    """
    limit = options.stall_timeout
    for browser in browsers:
        if now >= browser.settle_by:
            reason = _unsettled(browser, limit)
            if reason is not None:
                return reason
    if expires is not None and now >= expires:
        return LifetimeReached("the session reached the end of its lifetime")
    for browser in browsers:
        if browser.stalled_at is not None and now >= browser.stalled_at + limit:
            return SlowReader(f"the browser read nothing for {limit:g} s", seconds=limit)
    if host.stalled_at is not None and now >= host.stalled_at + limit:
        return UpstreamLost(f"the console host read nothing for {limit:g} s")
    idle = options.idle_timeout
    if idle and browsers and now >= _last_data(browsers) + idle:
        return IdleTimeout(f"no data from the browser for {idle:g} s", seconds=idle)
    return None


def _unsettled(browser: BrowserState, limit: float) -> SessionEnded | None:
    """Why a session ends whose RFB handshake should be over by now, if it is not."""
    decoder = browser.decoder
    if decoder is not None and decoder.undecided:
        return UpstreamLost(f"the console host said nothing for {limit:g} s")
    if decoder is not None and decoder.playing:
        return ClientLost(f"the browser did not complete the RFB handshake within {limit:g} s")
    return None


def _last_data(browsers: Sequence[BrowserState]) -> float:
    return max(browser.seen for browser in browsers)


def next_look(
    now: float,
    options: RelayOptions,
    browsers: Sequence[BrowserState],
    host: HostState,
    expires: float | None,
) -> float:
    """When to look at a session again."""
    # A stall that begins after this look is seen in time: nothing waits longer than its limit.
    due = now + options.stall_timeout
    for peer in (*browsers, host):
        if peer.stalled_at is not None:
            due = min(due, peer.stalled_at + options.stall_timeout)
    for browser in browsers:
        if not browser.settled:
            due = min(due, browser.settle_by)
    if expires is not None:
        due = min(due, expires)
    if options.idle_timeout and browsers:
        due = min(due, _last_data(browsers) + options.idle_timeout)
    for pinged_peer, interval in pinged(options, browsers, host):
        due = min(due, pinged_peer.pinged_at + interval)
    return due
