"""The ``mksfilter`` command: one module of :mod:`mksfilter.commands` per sub-command.

Exit codes: 0 done, 1 could not be done, 2 wrong command line or configuration, 130 interrupted.
Errors are one line on standard error.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from mksfilter import __version__, extras
from mksfilter.commands import add_config_file
from mksfilter.exceptions import MksFilterError

__all__ = ["main"]

COMMANDS = {
    "demo": "run everything against a simulated vSphere and print a console URL",
    "serve": "run the console proxy",
    "simulator": "run a simulated vCenter with two ESXi hosts",
    "check": "tell what is wrong with a configuration before a restart",
    "keys": "set up, rotate or list the signing keys",
    "token": "mint or inspect a console token",
    "revoke": "withdraw tokens and end sessions by session, instance, user, project or time",
    "audit": "tell who was on which console, and compare with vCenter's own events",
    "drain": "take this node out of service, and tell who is still on it",
    "sessions": "list or drop the live consoles of an instance",
}
#: The extra that has all of a command's libraries, where one library's own has not.
EXTRAS = {"demo": "simulator", "serve": "proxy", "simulator": "simulator"}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Only the wanted command is imported: `keys` must not need gevent, nor `serve` Pillow.
    wanted = next((word for word in arguments if word in COMMANDS), "")
    try:
        with extras.needed(f"mksfilter {wanted}".strip(), extra=EXTRAS.get(wanted, "")):
            args = _parser(wanted).parse_args(arguments)
            return int(args.run(args) or 0)
    except MksFilterError as exc:
        print(f"mksfilter: {exc}", file=sys.stderr)
        return exc.exit_code
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(wanted: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mksfilter",
        description="WebMKS consoles for OpenStack on VMware vSphere.",
        epilog="Exit codes: 0 done, 1 could not be done, 2 wrong command line or configuration, "
        "130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"mksfilter {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        if name == wanted:
            module = importlib.import_module(f"mksfilter.commands.{name}")
            add_config_file(command, default=[])
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
