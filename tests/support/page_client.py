"""The console page's side of the control channel."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from mksfilter.simulator.viewer import Viewer
from tests.support.proofs import BrowserKey
from tests.support.proxy import RunningProxy

__all__ = ["KEY", "offers", "open_page", "told", "until_closed", "view_page"]


#: The key of the one browser that these tests mean unless they say otherwise.
KEY = BrowserKey()


def offers(token: str, key: BrowserKey = KEY, *, origin: str = "") -> list[Subprotocol]:
    """What our page offers beside ``binary``: with a link its key, with a resume token a proof.

    :param origin: the Origin header of the request.
    """
    payload = token.split(".")[2]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    if claims["use"] == "resume":
        proof = key.proof(origin=origin, jti=claims["jti"], time=int(time.time()))
        bound = f"mks.proof.{proof}"
    else:
        bound = f"mks.key.{key.public}"
    return [Subprotocol(name) for name in ("mks.v1", "binary", f"mks.token.{token}", bound)]


def open_page(proxy: RunningProxy, token: str, *, key: BrowserKey = KEY, **options: Any) -> connect:
    """Connect as our page does."""
    return connect(
        f"ws://127.0.0.1:{proxy.port}/websockify",
        subprotocols=offers(token, key),
        proxy=None,
        **options,
    )


def view_page(proxy: RunningProxy, token: str, *, key: BrowserKey = KEY) -> Viewer:
    """As :func:`open_page`, for a test that looks at the screen."""
    return Viewer(f"ws://127.0.0.1:{proxy.port}/websockify", subprotocols=offers(token, key))


def told(socket: ClientConnection) -> dict[str, Any]:
    """The next message of the control channel."""
    while True:
        message = socket.recv(timeout=10)
        if isinstance(message, str):
            return json.loads(message)


def until_closed(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """All that the control channel says, and the close code."""
    said = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            said.append(told(socket))
    return said, socket.close_code
