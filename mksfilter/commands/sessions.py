"""``mksfilter sessions``: the live consoles of an instance, as vCenter itself keeps them.

Asks vCenter (QueryConnections, DropConnections; vSphere 7.0.1 and later) and no proxy, so it shows
the consoles of all proxies, and those that did not come through one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from mksfilter import config, runtime_directory
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.revocation import RevocationFile
from mksfilter.commands import add_config_file, record_act, trail_of
from mksfilter.commands.revoke import revoke
from mksfilter.exceptions import ConfigurationError, OperationError

if TYPE_CHECKING:
    from mksfilter.audit.trail import Trail
    from mksfilter.backends.resolver import Consoles

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser(
        "list",
        help="show label, client and user of each live console",
        description="List the live consoles of an instance, whoever opened them. "
        "Needs vSphere 7.0.1 or later.",
    )
    drop = actions.add_parser(
        "drop",
        help="end the live consoles of an instance",
        description="End all live consoles of an instance for good: its sessions are put on the "
        "revocation list first (copy that to every proxy, as the keys are), so that no page comes "
        "back by itself; a new link opens a new console. Needs vSphere 7.0.1 or later.",
    )
    drop.add_argument(
        "--may-return",
        action="store_true",
        help="revoke nothing: pages come back as after a vMotion",
    )
    drop.add_argument(
        "--label",
        action="append",
        metavar="LABEL",
        help="end only the console with this label, as 'list' shows it; may be repeated. vCenter "
        "does not know which session it is, so this needs --may-return",
    )
    for action in (show, drop):
        action.add_argument(
            "--instance", required=True, type=_uuid, metavar="UUID", help="Nova instance"
        )
        action.add_argument("--vcenter", metavar="NAME", help="the vCenter that has the instance")
        action.add_argument("--json", action="store_true", help="print JSON")
        add_config_file(action)


def run(args: argparse.Namespace) -> int:
    """Carry out the chosen action.

    :raises ConfigurationError: no vCenter is configured, or not correctly.
    :raises BackendError: vCenter cannot be asked, or does not know the instance.
    :raises KeyRepositoryError: the revocation list cannot be written.
    :raises OperationError: a label to drop is not there.
    """
    conf = config.load(args.config_file)
    vcenters = config.vcenter_settings(conf)
    if args.vcenter and args.vcenter not in {settings.name for settings in vcenters}:
        raise ConfigurationError(f"vcenters does not name {args.vcenter!r}")
    # pyVmomi is imported only for a configuration that can use it.
    from mksfilter.backends.resolver import Consoles

    directory = runtime_directory.find(conf[config.GROUP].runtime_directory)
    with contextlib.closing(Consoles(vcenters, runtime_directory=directory)) as consoles:
        if args.action == "list":
            return _list(args, consoles)
        trail = trail_of(conf)
        if not args.may_return:
            consoles.connections(args.instance, vcenter=args.vcenter)  # is it there at all?
            _revoke(args, conf[config.GROUP])
        return _drop(args, consoles, trail)


def _list(args: argparse.Namespace, consoles: Consoles) -> int:
    live = consoles.connections(args.instance, vcenter=args.vcenter)
    if args.json:
        sessions = [dataclasses.asdict(one) for one in live]
        print(json.dumps({"instance": args.instance, "sessions": sessions}, indent=2))
        return 0
    width = max([len("LABEL"), *(len(one.label) for one in live)])
    print(f"{'LABEL':<{width}}  {'CLIENT':<39}  USER")
    for one in live:
        print(f"{one.label:<{width}}  {one.client:<39}  {one.user}")
    return 0


def _drop(args: argparse.Namespace, consoles: Consoles, trail: Trail) -> int:
    dropped = consoles.drop(args.instance, labels=args.label, vcenter=args.vcenter)
    record_act(
        trail,
        "dropped",
        instance=args.instance,
        vcenter=args.vcenter or "",
        reason="by-operator",
        detail=f"{dropped} consoles",
    )
    if args.label and dropped < len(set(args.label)):
        raise OperationError(
            f"{dropped} of {len(set(args.label))} consoles ended; the others have ended before, "
            f"or their labels are not those that 'mksfilter sessions list' shows"
        )
    if args.json:
        print(json.dumps({"instance": args.instance, "dropped": dropped}))
    else:
        print(f"{dropped} console{'' if dropped == 1 else 's'} ended")
    return 0


def _revoke(args: argparse.Namespace, options: Any) -> None:
    if args.label:
        raise ConfigurationError(
            "--label without --may-return: a label does not tell which session to revoke; use "
            "'mksfilter revoke --session' with the session id in the log"
        )
    now = int(time.time())
    file = RevocationFile(KeyRepository(options.key_repository))
    revoke(file, options, "instance", args.instance, at=now, now=now)


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID") from None
