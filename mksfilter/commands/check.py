"""``mksfilter check``: tell what is wrong with a configuration before a restart."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from mksfilter.checks.finding import Finding, Kind
from mksfilter.checks.nova import NovaConfiguration
from mksfilter.checks.nova_conf import search
from mksfilter.checks.proxy import ProxyConfiguration
from mksfilter.exceptions import ConfigurationError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to *parser*."""
    parser.add_argument(
        "--nova-conf",
        action="append",
        metavar="PATH",
        help="nova.conf of nova-api, or a directory of such *.conf; may be repeated, later ones "
        "win; a nova.conf.d beside it is read too",
    )
    parser.add_argument(
        "--api-paste",
        metavar="FILE",
        help="the api-paste.ini that nova-api loads, or, without --nova-conf, that of another API",
    )
    parser.add_argument(
        "--connect",
        action="store_true",
        help="with --config-file: also log in to every vCenter, and look at privileges, hosts, "
        "clocks, the once-only memory, descriptors, and the page as browsers reach it",
    )
    parser.add_argument(
        "--instance",
        type=_uuid,
        metavar="UUID",
        help="with --connect: also open the console of this instance, view-only, from here and "
        "through the proxy, and tell how long each step takes",
    )
    parser.epilog = (
        "Without arguments it looks at what nova-api reads by itself: OS_NOVA_CONFIG_DIR and "
        "OS_NOVA_CONFIG_FILES, else /etc/nova, and nova.conf.d. Prints one line per finding, each "
        "with its remedy, on standard output; what is good, and what cannot be checked here, on "
        "standard error. Run it as the user that the service runs as, where it runs. Exit codes: 0 "
        "nothing found or warnings alone, 1 findings, 2 wrong command line or a file that cannot "
        "be read."
    )


def run(args: argparse.Namespace) -> int:
    """Print what is wrong.

    :raises ConfigurationError: there is nothing to look at.
    """
    if args.connect and not args.config_file:
        raise ConfigurationError("check: --connect needs the proxy's --config-file")
    if args.instance and not args.connect:
        raise ConfigurationError("check: --instance needs --connect")
    nova_conf, api_paste = args.nova_conf, args.api_paste
    if not (nova_conf or api_paste or args.config_file):
        api_paste, found = search()
        if not (api_paste or found):
            raise ConfigurationError(
                "check: nothing to look at; give --nova-conf and --api-paste, or --config-file"
            )
        nova_conf = found
        print(
            f"mksfilter: looking at {' '.join([api_paste or '', *found]).strip()}", file=sys.stderr
        )
    # All are read before anything is said: a file that cannot be read is no finding.
    nova = proxy = None
    unreadable: list[str] = []
    if nova_conf is not None or api_paste:
        nova = _read(unreadable, partial(NovaConfiguration, nova_conf, api_paste))
    if args.config_file:
        proxy = _read(unreadable, partial(ProxyConfiguration, args.config_file))
    for problem in unreadable:
        print(f"mksfilter: {problem}", file=sys.stderr)
    errors = 0
    told: set[str] = set()
    for finding in _findings(
        nova, proxy, args.connect, instance=args.instance or "", compare=nova_conf is not None
    ):
        line = str(finding)
        if line in told:
            continue
        told.add(line)
        errors += finding.kind is Kind.ERROR
        aside = finding.kind in (Kind.GOOD, Kind.UNCHECKED)
        print(line, file=sys.stderr if aside else sys.stdout)
    if os.geteuid() == 0 and (nova or proxy):
        print(
            "mksfilter: checked as root, who may read everything; run it as the service's user",
            file=sys.stderr,
        )
    if unreadable:
        return ConfigurationError.exit_code
    return 1 if errors else 0


_Configuration = TypeVar("_Configuration", NovaConfiguration, ProxyConfiguration)


def _read(unreadable: list[str], read: Callable[[], _Configuration]) -> _Configuration | None:
    try:
        return read()
    except ConfigurationError as exc:
        unreadable.append(str(exc))
        return None


def _findings(
    nova: NovaConfiguration | None,
    proxy: ProxyConfiguration | None,
    connect: bool,
    *,
    instance: str,
    compare: bool,
) -> Iterator[Finding]:
    if nova is not None:
        yield from nova.findings()
    if proxy is not None:
        yield from proxy.findings()
        if nova is not None and compare:
            yield from proxy.disagreements(nova.shared())
        if connect:
            url = nova.base_url() if nova is not None and compare else ""
            yield from proxy.connect(base_url=url, instance=instance)


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID") from None
