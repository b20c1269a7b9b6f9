"""Consoles that people look at, of two kinds: our page's, and stock clients' that never come back.

A browser asks for a pixel twice a second, or as often as is wanted, and works while answers come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from mksfilter.simulator.viewer import PIXEL_FORMAT
from tests.support.page_client import offers
from tests.support.proofs import BrowserKey

__all__ = ["Browser", "Page", "Stock"]

# Consoles for which the page knows no way back: see docs/errors.md.
_GIVES_UP = frozenset({"revoked", "session-lifetime"})
# Whoever waits longer than this for a pixel takes the console for dead.
_ANSWERS_WITHIN = 60.0
# SetPixelFormat and SetEncodings.
_FORMAT = b"\0\0\0\0" + PIXEL_FORMAT + struct.pack("!BxHi", 2, 1, 0)
_PIXEL = struct.pack("!BBHHHH", 3, 0, 0, 0, 1, 1)


class Browser:
    """One console.

    :param address: its own, of 127.0.0.0/8: limits are per address.
    :ivar working: answers come.
    :ivar answered: when the last one came, on the monotonic clock.
    :ivar blind: seconds for which the picture stood still before the console ended, at the most.
    :ivar events: what happened, and when: ``works``, ``stopped``, ``told REASON``, and why it
        ended.
    """

    kind = ""
    #: Seconds between two looks.
    look_every = 0.5

    def __init__(
        self, port: int, context: ssl.SSLContext, address: str, token: Callable[[], str]
    ) -> None:
        self._port = port
        self._context = context
        self._address = address
        self._new_token = token
        self._task: asyncio.Task[None] | None = None
        self._socket: ClientConnection | None = None
        self.working = False
        self.answered = 0.0
        self.blind = 0.0
        self.events: deque[tuple[float, str]] = deque(maxlen=400)

    def start(self) -> None:
        """Open the link."""
        self._task = asyncio.create_task(self._live())

    async def stop(self) -> None:
        """Close the window."""
        # Once may not do: wait_for of Python 3.11 loses a cancellation that comes with the answer.
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1)
        self.working = False

    @property
    def over(self) -> bool:
        """Nobody looks any more: it has ended, and does not come back."""
        return self._task is None or self._task.done()

    async def _live(self) -> None:
        raise NotImplementedError

    def _happened(self, what: str) -> None:
        self.events.append((time.monotonic(), what))

    async def _look(self, protocols: list[str]) -> str:
        """Open a console and look at it until it ends; why it did."""
        try:
            async with connect(
                f"wss://127.0.0.1:{self._port}/websockify",
                ssl=self._context,
                subprotocols=protocols,  # type: ignore[arg-type]
                local_addr=(self._address, 0),
                compression=None,
                ping_interval=None,
                open_timeout=30,
                close_timeout=1,
                proxy=None,
            ) as self._socket:
                screen = _Screen(self._socket, self._control)
                await screen.begin()
                while True:
                    await screen.look()
                    self.answered = time.monotonic()
                    if not self.working:
                        self.working = True
                        self._happened("works")
                    await screen.wait(self.look_every)
        except ConnectionClosed as exc:
            code = exc.rcvd.code if exc.rcvd else 1006
            return f"closed {code}"
        except InvalidHandshake as exc:
            return f"refused {getattr(getattr(exc, 'response', None), 'status_code', exc)}"
        except (OSError, asyncio.TimeoutError) as exc:
            return f"lost {type(exc).__name__}"
        finally:
            self._socket = None
            if self.working:
                self.working = False
                self.blind = max(self.blind, time.monotonic() - self.answered)
                self._happened("stopped")

    def _control(self, message: dict[str, object]) -> None:
        """A message of the control channel."""


class Stock(Browser):
    """noVNC as it comes, VMware's client, a program: what ends is over."""

    kind = "stock"

    async def _live(self) -> None:
        why = await self._look(["binary", f"mks.token.{self._new_token()}"])
        self._happened(why)


class Page(Browser):
    """What our page does: it hears why, and comes back with its resume token."""

    kind = "page"

    async def _live(self) -> None:
        key, self._token, attempt = BrowserKey(), self._new_token(), 0
        while True:
            self._reason = ""
            began = time.monotonic()
            why = await self._look([str(name) for name in offers(self._token, key)])
            self._happened(f"{why} {self._reason}".strip())
            if self._reason in _GIVES_UP:
                return
            if time.monotonic() - began > 10:
                attempt = 0
            if self._reason == "moving":
                continue
            attempt += 1
            ceiling = min(15.0, 0.5 * 2 ** (attempt - 1))
            await asyncio.sleep(ceiling * (0.5 + random.random() / 2))

    def _control(self, message: dict[str, object]) -> None:
        token = message.get("resume") or message.get("token")
        if isinstance(token, str) and token:
            self._token = token
        if message.get("type") == "end":
            self._reason = str(message.get("reason"))
            self._happened(f"told {self._reason}")
        elif message.get("notice") == "draining":
            self._happened("told draining")
            limit = float(str(message.get("in") or 0))
            self._moving = asyncio.create_task(self._move(limit * (0.1 + 0.4 * random.random())))

    async def _move(self, after: float) -> None:
        leaving = self._socket
        await asyncio.sleep(after)
        if leaving is not None and leaving is self._socket:
            self._reason = "moving"
            await leaving.close()


class _Screen:
    """RFB 3.8 as far as a pixel takes it (RFC 6143 section 7)."""

    def __init__(
        self, socket: ClientConnection, control: Callable[[dict[str, object]], None]
    ) -> None:
        self._socket = socket
        self._control = control
        self._received = bytearray()

    async def begin(self) -> None:
        await self._read(12)
        await self._socket.send(b"RFB 003.008\n")
        await self._read((await self._read(1))[0])
        await self._socket.send(b"\x01")
        await self._read(4)
        await self._socket.send(b"\x01")
        head = await self._read(24)
        await self._read(struct.unpack("!I", head[20:])[0])
        await self._socket.send(_FORMAT)

    async def look(self) -> None:
        """Ask for a pixel, and get it."""
        await self._socket.send(_PIXEL)
        while True:
            (kind,) = await self._read(1)
            if kind == 0:
                break
            if kind == 3:
                await self._read(struct.unpack("!3xI", await self._read(7))[0])
        for _ in range(struct.unpack("!xH", await self._read(3))[0]):
            _x, _y, width, height, _raw = struct.unpack("!HHHHi", await self._read(12))
            await self._read(width * height * 4)

    async def wait(self, seconds: float) -> None:
        """Listen to what is said meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._receive(), left)

    async def _read(self, size: int) -> bytes:
        until = time.monotonic() + _ANSWERS_WITHIN
        while len(self._received) < size:
            await asyncio.wait_for(self._receive(), max(0.0, until - time.monotonic()))
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    async def _receive(self) -> None:
        message = await self._socket.recv()
        if isinstance(message, str):
            self._control(json.loads(message))
        else:
            self._received += message
