"""``mksfilter revoke``: withdraw tokens and end sessions, on every node that has the list."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
import time
import uuid
from typing import Any

from mksfilter import config
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.revocation import Revocation, RevocationFile, RevocationList
from mksfilter.commands import record_act, trail_of

__all__ = ["configure", "revoke", "run"]

_SESSION = re.compile(r"[A-Za-z0-9_-]{22}")
#: Keystone's: a UUID without dashes, or where LDAP has the users a SHA-256.
_KEYSTONE_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: 2020-01-01, seconds since the epoch. No session is older; 20261126 would be in 1970.
_EARLIEST = 1_577_836_800


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Write a signed list into the key repository. Copy it to every proxy as the keys are: "
        "within seconds a node refuses the tokens that it names, and ends the sessions. A console "
        "that Nova allows afterwards is not concerned."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--session",
        type=_session,
        metavar="ID",
        help="one session, by the session id in the log (22 characters)",
    )
    what.add_argument("--instance", type=_uuid, metavar="UUID", help="all sessions of an instance")
    what.add_argument("--user", type=_name, metavar="ID", help="all sessions of a user")
    what.add_argument("--project", type=_name, metavar="ID", help="all sessions of a project")
    what.add_argument(
        "--issued-before",
        type=_time,
        metavar="TIME",
        help="everything that began before TIME: 'now', ISO 8601 such as 2026-11-26T09:30:00Z, or "
        "seconds since the epoch",
    )
    what.add_argument(
        "--list", action="store_true", help="show what is revoked, and change nothing"
    )
    what.add_argument(
        "--sign",
        action="store_true",
        help="sign the list again with the primary key; 'keys rotate' does so by itself",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--key-repository",
        metavar="DIR",
        help="directory of the keys (default: the option key_repository)",
    )


def run(args: argparse.Namespace) -> int:
    """Carry it out.

    :raises KeyRepositoryError: keys or list cannot be read or written.
    """
    conf = config.load(args.config_file)
    options = conf[config.GROUP]
    path = args.key_repository or options.key_repository
    file = RevocationFile(KeyRepository(path))
    now = int(time.time())
    if args.list:
        revocations = file.load()
    elif args.sign:
        revocations = file.sign_again(now=now)
    else:
        trail = trail_of(conf)
        kind, value, at = _wanted(args, now)
        revocations = revoke(file, options, kind, value, at=at, now=now)
        named = {} if kind == "issued-before" else {kind: value}
        if kind in ("user", "project") and not _KEYSTONE_ID.fullmatch(value):
            print(
                f"mksfilter: {value!r} is no id of Keystone's form; the name of a {kind} "
                f"revokes nothing",
                file=sys.stderr,
            )
        record_act(trail, "revoked", reason=f"by-{kind}", detail=f"began until {_iso(at)}", **named)
    if args.json:
        print(json.dumps([_row(entry) for entry in revocations.entries], indent=2))
    elif args.list:
        _show(revocations)
    else:
        print(f"{file.path}: {len(revocations)} entries; copy it to every proxy, as the keys are")
    return 0


def revoke(
    file: RevocationFile, options: Any, kind: str, value: str, *, at: int, now: int
) -> RevocationList:
    """Add an entry that stays for as long as a session that it concerns could.

    :param options: group ``[mksfilter]``: ``session_lifetime``, ``token_ttl``, ``clock_skew``.
    :raises KeyRepositoryError: keys or list cannot be read or written.
    """
    until = None
    if options.session_lifetime:
        until = max(at, now) + options.session_lifetime + options.token_ttl + options.clock_skew
    return file.add(Revocation(kind, value, at, until), now=now)


def _wanted(args: argparse.Namespace, now: int) -> tuple[str, str, int]:
    for kind in ("session", "instance", "user", "project"):
        value = getattr(args, kind)
        if value is not None:
            return kind, value, now
    return "issued-before", "", args.issued_before


def _show(revocations: RevocationList) -> None:
    print(f"{'KIND':<13}  {'VALUE':<36}  {'BEGAN UNTIL':<20}  KEPT UNTIL")
    for entry in revocations.entries:
        row = _row(entry)
        print(f"{entry.kind:<13}  {entry.value or '-':<36}  {row['at']:<20}  {row['until'] or '-'}")


def _row(entry: Revocation) -> dict[str, str | None]:
    return {
        "kind": entry.kind,
        "value": entry.value,
        "at": _iso(entry.at),
        "until": None if entry.until is None else _iso(entry.until),
    }


def _iso(seconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _session(text: str) -> str:
    if not _SESSION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a session id of 22 characters")
    return text


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID") from None


def _name(text: str) -> str:
    if not text or len(text) > 255 or not text.isprintable() or text != text.strip():
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r} is not an id of up to 255 printable characters without outer blanks"
        )
    return text


def _time(text: str) -> int:
    now = int(time.time())
    if text == "now":
        return now
    try:
        if text.isdecimal():
            moment = int(text)
        else:
            parsed = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
            if parsed.tzinfo is None:
                raise ValueError
            moment = int(parsed.timestamp())
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither 'now' nor a time such as 2026-11-26T09:30:00Z"
        ) from None
    if moment < _EARLIEST:
        raise argparse.ArgumentTypeError(
            f"{text} is {_iso(max(moment, 0))}, before any session; write a time such as "
            f"2026-11-26T09:30:00Z"
        )
    if moment > now:
        raise argparse.ArgumentTypeError(f"{text} lies in the future: every new link would be dead")
    return moment
