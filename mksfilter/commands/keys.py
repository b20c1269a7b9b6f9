"""``mksfilter keys``: set up, rotate and list the signing keys."""

from __future__ import annotations

import argparse
import time

from mksfilter import config
from mksfilter.auth.keys import DEFAULT_MAX_ACTIVE_KEYS, KeyRepository
from mksfilter.auth.revocation import RevocationFile
from mksfilter.commands import add_config_file

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    setup = actions.add_parser(
        "setup",
        help="make the directory with a staged key and a primary one",
        description="Make the key repository. Copy it to every node of the filter and of the "
        "proxy, owned by the user that the service runs as. Refuses to replace keys.",
    )
    rotate = actions.add_parser(
        "rotate",
        help="promote the staged key, stage a new one, remove the oldest",
        description="Rotate on one node, then copy the directory to the others. Leave more time "
        "between two rotations than the copying takes and than a token lives. Nothing is "
        "restarted.",
    )
    rotate.add_argument(
        "--max-active-keys",
        type=_at_least_three,
        default=DEFAULT_MAX_ACTIVE_KEYS,
        metavar="N",
        help="keys to keep, staged and primary among them (default: %(default)s, at least 3)",
    )
    show = actions.add_parser(
        "list",
        help="show number, role, name and age of each key, never the key",
        description="List the keys. Nodes whose lists agree accept each other's tokens.",
    )
    for action in (setup, rotate, show):
        action.add_argument(
            "--key-repository",
            metavar="DIR",
            help="directory of the keys (default: the option key_repository)",
        )
        add_config_file(action)


def run(args: argparse.Namespace) -> int:
    """Carry out the chosen action.

    :raises KeyRepositoryError: the repository cannot be used.
    """
    path = args.key_repository or config.load(args.config_file)[config.GROUP].key_repository
    repository = KeyRepository(path)
    if args.action == "setup":
        repository.setup()
        print(f"{repository.path}: staged key 0 and primary key 1 made")
    elif args.action == "rotate":
        before = {entry.kid for entry in repository.entries()}
        # The key that signed the revocation list will go one day, so that the list is signed again.
        # One that cannot be read must not be found out when the rotation is half done: whoever
        # tries again would rotate again.
        revocations = RevocationFile(repository)
        revocations.load()
        repository.rotate(max_active_keys=args.max_active_keys)
        repository.load()
        revocations.sign_again(now=time.time())
        entries = repository.entries()
        removed = len(before - {entry.kid for entry in entries})
        print(f"{repository.path}: primary is key {entries[-1].number}, {removed} removed")
    else:
        entries = repository.entries()
        print(f"{'NUMBER':>6}  {'ROLE':<8} {'KEY':<12}  AGE")
        for entry in entries:
            age = _age(time.time() - entry.created)
            print(f"{entry.number:>6}  {entry.role:<8} {entry.kid:<12}  {age}")
    return 0


def _age(seconds: float) -> str:
    """Seconds in the largest whole unit."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _at_least_three(text: str) -> int:
    if not text.isdecimal() or int(text) < 3:
        raise argparse.ArgumentTypeError("at least 3: staged, primary and the one before")
    return int(text)
