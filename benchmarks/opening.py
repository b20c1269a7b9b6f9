"""The parts of opening a console, each to be repeated alone: what is counted of them.

:func:`surroundings` starts what the parts talk to, in processes of its own; a part is then built
from the description that it returns, in the process that is counted. gevent is patched in there, as
in a worker.
"""

from __future__ import annotations

import contextlib
import importlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers import Host
from mksfilter.auth.keys import KeyRepository
from mksfilter.simulator.client import WEB_1
from mksfilter.simulator.client import start as simulated_vsphere

__all__ = ["PARTS", "import_parts", "surroundings"]

Work = Callable[[], object]
Preparation = Callable[[dict[str, Any]], Work]


@contextlib.contextmanager
def surroundings(directory: Path) -> Iterator[dict[str, Any]]:
    """A console host and a vCenter; where they are, as JSON takes it."""
    host = Host(directory)
    try:
        with simulated_vsphere() as vsphere:
            vcenter = vsphere.vcenter_settings()
            keys = directory / "keys"
            if not keys.exists():
                KeyRepository(str(keys)).setup()
            yield {
                "keys": str(keys),
                "ports": host.ports,
                "certificate": str(host.certificate),
                "vcenter": {
                    name: getattr(vcenter, name)
                    for name in ("name", "host", "port", "username", "password", "ca_file")
                },
            }
    finally:
        host.stop()


def _token(where: dict[str, Any]) -> Work:
    """A connect token, checked."""
    from mksfilter.auth.token import TokenCodec
    from mksfilter.request import ConsoleRequest

    repository = KeyRepository(where["keys"])
    codec = TokenCodec(repository, "benchmarks")
    token = codec.issue(ConsoleRequest(WEB_1, "d0" * 16, "0e" * 16, mode="full"), ttl=86400).token
    return lambda: codec.verify(token)


def _vcenter(where: dict[str, Any]) -> Work:
    """A ticket for a VM that is known, on a connection that is kept."""
    from mksfilter.backends.resolver import Consoles
    from mksfilter.config import VCenterSettings

    consoles = Consoles([VCenterSettings(**where["vcenter"])])
    return lambda: consoles.connect(WEB_1)


def _tls(port: str, *, resume: bool = False, whole: bool = False) -> Preparation:
    """TCP and a TLS handshake with the console host; the *whole* way has the WebSocket's too.

    :param resume: with the session of the handshake before, where the host gives one.
    """

    def prepare(where: dict[str, Any]) -> Work:
        import gevent.socket

        from mksfilter.endpoint import CertificateDigest, Endpoint
        from mksfilter.proxy.upstream import tls, websocket
        from mksfilter.proxy.upstream.groups import Groups

        pem = Path(where["certificate"]).read_text()
        der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :])
        endpoint = Endpoint(
            kind="websocket",
            host="127.0.0.1",
            port=where["ports"][port],
            resource="/echo",
            tls=True,
            digests=(CertificateDigest.of(der),),
            rfb_handshake="full",
        )

        groups = Groups()
        offered = groups.offered_to(endpoint)

        def connect() -> None:
            with gevent.socket.create_connection((endpoint.host, endpoint.port)) as sock:
                if whole:
                    websocket.open_console(sock, endpoint, "host", groups)
                else:
                    tls.handshake(
                        sock, endpoint, "host", endpoint.digests, groups=offered, resume=resume
                    )

        if resume:
            with gevent.socket.create_connection((endpoint.host, endpoint.port)) as sock:
                websocket.open_console(sock, endpoint, "host", groups)  # it remembers the session
        return connect

    return prepare


def import_parts() -> None:
    """Import what the parts do, ahead of them; gevent has been patched in."""
    importlib.import_module("mksfilter.auth.token")
    importlib.import_module("mksfilter.backends.resolver")
    importlib.import_module("mksfilter.proxy.upstream.websocket")


#: How each is prepared, by name, in the order of an opening.
PARTS: dict[str, Preparation] = {
    "token": _token,
    "vCenter": _vcenter,
    "TLS 1.2 full": _tls("tls12"),
    "TLS 1.2 resumed": _tls("tls12", resume=True),
    "TLS 1.3 full": _tls("tls"),
    "TLS 1.3 resumed": _tls("tls", resume=True),
    "TLS 1.3 resumed, WebSocket": _tls("tls", resume=True, whole=True),
}
