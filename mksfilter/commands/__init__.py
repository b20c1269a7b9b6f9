"""The sub-commands: each module has ``configure(parser)`` and ``run(args) -> exit code``."""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

from mksfilter import config
from mksfilter.audit.places import make_trail
from mksfilter.audit.trail import Trail
from mksfilter.private_files import owner_name

__all__ = ["add_config_file", "record_act", "seconds", "trail_of"]


def trail_of(conf: Any) -> Trail:
    """The audit trail of a command. Made before it acts: options that are wrong are told while
    nothing has happened yet, and not by an error after it has.

    :raises ConfigurationError: the options for audit events are wrong.
    """
    return make_trail(config.audit_settings(conf), "command")


def record_act(trail: Trail, action: str, **fields: str) -> None:
    """Tell the audit trail what an operator has done, and which account it was.

    :param fields: of :class:`mksfilter.audit.events.AuditEvent`.
    """
    account, caller = owner_name(os.getuid()), os.environ.get("SUDO_USER", "")
    trail.record(action, by=f"{account} ({caller})" if caller else account, **fields)
    trail.close()


def seconds(text: str, *, below: float = math.inf) -> float:
    """The value of an option that is a time in seconds, from 0 on.

    :raises argparse.ArgumentTypeError: it is not a number, or none *below* that one.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < below:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 on")
    return number


def add_config_file(parser: argparse.ArgumentParser, default: Any = argparse.SUPPRESS) -> None:
    """Add ``--config-file``; to an action's own parser without a default.

    So ``mksfilter keys --config-file F list`` and ``mksfilter keys list --config-file F`` are one.
    """
    parser.add_argument(
        "--config-file",
        action="append",
        default=default,
        metavar="FILE",
        help="configuration file with [mksfilter] and [vcenter.NAME], or directory of such *.conf; "
        "may be repeated, later ones win",
    )
