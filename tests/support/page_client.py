"""The console page's side of the control channel."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.proxy import RunningProxy

__all__ = ["open_page", "told", "until_closed"]


def open_page(proxy: RunningProxy, token: str, **options: Any) -> connect:
    """Connect as our page does."""
    return connect(
        f"ws://127.0.0.1:{proxy.port}/websockify",
        subprotocols=["mks.v1", "binary", f"mks.token.{token}"],
        proxy=None,
        **options,
    )


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
