"""``mksfilter drain``: take this node out of service before it is stopped, and see who is left.

The node's state is read from its management listener. The order is a signal to its master, so that
nobody can give it who may not signal that process: neither a neighbour in the network nor another
user of this machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import time
from typing import Any, Final

from mksfilter import config
from mksfilter.commands import seconds
from mksfilter.exceptions import ConfigurationError, OperationError
from mksfilter.proxy.server import board, roster
from mksfilter.tcp import host_and_port, split_address

__all__ = ["configure", "run"]

_TIMEOUT: Final = 10.0
#: Addresses that mean every one of this machine.
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to *parser*."""
    parser.description = (
        "Take this node out of service: /readyz and /healthz answer 503, new sessions are refused, "
        "pages move to another node, and the sessions of other clients are kept until the service "
        "is stopped (and then for drain_time). A reload (SIGHUP) puts it into service again."
    )
    parser.add_argument(
        "--status",
        action="store_true",
        help="change nothing; exit code 0: it serves, 1: it drains, or cannot be asked",
    )
    parser.add_argument(
        "--wait",
        type=seconds,
        metavar="S",
        help="wait until no session is left, S seconds at most; exit code 1: some are",
    )
    parser.add_argument(
        "--management",
        metavar="HOST:PORT",
        help="the node's management listener; by default management_bind of the configuration",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Give the order, or show how it goes.

    :raises ConfigurationError: there is no management listener.
    :raises OperationError: it does not answer, or this process may not signal the node's master.
    """
    address = _address(args)
    status = _status(*address)
    if not args.status and status["state"] != "draining":
        _order(status["master"])
        status = _until(address, lambda now: now["state"] == "draining", _TIMEOUT)
    if args.wait is not None:
        status = _until(address, _is_empty, args.wait)
    _show(status, as_json=args.json)
    if args.wait is not None:
        return 0 if _is_empty(status) else 1
    return 1 if args.status and status["state"] == "draining" else 0


def _address(args: argparse.Namespace) -> tuple[str, int]:
    text, option = args.management, "--management"
    if not text:
        conf = config.load(args.config_file)
        text, option = conf[config.GROUP].management_bind, "management_bind"
    if not text:
        raise ConfigurationError("management_bind is empty: this node has no listener to ask")
    host, port = split_address(text, option)
    if not port:
        raise ConfigurationError(
            f"{option} has port 0: name the one that the log has by --management"
        )
    return _ANY.get(host, host), port


def _status(host: str, port: int) -> dict[str, Any]:
    address = host_and_port(host, port)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/drain")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as exc:
        raise OperationError(f"management listener {address}: {exc}") from exc
    finally:
        connection.close()
    if response.status != 200:
        raise OperationError(
            f"management listener {address} answers {response.status}: metrics_networks has to "
            f"allow this address"
        )
    try:
        status: dict[str, Any] = json.loads(body)
        if {"state", "master", "sessions", "workers", "ends_in"} <= status.keys():
            return status
    except (ValueError, AttributeError):  # not JSON; no object
        pass
    raise OperationError(
        f"management listener {address}: something else than a node's management listener "
        f"answers there"
    )


def _order(master: dict[str, Any]) -> None:
    pid = int(master["pid"])
    # The service does not see its machine's boot where /proc holds processes only, as in our
    # systemd unit (ProcSubset=pid); when the process was started is told from everywhere.
    booted = master["boot"] in ("", roster.boot_id())
    if not booted or master["started"] != board.started(pid):
        raise OperationError(
            f"the node's master (process {pid}) is none of this machine or container: run this "
            f"where the service runs"
        )
    try:
        os.kill(pid, roster.DRAIN_SIGNAL)
    except PermissionError as exc:
        raise OperationError(
            f"process {pid} may not be signalled: run this as root or as the service's user"
        ) from exc


def _until(address: tuple[str, int], condition: Any, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not condition(status := _status(*address)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return status


def _is_empty(status: dict[str, Any]) -> bool:
    return not any(status["sessions"].values())


def _show(status: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(status, indent=2))
        return
    moving, kept = status["sessions"]["moving"], status["sessions"]["kept"]
    line = f"{status['state']}: {moving} sessions can move to another node, {kept} cannot"
    if status["ends_in"] is not None:
        line += f"; the last ends in {status['ends_in']:.0f} s"
    print(line)
    print(f"{'WORKER':<8}  {'STATE':<8}  {'CAN MOVE':>8}  {'CANNOT':>6}")
    for worker in status["workers"]:
        print(
            f"{worker['pid']:<8}  {worker['state']:<8}  {worker['moving']:>8}  {worker['kept']:>6}"
        )
