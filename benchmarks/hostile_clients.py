"""The hostile side of :mod:`benchmarks.hostile`.

``python -m benchmarks.hostile_clients '{"port": ...}'``.

Opens connections at a steady rate, each of a kind that some attacker or broken client really is,
and prints one JSON object a second: what it did, what it was answered, and what the proxy's
memory is.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.processes import pss, rss

__all__ = ["KINDS", "Attacker", "Front"]

#: Seconds after which a connection is given up by us, if the proxy has not closed it before.
_PATIENCE = 15.0
_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(32) + bytes.fromhex("20") + bytes(150)

#: What a connection says, step by step; between two steps it waits a second. None: it resets.
_Script = Iterator["bytes | None"]


class Attacker:
    """Makes scripts.

    :param token: one that the proxy accepts: some attackers are customers.
    :param off: one for a machine that is powered off.
    """

    def __init__(self, port: int, token: str, off: str) -> None:
        self._host = f"127.0.0.1:{port}".encode()
        self._token = token.encode()
        self._off = off.encode()
        self._random = random.Random(6)

    def _upgrade(self, token: bytes, *lines: bytes) -> bytes:
        head = [
            b"GET /websockify?token=" + token + b" HTTP/1.1",
            b"Host: " + self._host,
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Protocol: binary",
            b"Sec-WebSocket-Key: " + _KEY,
            *lines,
        ]
        return b"\r\n".join(head) + b"\r\n\r\n"

    def _junk(self, size: int) -> bytes:
        return self._random.randbytes(size)

    # Without a token

    def silence(self) -> _Script:
        yield b""

    def half_a_request(self) -> _Script:
        yield self._upgrade(self._token)[:-20]

    def slow_request(self) -> _Script:
        for byte in self._upgrade(self._token):
            yield bytes([byte])

    def garbage(self) -> _Script:
        yield self._junk(2000)

    def garbage_like_http(self) -> _Script:
        yield b"GET /" + self._junk(200) + b"\r\n\r\n"

    def tls_hello(self) -> _Script:
        yield _HELLO + self._junk(100)

    def bad_token(self) -> _Script:
        forged = self._token[:-6] + b"AAAAAA"
        yield self._upgrade(self._random.choice([forged, b"mks1.x", b"", b"A" * 4000]))

    def bad_token_for_the_page(self) -> _Script:
        yield b"GET /?token=" + self._token[:-1] + b" HTTP/1.1\r\nHost: " + self._host + b"\r\n\r\n"

    def foreign_origin(self) -> _Script:
        yield self._upgrade(
            self._token, b"Origin: https://evil%d.net" % self._random.randrange(9**9)
        )

    def endless_request_line(self) -> _Script:
        yield b"GET /" + b"a" * 65536

    def endless_head(self) -> _Script:
        yield b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X-Y: z\r\n" * 10000

    def smuggling(self) -> _Script:
        yield (
            b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
            b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
        )

    def reset(self) -> _Script:
        yield self._upgrade(self._token)[:100]
        yield None

    # With one

    def unmasked_frames(self) -> _Script:
        yield self._upgrade(self._token)
        yield b"\x82\x05hello" * 100

    def ping_flood(self) -> _Script:
        yield self._upgrade(self._token)
        for _ in range(8):
            yield (b"\x89\xfd" + bytes(4) + b"x" * 125) * 2000

    def huge_length(self) -> _Script:
        yield self._upgrade(self._token)
        length = self._random.choice([1 << 62, 1 << 63, (1 << 64) - 1])
        yield b"\x82\xff" + struct.pack("!Q", length) + bytes(4) + b"x" * 60000

    def machine_without_console(self) -> _Script:
        yield self._upgrade(self._off)

    def early_frames(self) -> _Script:
        yield self._upgrade(self._token) + b"\x82\x8c" + bytes(4) + b"RFB 003.008\n"

    def never_reads(self) -> _Script:
        yield self._upgrade(self._token)
        for _ in range(8):
            yield (b"\x82\xfe\x7d\x00" + bytes(4) + bytes(32000)) * 8


_STRANGERS = [
    "silence",
    "half_a_request",
    "slow_request",
    "garbage",
    "garbage_like_http",
    "tls_hello",
    "bad_token",
    "bad_token_for_the_page",
    "foreign_origin",
    "endless_request_line",
    "endless_head",
    "smuggling",
    "reset",
]
_CUSTOMERS = [
    "unmasked_frames",
    "ping_flood",
    "huge_length",
    "early_frames",
    "never_reads",
    "machine_without_console",
]
#: Nine of ten have no token.
KINDS = [*_STRANGERS * 9, *(_CUSTOMERS * 13)[: len(_STRANGERS)]]


class _Attack:
    """One connection."""

    def __init__(self, kind: str, script: _Script, port: int, source: str) -> None:
        self.kind = kind
        self.script = script
        self.unsent = b""
        self.next_step = 0.0
        self.ends = time.monotonic() + _PATIENCE
        self.answer = b""
        self.reads = True
        self.stops_reading = kind in ("ping_flood", "never_reads")
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.bind((source, 0))
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(("127.0.0.1", port))


class Front:
    """All attacks at once."""

    def __init__(
        self, attacker: Attacker, port: int, rate: float, pids: list[int], kinds: list[str]
    ) -> None:
        self._port = port
        self._kinds = kinds or KINDS
        self._attacker = attacker
        self._interval = 1 / rate
        self._pids = pids
        self._random = random.Random(9)
        self._poll = select.epoll()
        self._open: dict[int, _Attack] = {}
        self._outcomes: collections.Counter[str] = collections.Counter()
        self._started = 0

    def run(self, seconds: float) -> None:
        """Attack for so long, then wait until the last connection is over."""
        begun = time.monotonic()
        due, told = begun, begun
        while True:
            now = time.monotonic()
            attacking = now - begun < seconds
            while attacking and due <= now:
                self._start()
                due += self._interval
            self._act(now)
            if now - told >= 1.0:
                told = now
                self._tell()
            if not attacking and not self._open:
                self._tell()
                return

    def _start(self) -> None:
        kind = self._random.choice(self._kinds)
        script: Callable[[], _Script] = getattr(self._attacker, kind)
        # Addresses of this machine: nobody is stopped by a limit on one address alone.
        source = f"127.66.{self._random.randrange(256)}.{self._random.randrange(1, 255)}"
        self._started += 1
        try:
            attack = _Attack(kind, script(), self._port, source)
        except OSError as exc:
            self._outcomes[f"not connected: {exc.strerror}"] += 1
            return
        self._open[attack.sock.fileno()] = attack
        self._poll.register(attack.sock.fileno(), select.EPOLLOUT | select.EPOLLIN)

    def _act(self, now: float) -> None:
        for fd, events in self._poll.poll(0.01):
            attack = self._open[fd]
            try:
                if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and attack.reads:
                    data = attack.sock.recv(65536)
                    if not data:
                        self._end(attack, "closed")
                        continue
                    attack.answer = attack.answer or data[:12]
                    attack.reads = not attack.stops_reading
                    attack.next_step = now
                elif events & (select.EPOLLHUP | select.EPOLLERR):
                    self._end(attack, "closed")
                    continue
                if events & select.EPOLLOUT:
                    self._say(attack, now)
            except BlockingIOError:
                pass
            except OSError:
                self._end(attack, "reset")
        for attack in list(self._open.values()):
            if now >= attack.ends:
                self._end(attack, "given up by the client")
            elif attack.next_step and now >= attack.next_step:
                attack.next_step = 0.0
                self._poll.modify(attack.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _say(self, attack: _Attack, now: float) -> None:
        if not attack.unsent:
            step = next(attack.script, b"")
            if step is None:
                attack.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._end(attack, "reset by the client")
                return
            attack.unsent = step
        if attack.unsent:
            attack.unsent = attack.unsent[attack.sock.send(attack.unsent) :]
        if not attack.unsent:
            # A customer goes on when there is a console, a stranger a second later.
            waits = attack.kind in _CUSTOMERS and not attack.answer
            attack.next_step = 0.0 if waits else now + 1.0
            self._poll.modify(attack.sock.fileno(), select.EPOLLIN if attack.reads else 0)

    def _end(self, attack: _Attack, how: str) -> None:
        status = attack.answer[9:12].decode("latin-1") if attack.answer[:5] == b"HTTP/" else ""
        self._outcomes[f"{attack.kind}: {status + ', ' if status else ''}{how}"] += 1
        del self._open[attack.sock.fileno()]
        self._poll.unregister(attack.sock.fileno())
        attack.sock.close()

    def _tell(self) -> None:
        said = {
            "started": self._started,
            "open": len(self._open),
            "pss_kb": pss(self._pids),
            "rss_kb": rss(self._pids),
            "outcomes": self._outcomes,
        }
        print(json.dumps(said), flush=True)


def main() -> None:
    order = json.loads(sys.argv[1])
    os.nice(order.get("nice", 0))
    attacker = Attacker(order["port"], order["token"], order["off"])
    Front(attacker, order["port"], order["rate"], order["pids"], order["kinds"]).run(
        order["seconds"]
    )


if __name__ == "__main__":
    main()
