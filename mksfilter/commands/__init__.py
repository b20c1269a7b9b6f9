"""The sub-commands: each module has ``configure(parser)`` and ``run(args) -> exit code``."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_config_file"]


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
