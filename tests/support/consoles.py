"""A console opened as the proxy opens it, without gevent: TLS, the pin, WebSocket's handshake."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from mksfilter.endpoint import Endpoint
from mksfilter.tls import check_digests, ssl_context


def connected(endpoint: Endpoint) -> socket.socket:
    """A socket to the host, encrypted and checked unless the endpoint says that it is not."""
    raw = socket.create_connection((endpoint.host, endpoint.port), 5)
    if not endpoint.tls:
        return raw
    return encrypted(raw, endpoint)


def encrypted(raw: socket.socket, endpoint: Endpoint) -> socket.socket:
    """
    :raises CertificateMismatch: the host has another certificate; *raw* is closed.
    """
    tls = ssl_context(endpoint).wrap_socket(raw, server_hostname=endpoint.server_name or None)
    try:
        if endpoint.digests:
            subject = f"console host {endpoint.address} (vcenter {endpoint.vcenter})"
            check_digests(tls.getpeercert(True), endpoint.digests, subject)
    except BaseException:
        tls.close()
        raise
    return tls


@contextlib.contextmanager
def opened(endpoint: Endpoint) -> Iterator[ClientConnection]:
    """The console's WebSocket."""
    with connect(
        f"ws://{endpoint.address}{endpoint.resource}",
        sock=connected(endpoint),
        subprotocols=[Subprotocol("binary")],
        compression=None,
    ) as console:
        yield console
