"""What a relay is told that is the same for many sessions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from mksfilter.exceptions import SessionEnded

__all__ = ["BUFFER_SIZE", "RelayOptions"]

BUFFER_SIZE: Final = 256 * 1024
"""Bytes read at once; fewer, larger system calls are what makes bulk cheap."""


@dataclasses.dataclass(frozen=True)
class RelayOptions:
    """What is the same for many sessions; share one object among them.

    :param view_only: keys, pointer and clipboard of the browser do not pass.
    :param end_message: makes the text frame that tells a page why its session ends; None for a
        client without the control channel ``mks.v1``, which never gets a text frame.
    :param answer: makes the answer to a message of the control channel's other way; None for what
        is none.
    :param rfb_handshake: of the display stream: ``full``, ``missing``, or ``auto``.
    :param stall_timeout: seconds for which a peer may refuse to read.
    :param idle_timeout: seconds without data from the browser; 0: no limit.
    :param ping_interval: seconds between pings to the browser; 0: none.
    :param upstream_ping_interval: the same towards the host.
    :param close_timeout: seconds for the closing handshake.
    """

    view_only: bool = False
    end_message: Callable[[SessionEnded], str] | None = None
    answer: Callable[[bytes], str | None] = lambda _message: None
    rfb_handshake: str = "full"
    stall_timeout: float = 60.0
    idle_timeout: float = 0.0
    ping_interval: float = 30.0
    upstream_ping_interval: float = 0.0
    close_timeout: float = 2.0
