"""``mksfilter audit``: who was on which console, from the events of all nodes."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

from mksfilter import config, runtime_directory
from mksfilter.audit.events import AuditEvent, timestamp
from mksfilter.audit.reading import read
from mksfilter.audit.reconcile import Foreign, VCenterEvent, reconcile
from mksfilter.audit.story import Wanted, follow, summary
from mksfilter.commands import add_config_file
from mksfilter.exceptions import ConfigurationError, OperationError

if TYPE_CHECKING:
    from mksfilter.backends.vsphere.session import Session

__all__ = ["configure", "run"]

_DAY = 86400.0
_QUERY_TIMEOUT = 120.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options, and those of ``reconcile``."""
    parser.description = (
        "Follow a console from the API request to its end, across the audit files of all nodes: "
        "copy them to one place, or give standard input ('-'). Without an action it prints what "
        "is chosen in the order of time."
    )
    parser.add_argument("--request", default="", metavar="ID", help="of the API request: req-...")
    parser.add_argument("--session", default="", metavar="ID", help="22 characters, as in the log")
    parser.add_argument("--instance", default="", metavar="UUID")
    parser.add_argument("--user", default="", metavar="ID")
    parser.add_argument("--project", default="", metavar="ID")
    _add_common(parser, file=[], since=None, until=None, json=False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=False)
    against = actions.add_parser(
        "reconcile",
        help="show consoles that vCenter knows of and the audit files do not",
        description="Ask each vCenter for the consoles and tickets in its event log, and show "
        "those that did not come through us. Give the audit files of all proxies, and of nova-api "
        "where ticket_at = issue. Exit code 1 when there are any.",
    )
    against.add_argument(
        "--tolerance",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds by which the clocks of vCenter and proxies may differ (30)",
    )
    hide = argparse.SUPPRESS
    _add_common(against, file=hide, since=hide, until=hide, json=hide)
    add_config_file(against)


def _add_common(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    parser.add_argument(
        "--file",
        action="append",
        default=defaults["file"],
        metavar="FILE",
        help="an audit file, '.gz' too, or '-'; may be repeated (default: the option audit_file)",
    )
    for name in ("since", "until"):
        parser.add_argument(
            f"--{name}",
            type=_time,
            default=defaults[name],
            metavar="TIME",
            help="ISO 8601 such as 2026-11-26T09:30:00Z, or seconds since the epoch",
        )
    parser.add_argument(
        "--json", action="store_true", default=defaults["json"], help="print a line of JSON each"
    )


def run(args: argparse.Namespace) -> int:
    """Carry it out.

    :raises ConfigurationError: no audit file is named, or no vCenter.
    :raises OperationError: a file cannot be read, or nothing is found.
    :raises BackendError: a vCenter cannot be asked.
    """
    conf = config.load(args.config_file)
    files = args.file or [name for name in (config.audit_settings(conf).file,) if name]
    if not files:
        raise ConfigurationError("audit: no --file, and the option audit_file is not set")
    events, others = read(files)
    note = f"{others} lines are no audit events that this release knows" if others else ""
    if args.action == "reconcile":
        _tell(note)
        return _reconcile(args, conf, events)
    return _follow(args, events, note)


def _tell(note: str) -> None:
    if note:
        print(f"mksfilter: {note}", file=sys.stderr)


def _follow(args: argparse.Namespace, events: list[AuditEvent], note: str) -> int:
    wanted = Wanted(
        request=args.request,
        session=args.session,
        instance=args.instance.lower(),
        user=args.user,
        project=args.project,
        since=float("-inf") if args.since is None else args.since,
        until=float("inf") if args.until is None else args.until,
    )
    found = follow(events, wanted)
    if not found:
        words = f"none of {len(events)} audit events is about that"
        raise OperationError(f"{words}; {note}" if note else words)
    _tell(note)
    for event in found:
        print(event.to_line() if args.json else _row(event))
    if not args.json:
        print()
        print("\n".join(summary(found)))
    return 0


_SHOWN = ("user", "project", "instance", "vm", "vcenter", "host", "client", "request", "session")


def _row(event: AuditEvent) -> str:
    mapping = event.to_mapping()
    words = [f"{timestamp(event.time)}  {event.action:<8}  {event.node:<15}"]
    words += [f"{name}={mapping[name]}" for name in _SHOWN if name in mapping]
    for name in ("connection", "mode", "reason", "status", "seconds", "bytes_in", "bytes_out"):
        if name in mapping:
            words.append(f"{name}={mapping[name]}")
    words += [f"by={event.by}"] if event.by else []
    words += [f"({event.detail})"] if event.detail else []
    # What a client or a user's name brings cannot draw on the operator's terminal.
    return "".join(c if c.isprintable() else "?" for c in " ".join(words))


def _reconcile(args: argparse.Namespace, conf: Any, events: list[AuditEvent]) -> int:
    vcenters = config.vcenter_settings(conf)
    if not vcenters:
        raise ConfigurationError("audit reconcile: vcenters is empty; give --config-file")
    until = time.time() if args.until is None else args.until
    since = until - _DAY if args.since is None else args.since
    # pyVmomi is imported only for a configuration that can use it.
    from mksfilter.backends.vsphere.session import Session, log_out
    from mksfilter.backends.vsphere.shared_record import SharedRecord

    # A log-in that is refused here counts with the proxy's own, lest the account be locked.
    directory = runtime_directory.find(conf[config.GROUP].runtime_directory)
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(
                contextlib.closing(Session(settings, record=SharedRecord.of(settings, directory)))
            )
            for settings in vcenters
        ]
        calls = [
            session.submit(lambda session=session: _ask(session, since, until))  # type: ignore[misc]
            for session in sessions
        ]
        wait([call.future for call in calls], _QUERY_TIMEOUT)
        theirs = [
            event
            for call, session in zip(calls, sessions, strict=True)
            for event in call.result(session.name)
        ]
        log_out(sessions)
    foreign = reconcile(
        theirs,
        events,
        accounts={settings.name: settings.username for settings in vcenters},
        tolerance=args.tolerance,
    )
    for each in foreign:
        print(json.dumps(_document(each)) if args.json else str(each))
    if not args.json:
        consoles = sum(event.kind == "VmRemoteConsoleConnectedEvent" for event in theirs)
        print(
            f"{consoles} consoles in vCenter's events from {timestamp(since)} to "
            f"{timestamp(until)}; {len(foreign)} consoles and tickets did not come through us"
        )
    return 1 if foreign else 0


def _ask(session: Session, since: float, until: float) -> list[VCenterEvent]:
    return [
        VCenterEvent(
            key=event.key,
            kind=event.kind,
            time=event.time,
            vcenter=session.name,
            user=event.user,
            vm=event.moid,
            name=event.vm_name,
            host=event.host,
        )
        for event in session.console_events(since, until)
    ]


def _document(foreign: Foreign) -> dict[str, object]:
    event = foreign.event
    return {
        "time": timestamp(event.time),
        "kind": event.kind,
        "vcenter": event.vcenter,
        "account": event.user,
        "vm": event.vm,
        "name": event.name,
        "host": event.host,
        "reason": foreign.reason,
    }


def _time(text: str) -> float:
    try:
        if text.isdecimal():
            return float(text)
        parsed = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        if parsed.tzinfo is None:
            raise ValueError
        return parsed.timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time such as 2026-11-26T09:30:00Z"
        ) from None
