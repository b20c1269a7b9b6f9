"""``mksfilter simulator``: a simulated vCenter with two ESXi hosts."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from typing import TYPE_CHECKING

from mksfilter.exceptions import ConfigurationError
from mksfilter.tcp import unbracketed

if TYPE_CHECKING:
    from mksfilter.simulator.model.description import Description
    from mksfilter.simulator.server import Options

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the first vCenter's port (any)")
    parser.add_argument("--control-port", type=int, default=0, help="the control API's port (any)")
    parser.add_argument("--vcenters", type=int, default=1, metavar="N", help="how many (1)")
    parser.add_argument(
        "--vms", type=int, default=0, metavar="N", help="VMs beside the demo's four (0)"
    )
    parser.add_argument(
        "--api-version", metavar="VERSION", help="vSphere API version, 5.5 to 9.0 (8.0)"
    )
    parser.add_argument(
        "--rfb",
        action="append",
        default=[],
        metavar="[NAME=]HOST:PORT",
        help="show a real VNC server on all VMs, or on the named one; may be repeated",
    )
    parser.add_argument(
        "--screen",
        choices=["text", "echo", "stream"],
        help="what consoles show: a text console, what they are sent, or 16 KiB frames (text)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ITEM.FIELD=VALUE",
        help="start with a fault: vm, host or vcenter (all of them) or a name, then a field: "
        "vcenter.delay=2, host.silent=true, web-1.max_connections=1; a wrong field lists the right "
        "ones; may be repeated",
    )
    parser.add_argument("--username", default="administrator@vsphere.local", help="(%(default)s)")
    parser.add_argument("--password", default="simulated", help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON when ready")
    parser.add_argument("--verbose", action="store_true", help="log what happens")
    parser.add_argument(
        "--until-eof", action="store_true", help="end when standard input is closed"
    )


def run(args: argparse.Namespace) -> int:
    if args.config_file:
        raise ConfigurationError("simulator takes no configuration; drop --config-file")
    if args.vcenters < 1 or args.vms < 0:
        raise ConfigurationError("simulator: --vcenters has to be 1 or more, --vms 0 or more")
    from mksfilter.simulator import server

    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    simulator = server.Simulator(_options(args))
    try:
        state = simulator.state()
        print(json.dumps(state) if args.json else _words(state), flush=True)
        server.serve(until_eof=args.until_eof)
    finally:
        simulator.stop()
    return 0


def _options(args: argparse.Namespace) -> Options:
    from mksfilter.simulator.server import Options

    settings: list[tuple[str, str, dict[str, object]]] = []
    if args.api_version:
        settings.append(("vcenter", "", {"api_version": args.api_version}))
    if args.screen:
        settings.append(("vm", "", {"screen": args.screen}))
    for word in args.rfb:
        name, _, address = word.rpartition("=")
        settings.append(("vm", name, {"screen": address}))
    for word in args.set:
        settings.append(_setting(word))
    return Options(
        host=unbracketed(args.host),
        port=args.port,
        control_port=args.control_port,
        vcenters=args.vcenters,
        vms=args.vms,
        username=args.username,
        password=args.password,
        settings=tuple(settings),
    )


def _setting(word: str) -> tuple[str, str, dict[str, object]]:
    target, equals, value = word.partition("=")
    item, dot, field = target.rpartition(".")
    if not (equals and dot and item and field):
        raise ConfigurationError(f"--set {word}: write it as ITEM.FIELD=VALUE")
    if item in ("vm", "host", "vcenter"):
        return item, "", {field: value}
    kind = "host" if item.startswith("esxi-") else "vcenter" if item.startswith("vc") else "vm"
    return kind, item, {field: value}


def _words(state: Description) -> str:
    lines = []
    for vcenter in state["vcenters"]:
        lines += [
            f"vCenter {vcenter['name']}  https://{vcenter['host']}:{vcenter['port']}/sdk",
            f"  user        {vcenter['username']}",
            f"  password    {vcenter['password']}",
            f"  thumbprint  {vcenter['thumbprint']}",
            f"  CA file     {vcenter['ca_file']}",
        ]
    lines += [f"host {h['name']}  {h['address']}:{h['port']}" for h in state["hosts"]]
    lines += [
        f"VM {vm['name']:<10} {vm['uuid']}  project {vm['project_id']}, power {vm['power']}, "
        f"on {vm['host']}"
        for vm in state["vms"]
    ]
    lines += [f"control API {state['control']}", "Ctrl-C ends it."]
    return "\n".join(lines)
