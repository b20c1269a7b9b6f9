"""One console, followed through the events of all nodes. No I/O.

A console is known by the API request that asked for it and by its session; events that name either
belong to it. What an operator did to it from a command line names neither when it was aimed at the
instance, user or project: it belongs to the story when it fell into the console's life.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from mksfilter.audit.events import AuditEvent

__all__ = ["Wanted", "follow", "summary"]

#: Events of the same microsecond are told in the order of a console's life.
_ORDER = {
    action: place
    for place, action in enumerate(
        ("asked", "opened", "resumed", "dropped", "moved", "revoked", "ended", "refused")
    )
}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which events: those with all of what is not empty. Times are seconds since the epoch."""

    request: str = ""
    session: str = ""
    instance: str = ""
    user: str = ""
    project: str = ""
    since: float = float("-inf")
    until: float = float("inf")

    def has(self, event: AuditEvent) -> bool:
        """Whether *event* itself is one."""
        return self.since <= event.time <= self.until and all(
            value in ("", getattr(event, name)) for name, value in self._names()
        )

    def _names(self) -> Iterable[tuple[str, str]]:
        return (
            (name, getattr(self, name))
            for name in ("request", "session", "instance", "user", "project")
        )


def follow(events: Iterable[AuditEvent], wanted: Wanted) -> list[AuditEvent]:
    """The events that are wanted, with the rest of their consoles' lives: once each, by time."""
    unique = list({event.id: event for event in events}.values())
    chosen = {event.id: event for event in unique if wanted.has(event)}
    sessions = {event.session for event in chosen.values() if event.session}
    requests = {event.request for event in chosen.values() if event.request}
    if wanted.request or wanted.session:
        # A session's events all name it; its link and what was refused before it name the request.
        for event in unique:
            inside = wanted.since <= event.time <= wanted.until
            if inside and (event.session in sessions or event.request in requests):
                chosen[event.id] = event
        _add_operators(unique, chosen)
    return sorted(chosen.values(), key=lambda event: (event.time, _ORDER[event.action]))


def _add_operators(events: Sequence[AuditEvent], chosen: dict[str, AuditEvent]) -> None:
    lived = [event for event in chosen.values() if event.service != "command"]
    if not lived:
        return
    first, last = min(event.time for event in lived), max(event.time for event in lived)
    for name in ("instance", "user", "project"):
        values = {getattr(event, name) for event in lived} - {""}
        for event in events:
            if (
                event.service == "command"
                and first <= event.time <= last
                and getattr(event, name) in values
            ):
                chosen[event.id] = event


def summary(events: Sequence[AuditEvent]) -> list[str]:
    """A line for each session among *events*, which are in time order."""
    by_session: dict[str, list[AuditEvent]] = {}
    for event in events:
        if event.session and event.service != "command":
            by_session.setdefault(event.session, []).append(event)
    return [_line(session, told) for session, told in by_session.items()]


def _line(session: str, told: Sequence[AuditEvent]) -> str:
    count = {action: sum(event.action == action for event in told) for action in _ORDER}
    begun = {event.connection for event in told if event.action in ("opened", "resumed")}
    over = [event for event in told if event.action in ("moved", "revoked", "ended")]
    nodes = sorted({event.node for event in told if event.connection})
    lasted = sum(event.seconds or 0 for event in over)
    words = [f"session {session}"]
    if begun:
        words.append(
            ("opened" if count["opened"] else "its opening is not here")
            + f", resumed {count['resumed']} times, on {', '.join(nodes)}"
        )
        words.append(f"connected for {lasted:.1f} s")
        words.append(
            f"{sum(event.bytes_in or 0 for event in over)} bytes in, "
            f"{sum(event.bytes_out or 0 for event in over)} out"
        )
    elif count["asked"]:
        words.append("a link that opened nothing")
    if count["refused"]:
        words.append(f"refused {count['refused']} times")
    open_ends = len(begun - {event.connection for event in over})
    if open_ends:
        words.append(f"{open_ends} connections without an end")
    elif over:
        words.append(f"ended: {over[-1].reason}")
    return "; ".join(words)
