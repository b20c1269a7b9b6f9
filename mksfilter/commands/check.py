"""``mksfilter check``: tell what is wrong with a configuration before a restart."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from mksfilter.checks.finding import Finding
from mksfilter.checks.nova import NovaConfiguration
from mksfilter.checks.proxy import ProxyConfiguration
from mksfilter.exceptions import ConfigurationError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to *parser*."""
    parser.add_argument(
        "--nova-conf", metavar="FILE", help="nova.conf of nova-api, with [mksfilter] in it"
    )
    parser.add_argument("--api-paste", metavar="FILE", help="the api-paste.ini that nova-api loads")
    parser.add_argument(
        "--connect",
        action="store_true",
        help="with --config-file: also log in to every vCenter",
    )
    parser.epilog = (
        "Prints one line per finding, each with its remedy. Run it as the user that the service "
        "runs as. Exit codes: 0 nothing found, 1 findings, 2 wrong command line or a file that "
        "cannot be read."
    )


def run(args: argparse.Namespace) -> int:
    """Print what is wrong.

    :raises ConfigurationError: there is nothing to look at, or a file cannot be read.
    """
    if not (args.nova_conf or args.api_paste or args.config_file):
        raise ConfigurationError(
            "check: nothing to look at; give --nova-conf and --api-paste, or --config-file"
        )
    if args.connect and not args.config_file:
        raise ConfigurationError("check: --connect needs the proxy's --config-file")
    findings = 0
    for finding in _findings(args):
        findings += 1
        print(finding)
    if os.geteuid() == 0:
        print(
            "mksfilter: checked as root, who may read everything; run it as the service's user",
            file=sys.stderr,
        )
    return 1 if findings else 0


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    nova = proxy = None
    # Both are read before anything is said: a file that cannot be read is no finding.
    if args.nova_conf or args.api_paste:
        nova = NovaConfiguration(args.nova_conf, args.api_paste)
    if args.config_file:
        proxy = ProxyConfiguration(args.config_file)
    if nova is not None:
        yield from nova.findings()
    if proxy is not None:
        yield from proxy.findings()
        if nova is not None and args.nova_conf:
            yield from proxy.disagreements(nova.shared())
        if args.connect:
            for good, found in proxy.connect():
                if good:
                    print(f"good: {found}")
                else:
                    yield found
