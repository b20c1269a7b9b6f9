"""Thousands of browsers in one loop of epoll: each a socket and a few fields, no greenlet.

They behave as the console page does: ``mks.v1`` with the token as a subprotocol, pings answered,
control messages read, a close frame at the end.
"""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator

from benchmarks.console_host import ECHO_ANSWER, ECHO_REQUEST

__all__ = ["IdleClients", "first_frame"]

_CLOSE = b"\x88\x80\x00\x00\x00\x00"
# Far fewer ports than there are ephemeral ones, whatever else this machine does.
_PER_ADDRESS = 5000
_CONNECTING, _OPENING, _OPEN, _CLOSING, _GONE = range(5)


class _Browser:
    __slots__ = ("received", "sent", "sock", "state")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.state = _CONNECTING
        self.received = b""
        self.sent = 0.0  # when the key was pressed whose echo is not back yet


class IdleClients:
    """Browsers that open sessions, wait, type, and leave.

    :param port: of the proxy, on 127.0.0.1.
    :param tick: called about every *interval* seconds, whatever the clients is doing.
    :ivar opened: sessions whose first echo came back.
    :ivar lost: why sessions ended, or never began, that should have lasted.
    :ivar pressed: keys pressed; ``echoed``: answered ones.
    :ivar skipped: keys not pressed because the one before was not answered yet.
    :ivar pings: pings answered; ``messages``: of the control channel.
    :ivar times: seconds from key to echo, of those since :meth:`take_times`.
    """

    def __init__(self, port: int, tick: Callable[[], object], interval: float) -> None:
        self.opened = self.pressed = self.echoed = self.skipped = self.pings = self.messages = 0
        self.lost: Counter[str] = Counter()
        self.times = array("d")
        self._port = port
        self._tick = tick
        self._interval = interval
        self._next_tick = time.monotonic() + interval
        self._poll = select.epoll()
        self._browsers: dict[int, _Browser] = {}
        self._opening = 0
        self._connected = 0

    @property
    def sessions(self) -> int:
        """Browsers with a session, or about to have one."""
        return len(self._browsers)

    def take_times(self) -> array[float]:
        """:attr:`times`, which then begin anew."""
        times, self.times = self.times, array("d")
        return times

    def open(self, tokens: Iterator[str], *, rate: float, at_once: int) -> float:
        """A session for each token, at *rate* a second or as the proxy can.

        :param at_once: sessions that may be on their way at the same time.
        :returns: seconds until the last one's first echo.
        """
        began = due = time.monotonic()
        waiting = True
        while waiting or self._opening:
            now = time.monotonic()
            while waiting and due <= now and self._opening < at_once:
                token = next(tokens, None)
                if token is None:
                    waiting = False
                    break
                self._connect(token)
                due = max(due + 1 / rate, now - 0.1)
            self._serve(min(0.05, max(0.001, due - now)) if waiting else 0.05)
        return time.monotonic() - began

    def wait(self, seconds: float) -> None:
        """Do nothing but answer."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._serve(left)

    def type(self, count: int, *, rate: float, seconds: float) -> None:
        """Let *count* of the browsers press keys at *rate*, spread over all of them."""
        everybody = list(self._browsers.values())
        typists = everybody[:: max(1, len(everybody) // count)][:count]
        now = time.monotonic()
        end = now + seconds
        due = deque((now + number / len(typists) / rate, b) for number, b in enumerate(typists))
        while now < end:
            while due[0][0] <= now:
                at, browser = due.popleft()
                self._press(browser)
                # Whoever comes late does not press the keys in between all at once.
                due.append((max(at + 1 / rate, now), browser))
            self._serve(max(0.001, due[0][0] - now))
            now = time.monotonic()
        self._until(lambda: not any(browser.sent for browser in typists), 10)

    def touch(self, *, rate: float) -> None:
        """One key for everybody: whose session is gone without a word finds out now."""
        everybody = list(self._browsers.values())
        began = time.monotonic()
        for number, browser in enumerate(everybody):
            self._press(browser)
            self._serve(max(0.0, began + number / rate - time.monotonic()))
        self._until(lambda: not any(browser.sent for browser in everybody), 20)

    def leave(self, *, rate: float) -> None:
        """Everybody closes the page."""
        began = time.monotonic()
        for number, browser in enumerate(list(self._browsers.values())):
            if browser.state == _OPEN:
                browser.state = _CLOSING
                self._send(browser, _CLOSE)
            self._serve(max(0.0, began + number / rate - time.monotonic()))
        self._until(lambda: not self._browsers, 20)
        for browser in list(self._browsers.values()):
            self._forget(browser, "close frame not answered")

    # -- one browser -----------------------------------------------------------------------

    def _connect(self, token: str) -> None:
        source = f"127.0.0.{1 + self._connected // _PER_ADDRESS % 200}"
        self._connected += 1
        try:
            sock = socket.create_connection(("127.0.0.1", self._port), 30, (source, 0))
        except OSError as exc:
            self.lost[f"not connected: {exc.strerror or exc}"] += 1
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        browser = _Browser(sock)
        self._browsers[sock.fileno()] = browser
        self._opening += 1
        self._poll.register(sock.fileno(), select.EPOLLIN)
        request = (
            f"GET /websockify HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: mks.v1, binary, mks.token.{token}\r\n\r\n"
        )
        self._send(browser, request.encode())

    def _press(self, browser: _Browser) -> None:
        if browser.state != _OPEN:
            return
        if browser.sent:
            self.skipped += 1
            return
        self.pressed += 1
        browser.sent = time.perf_counter()
        self._send(browser, ECHO_REQUEST)

    def _send(self, browser: _Browser, data: bytes) -> None:
        try:
            browser.sock.send(data)
        except OSError as exc:
            self._forget(browser, f"send: {exc.strerror or exc}")

    def _forget(self, browser: _Browser, why: str = "") -> None:
        if browser.state == _GONE:
            return
        if browser.state in (_CONNECTING, _OPENING):
            self._opening -= 1
        browser.state = _GONE
        browser.sent = 0.0
        if why:
            self.lost[why] += 1
        del self._browsers[browser.sock.fileno()]
        browser.sock.close()

    def _receive(self, browser: _Browser) -> None:
        try:
            data = browser.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as exc:
            self._forget(browser, f"receive: {exc.strerror or exc}")
            return
        if data == ECHO_ANSWER and browser.sent and not browser.received:
            self._echo(browser)
        elif not data:
            # After the close frames this is how it has to end.
            self._forget(browser, "" if browser.state == _CLOSING else "cut off")
        else:
            browser.received += data
            self._read(browser)

    def _read(self, browser: _Browser) -> None:
        if browser.state == _CONNECTING:
            head, end, rest = browser.received.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:16]:
                self._forget(browser, head.partition(b"\r\n")[0].decode("latin-1"))
                return
            browser.state, browser.received = _OPENING, rest
            self.pressed += 1
            browser.sent = time.perf_counter()
            self._send(browser, ECHO_REQUEST)
        while (frame := first_frame(browser.received)) is not None and browser.state != _GONE:
            opcode, payload, size = frame
            browser.received = browser.received[size:]
            if opcode == 2:
                self._echo(browser)
            elif opcode == 9:
                self.pings += 1
                self._send(browser, b"\x8a" + bytes([0x80 | len(payload), 0, 0, 0, 0]) + payload)
            elif opcode == 8 and browser.state != _CLOSING:
                self._forget(browser, f"closed: {payload[2:].decode('utf-8', 'replace')}")
            elif opcode == 1:
                self.messages += 1

    def _echo(self, browser: _Browser) -> None:
        if not browser.sent:
            self._forget(browser, "data nobody asked for")
            return
        if browser.state == _OPENING:
            browser.state = _OPEN
            self._opening -= 1
            self.opened += 1
        else:
            self.times.append(time.perf_counter() - browser.sent)
        browser.sent = 0.0
        self.echoed += 1

    # -- all of them -----------------------------------------------------------------------

    def _serve(self, timeout: float) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick()
            self._next_tick = time.monotonic() + self._interval
        for fd, _ in self._poll.poll(min(timeout, self._interval), 4096):
            browser = self._browsers.get(fd)
            if browser is not None:
                self._receive(browser)

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            self._serve(0.05)


def first_frame(data: bytes) -> tuple[int, bytes, int] | None:
    """Opcode, payload and size of the whole frame at the start of *data*, if one is there."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    if len(data) < start + size:
        return None
    return data[0] & 15, data[start : start + size], start + size
