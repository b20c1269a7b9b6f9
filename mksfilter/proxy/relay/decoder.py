"""The browser's frames, decoded: for byte-stream consoles, played handshakes and viewers.

What passes through as bytes never comes here. What does is few and small: keys, pointer, requests.
The relay's tracker has judged every frame and taken control frames out before.
"""

from __future__ import annotations

from websockets.frames import Frame
from websockets.protocol import OPEN, Protocol, Side

from mksfilter.exceptions import MessageTooBig, RFBViolation
from mksfilter.proxy.relay.frames import BINARY, first_payload, frame
from mksfilter.proxy.relay.rfb import (
    GREETING,
    HOST_START,
    PlayedHandshake,
    ViewOnlyFilter,
    is_greeting,
)

__all__ = ["ClientDecoder"]

_MAX_MESSAGE = 1 << 20
_MAX_EARLY = 4096


class ClientDecoder:
    """What the browser says, as the console host is to hear it.

    :param framed: whether the host takes WebSocket messages; bytes otherwise.
    :param view_only: keys, pointer and clipboard do not pass.
    :param handshake: whether the display stream starts with RFB's handshake: ``full``, ``missing``
        (it is played to the browser), or ``auto`` (its first bytes tell).
    """

    __slots__ = (
        "_early",
        "_filter",
        "_framed",
        "_heard",
        "_played",
        "_protocol",
        "_view_only",
        "undecided",
    )

    def __init__(self, *, framed: bool, view_only: bool, handshake: str) -> None:
        self._protocol = Protocol(Side.SERVER, state=OPEN, max_size=_MAX_MESSAGE)
        self._framed = framed
        self._view_only = view_only
        self._played: PlayedHandshake | None = None
        self._filter: ViewOnlyFilter | None = None
        self._early = b""
        self._heard = b""
        self.undecided = handshake == "auto"
        if handshake == "full":
            self._settle(played=False)

    @property
    def playing(self) -> bool:
        """Whether the browser is still busy with a handshake that the host knows nothing of."""
        return self._played is not None and not self._played.done

    @property
    def listens(self) -> bool:
        """Whether it has to hear what the host says, to read the browser rightly."""
        if self._filter is None:
            return self._view_only and self.undecided
        return self._filter.listens

    def hear(self, data: bytes) -> None:
        """Take data frames (or bytes) of the host while it listens; :meth:`feed` goes on from
        there."""
        self._heard += data[: _MAX_EARLY - len(self._heard)]
        if self._filter is not None:
            self._filter.hear(self._start())

    def _start(self) -> bytes:
        return first_payload(self._heard, HOST_START) if self._framed else self._heard[:HOST_START]

    def decide(self, start: bytes) -> list[bytes] | None:
        """Look at the first bytes of the display stream.

        :returns: messages to the browser, now that it is decided; None while it is not.
        """
        full = is_greeting(start)
        return None if full is None else self.play(missing=not full)

    def play(self, *, missing: bool) -> list[bytes]:
        """Settle whether the handshake is played; returns the messages that begin it."""
        self._settle(played=missing)
        return [GREETING] if missing else []

    def _settle(self, *, played: bool) -> None:
        self.undecided = False
        self._played = PlayedHandshake() if played else None
        self._filter = ViewOnlyFilter(handshake=not played) if self._view_only else None
        if self._filter is not None and self._filter.listens:
            self._filter.hear(self._start())

    def feed(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        """Take whole or partial data frames of the browser, masks and all.

        :returns: what goes to the host, ready for its wire, and messages to the browser.
        :raises RFBViolation: what was said must not be said; MessageTooBig when a message is longer
            than 1 MiB.
        :raises UpstreamViolation: the host is one whose browser cannot be read.
        """
        self._protocol.receive_data(data)
        if self._protocol.parser_exc is not None:
            raise MessageTooBig(f"message of more than {_MAX_MESSAGE} bytes")
        payload = b"".join(
            bytes(event.data)
            for event in self._protocol.events_received()
            if isinstance(event, Frame)
        )
        return self._take(payload)

    def _take(self, payload: bytes) -> tuple[list[bytes], list[bytes]]:
        payload = self._early + payload
        if self.undecided:
            # Servers speak first in RFB; a client that does not wait is heard later, to a point.
            if len(payload) > _MAX_EARLY:
                raise RFBViolation("the client speaks before the server")
            self._early = payload
            return [], []
        self._early = b""
        answers: list[bytes] = []
        if self.playing and self._played is not None:
            answers, payload = self._played.feed(payload)
        if self._filter is not None:
            messages = self._filter.feed(payload)
            if not self._filter.listens:
                self._heard = b""
        else:
            messages = [payload] if payload else []
        if self._framed:
            messages = [frame(BINARY, message, masked=True) for message in messages]
        return messages, answers
