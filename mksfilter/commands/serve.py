"""``mksfilter serve``: the proxy under gunicorn, from a configuration file alone."""

from __future__ import annotations

import argparse
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from mksfilter.commands import seconds
from mksfilter.exceptions import ConfigurationError, OperationError
from mksfilter.tcp import split_address

if TYPE_CHECKING:
    from mksfilter.proxy.app import ConsoleProxy
    from mksfilter.proxy.server.embedded import EmbeddedServer

__all__ = ["configure", "run"]

WORKER = "mksfilter.proxy.worker.ConsoleWorker"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to *parser*."""
    parser.add_argument(
        "--bind",
        default="127.0.0.1:6090",
        metavar="HOST:PORT",
        help="address to listen on (127.0.0.1:6090); port 0: a free one",
    )
    parser.add_argument(
        "--workers", type=_count, default=2, metavar="N", help="worker processes (2)"
    )
    parser.add_argument("--certfile", metavar="FILE", help="serve TLS with this certificate (PEM)")
    parser.add_argument("--keyfile", metavar="FILE", help="its key, unless it is in --certfile")
    parser.add_argument(
        "--graceful-timeout",
        type=partial(seconds, below=1e6),
        metavar="S",
        help="seconds for which sessions that cannot move are kept after SIGTERM; in place of the "
        "option drain_time",
    )
    parser.add_argument(
        "--access-log", metavar="FILE", help="write an access log; '-': to standard output"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C.

    :raises ConfigurationError: the configuration is wrong; nothing was started.
    :raises OperationError: the address cannot be listened on.
    """
    from mksfilter.proxy.server.service_manager import ServiceManager

    # Before gunicorn finds it: its READY would come before any worker can serve.
    ServiceManager.of_environment()
    _check_certificate(args)
    inherited = _inherited()
    listener = inherited or _listen(args.bind)
    from mksfilter.proxy.server.node import listener_address

    scheme = "https" if args.certfile else "http"
    address = f"{scheme}://{listener_address(listener)}"
    server = _server(
        args,
        # gunicorn finds by itself what its predecessor has left it.
        bind=args.bind if inherited else f"fd://{listener.fileno()}",
        when_ready=lambda _arbiter: print(f"listening on {address}", flush=True),
    )
    problem = _rehearse(server.wsgi())
    if problem:
        raise ConfigurationError(problem)
    _listen_for_management(server.wsgi().management_bind)
    listener.detach()  # it is gunicorn's now
    server.run()
    return 0


def _listen_for_management(bind: str) -> None:
    """Listen there now, so that an address that cannot be had is told at once.

    Two nodes on one machine have the same default. The second one serves without the listener, and
    its workers go on trying.

    :raises OperationError: the operator wrote an address that cannot be listened on.
    """
    from mksfilter.config import MANAGEMENT_BIND
    from mksfilter.proxy.server import node

    if not bind:
        return
    try:
        shared = node.shared().management.listen(bind)
    except OperationError:
        if bind != MANAGEMENT_BIND:
            raise
    else:
        print(f"management on http://{node.listener_address(shared)}", flush=True)


def _server(args: argparse.Namespace, **settings: Any) -> EmbeddedServer[ConsoleProxy]:
    from mksfilter.proxy.app import app_factory
    from mksfilter.proxy.server.embedded import EmbeddedServer

    options = {}
    if args.graceful_timeout is not None:
        options["drain_time"] = f"{args.graceful_timeout:g}"

    def build() -> ConsoleProxy:
        return app_factory({"config_file": ",".join(args.config_file)}, **options)

    # The application is made here, so that a broken configuration is one line and not a worker's
    # traceback. Nothing but the server may hold it: after a reload it has to go.
    return EmbeddedServer({**_gunicorn_settings(args), **settings}, build)


def _rehearse(app: ConsoleProxy) -> str:
    """gunicorn has no word for a worker that cannot start."""
    from mksfilter.proxy.server import rehearsal

    return rehearsal.of_applications([app])


def _gunicorn_settings(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "worker_class": WORKER,
        "workers": args.workers,
        "certfile": args.certfile,
        "keyfile": args.keyfile,
        "accesslog": args.access_log,
        "proc_name": "mksfilter",
        "loglevel": "warning",
        # A second way into the process, of no use here. gunicorn 23 does not have it.
        "control_socket_disable": True,
    }


def _check_certificate(args: argparse.Namespace) -> None:
    if args.keyfile and not args.certfile:
        raise ConfigurationError("--keyfile without --certfile")
    for option in ("certfile", "keyfile"):
        path = getattr(args, option)
        if path and not os.access(path, os.R_OK):
            raise ConfigurationError(f"--{option} {path}: no such file, or not readable")
    if args.certfile:
        import ssl

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(args.certfile, args.keyfile)
        except (ssl.SSLError, OSError) as exc:
            raise ConfigurationError(
                f"--certfile {args.certfile}: not a certificate with its key in PEM ({exc})"
            ) from exc


def _inherited() -> socket.socket | None:
    """The listening socket of the process that this one takes over from, on SIGUSR2."""
    number = os.environ.get("GUNICORN_FD", "")
    return socket.socket(fileno=int(number)) if number.isdigit() else None


def _listen(bind: str) -> socket.socket:
    host, port = split_address(bind, "--bind")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except OSError as exc:
        raise OperationError(f"--bind {bind}: {exc.strerror or exc}") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # gunicorn listens, when workers are about to start: until then a load balancer is refused
        # and goes elsewhere, instead of waiting for this node.
        listener.bind(address)
    except OSError as exc:
        listener.close()
        raise OperationError(
            f"--bind {bind}: {exc.strerror}; another program may be listening there already"
        ) from exc
    return listener


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
