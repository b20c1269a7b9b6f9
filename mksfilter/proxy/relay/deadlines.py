"""When a session has to be looked at, and whether it then has to end. No I/O."""

from __future__ import annotations

from mksfilter.exceptions import (
    ClientLost,
    IdleTimeout,
    LifetimeReached,
    SessionEnded,
    SlowReader,
    UpstreamLost,
)
from mksfilter.proxy.relay.decoder import ClientDecoder
from mksfilter.proxy.relay.options import RelayOptions
from mksfilter.proxy.relay.peer import Side

__all__ = ["next_look", "overdue", "pinged", "unsettled"]


def pinged(options: RelayOptions, client: Side, upstream: Side) -> list[tuple[Side, float]]:
    """The sides that get pings, and how often."""
    sides = [(client, options.ping_interval)] if options.ping_interval else []
    if options.upstream_ping_interval and upstream.tracker is not None:
        sides.append((upstream, options.upstream_ping_interval))
    return sides


def overdue(
    now: float, options: RelayOptions, client: Side, upstream: Side, expires: float | None
) -> SessionEnded | None:
    """Why a session has to end at *now*, if it has to.

    :param expires: the end of its lifetime.
    """
    patience = options.stall_timeout
    if expires is not None and now >= expires:
        return LifetimeReached("the session reached the end of its lifetime")
    if client.stalled_at and now - client.stalled_at >= patience:
        return SlowReader(f"the browser read nothing for {patience:g} s")
    if upstream.stalled_at and now - upstream.stalled_at >= patience:
        return UpstreamLost(f"the console host read nothing for {patience:g} s")
    if options.idle_timeout and now - client.seen >= options.idle_timeout:
        return IdleTimeout(f"no data from the browser for {options.idle_timeout:g} s")
    return None


def unsettled(decoder: ClientDecoder, patience: float) -> SessionEnded | None:
    """Why a session ends whose RFB handshake should be over by now, if it is not."""
    if decoder.undecided:
        return UpstreamLost(f"the console host said nothing for {patience:g} s")
    if decoder.playing:
        return ClientLost(f"the browser did not shake hands for {patience:g} s")
    return None


def next_look(
    now: float, options: RelayOptions, client: Side, upstream: Side, expires: float | None
) -> float:
    """When to look at a session again."""
    # A stall that begins after this look is seen in time: nothing waits longer than its limit.
    due = now + options.stall_timeout
    for side in (client, upstream):
        if side.stalled_at:
            due = min(due, side.stalled_at + options.stall_timeout)
    if expires is not None:
        due = min(due, expires)
    if options.idle_timeout:
        due = min(due, client.seen + options.idle_timeout)
    for side, interval in pinged(options, client, upstream):
        due = min(due, side.pinged_at + interval)
    return due
