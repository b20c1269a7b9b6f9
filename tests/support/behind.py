"""A console through what stands in front of the proxies, over TLS."""

from __future__ import annotations

import ssl

from mksfilter.simulator.viewer import Viewer

__all__ = ["viewer_at"]


def viewer_at(port: int, token: str, context: ssl.SSLContext, *, prefix: str = "/") -> Viewer:
    """The console of *token*, as a browser at the balancer's own origin opens it."""
    return Viewer(
        f"wss://127.0.0.1:{port}{prefix}websockify?token={token}",
        origin=f"https://127.0.0.1:{port}",
        ssl_context=context,
    )
