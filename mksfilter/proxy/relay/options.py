"""What a relay is told that is the same for many sessions."""

from __future__ import annotations

import dataclasses

__all__ = ["RelayOptions"]


@dataclasses.dataclass(frozen=True)
class RelayOptions:
    """What is the same for many sessions; share one object among them.

    :param view_only: keys, pointer and clipboard of the browser do not pass.
    :param control: the browser speaks ``mks.v1``.
    :param rfb_handshake: of the display stream: ``full``, ``missing``, or ``auto``.
    :param stall_timeout: seconds for which a peer may refuse to read.
    :param idle_timeout: seconds without data from the browser; 0: no limit.
    :param ping_interval: seconds between pings to the browser; 0: none.
    :param upstream_ping_interval: the same towards the host.
    :param close_timeout: seconds for the closing handshake.
    """

    view_only: bool = False
    control: bool = False
    rfb_handshake: str = "full"
    stall_timeout: float = 60.0
    idle_timeout: float = 0.0
    ping_interval: float = 30.0
    upstream_ping_interval: float = 0.0
    close_timeout: float = 2.0
