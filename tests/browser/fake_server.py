"""A proxy of a few lines that does what a test tells it: the page's counterpart, not mksfilter's.

It serves the real page with the proxy's security headers and speaks just enough RFB 3.8 (RFC
6143) to draw, so that the page can be shown endings and notices no real console gives on demand.
"""

from __future__ import annotations

import dataclasses
import html
import json
import queue
import socket
import struct
import threading
import time
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

import mksfilter.proxy.web
from mksfilter.proxy.web.paths import PAGES

__all__ = ["HEIGHT", "LEFT", "RIGHT", "WIDTH", "Connection", "Dashboard", "FakeServer", "Plan"]

_PROXY = Path(mksfilter.proxy.web.__file__).parent
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# Wide and low, so that fitting it into a window scales it.
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT = (32, 96, 160), (240, 200, 80)


@dataclasses.dataclass
class Plan:
    """What becomes of the next connection."""

    #: HTTP status instead of the upgrade.
    refuse: HTTPStatus | None = None
    #: An ``end`` frame instead of a console: reason and message.
    end: tuple[str, str] | None = None
    #: More of that frame.
    more: dict[str, object] = dataclasses.field(default_factory=dict)
    #: What the machine waits to be told, said before that frame.
    question: str = ""
    mode: str = "full"
    #: Answer ``binary`` alone, as a proxy without the control channel would.
    plain: bool = False
    name: str = "fake server"
    #: The machine's name in the proxy's greeting.
    machine: str | None = None
    #: RFB's security type; 0 refuses, 1 is None, 2 and 6 ask for a password.
    security: int = 1
    #: Sent in place of RFB's first message.
    greeting: bytes = b"RFB 003.008\n"
    #: The screen, red, green, blue and a filler byte for each pixel; empty: two colours.
    picture: bytes = b""


class Connection:
    """One WebSocket, from the console's side."""

    def __init__(self, websocket: ServerConnection, plan: Plan, number: int) -> None:
        self.plan = plan
        self.number = number
        self.websocket = websocket
        self.offered = websocket.request.headers["Sec-WebSocket-Protocol"].split(", ")
        self.drawn = threading.Event()
        self.closed = threading.Event()
        #: (keysym, pressed) in order.
        self.keys: queue.Queue[tuple[int, bool]] = queue.Queue()
        #: (buttons, x, y) in order, as the machine's own pixels.
        self.pointers: queue.Queue[tuple[int, int, int]] = queue.Queue()
        #: Set to play a host that reads and no longer answers.
        self.mute = False
        self._received = bytearray()

    @property
    def token(self) -> str:
        return self._offered("mks.token.")

    @property
    def key(self) -> str:
        """The public key that the page offers with a link."""
        return self._offered("mks.key.")

    @property
    def proof(self) -> str:
        """The proof of possession that it sends when it comes back."""
        return self._offered("mks.proof.")

    def _offered(self, prefix: str) -> str:
        return next((o.removeprefix(prefix) for o in self.offered if o.startswith(prefix)), "")

    def control(self, **message: object) -> None:
        self.websocket.send(json.dumps(message))

    def drop(self) -> None:
        """End without a word, as a network does."""
        self.websocket.socket.shutdown(2)

    def next_keys(self, count: int) -> list[tuple[int, bool]]:
        return [self.keys.get(timeout=10) for _ in range(count)]

    def run(self) -> None:
        try:
            if not self.plan.plain:
                self._announce()
            if self.plan.end is None:
                self._speak_rfb()
        except (ConnectionClosed, OSError):
            pass
        finally:
            self.closed.set()

    def _announce(self) -> None:
        if self.plan.end is not None:
            reason, message = self.plan.end
            if self.plan.question:
                self.control(type="notice", notice="question", text=self.plan.question)
            self.control(type="end", reason=reason, message=message, **self.plan.more)
            self.websocket.close(4409)
            return
        resume = f"resume-{self.number}"
        machine = self.plan.machine
        self.control(
            type="hello",
            mode=self.plan.mode,
            resume=resume,
            expires=None,
            name=machine,
            session="c2Vzc2lvbiBvZiBhIHRlc3Q",
            request="req-9f1c7d9e-4f06-4a2b-8a63-3f0c5a2f1b11",
            node="console-1",
        )

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            message = self.websocket.recv()
            if isinstance(message, str):
                assert json.loads(message)["type"] == "beat", "the page says nothing else"
                continue
            self._received += message
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _speak_rfb(self) -> None:
        send = self.websocket.send
        send(self.plan.greeting)
        self._take(12)
        if self.plan.security == 0:
            reason = b"<i>not today</i>"
            send(struct.pack(">BI", 0, len(reason)) + reason)
            return
        send(bytes([1, self.plan.security]))
        self._take(1)
        if self.plan.security == 2:
            send(bytes(16))
            self._take(16)
            return
        send(bytes(4))
        self._take(1)
        name = self.plan.name.encode()
        pixels = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
        send(struct.pack(">HH", WIDTH, HEIGHT) + pixels + struct.pack(">I", len(name)) + name)
        while True:
            self._serve_one()

    def _serve_one(self) -> None:
        kind = self._take(1)[0]
        if kind == 0:
            self._take(19)
        elif kind == 2:
            self._take(4 * struct.unpack(">xH", self._take(3))[0])
        elif kind == 3:
            incremental = self._take(9)[0]
            if not incremental and not self.mute:
                self._draw()
        elif kind == 4:
            pressed, keysym = struct.unpack(">B2xI", self._take(7))
            self.keys.put((keysym, bool(pressed)))
        elif kind == 5:
            self.pointers.put(struct.unpack(">BHH", self._take(5)))
        elif kind == 6:
            self._take(struct.unpack(">3xI", self._take(7))[0])
        else:
            raise AssertionError(f"RFB message {kind} was not expected")

    def _draw(self) -> None:
        header = struct.pack(">BxHHHHHi", 0, 1, 0, 0, WIDTH, HEIGHT, 0)
        # noVNC asks for red, green, blue and a filler byte, in this order.
        line = bytes([*LEFT, 0]) * (WIDTH // 2) + bytes([*RIGHT, 0]) * (WIDTH // 2)
        self.websocket.send(header + (self.plan.picture or line * HEIGHT))
        self.drawn.set()


class Dashboard:
    """A site of another origin, as Horizon is; ``localhost`` is not the site of 127.0.0.1."""

    def __init__(self) -> None:
        self._page, self._policy = b"", ""
        dashboard = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(dashboard._page)))
                self.send_header("Content-Security-Policy", dashboard._policy)
                self.end_headers()
                self.wfile.write(dashboard._page)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        port = self._server.server_address[1]
        # A browser asks ::1 first: nobody is to listen at that port there.
        self._other = socket.socket(socket.AF_INET6)
        self._other.bind(("::1", port))
        self.origin = f"http://localhost:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def frame(self, url: str) -> str:
        """The URL of a page with *url* in a frame."""
        source = html.escape(url)
        return self.show(
            "<!DOCTYPE html><link rel=icon href=data:,><title>Dashboard</title>"
            f"<iframe width=900 height=600 src='{source}'></iframe>"
        )

    def show(self, page: str, policy: str = "") -> str:
        """The URL of *page*, under a Content-Security-Policy."""
        self._page, self._policy = page.encode(), policy
        return self.origin

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._other.close()
        self._thread.join(5)


class FakeServer:
    """The page on ``url``; ``plans`` holds the fate of coming connections, then consoles."""

    def __init__(self, *, frame_ancestors: str = "'none'", path: str = "/") -> None:
        self.plans: list[Plan] = []
        self.connections: queue.Queue[Connection] = queue.Queue()
        self.frame_ancestors = frame_ancestors
        #: The page's files, and by name those of another release's or, with None, of none.
        self.root = _PROXY
        self.others: dict[str, Path | None] = {}
        #: How often the page itself was asked for.
        self.pages = 0
        self._path = path
        #: Everything is answered 503, to play a server that is gone.
        self.down = False
        #: The page's script is answered when this is set, and with this status.
        self.script = threading.Event()
        self.script.set()
        self.script_status = HTTPStatus.OK
        #: No upgrade comes through, to play a proxy on the way that knows no WebSockets.
        self.blocks = False
        #: What the page is told that asks whether its token is good.
        self.judgement = HTTPStatus.NO_CONTENT
        #: Seconds by which this server's clock is ahead.
        self.ahead = 0.0
        self._count = 0
        self._server = serve(
            self._handle,
            "127.0.0.1",
            0,
            subprotocols=["mks.v1", "binary"],
            select_subprotocol=self._select,
            process_request=self._answer,
            compression=None,
        )
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self._path}"

    def next_connection(self) -> Connection:
        return self.connections.get(timeout=20)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)

    def _plan(self) -> Plan:
        return self.plans[0] if self.plans else Plan()

    def _select(self, _: ServerConnection, offered: object) -> str:
        assert list(offered)[:2] == ["mks.v1", "binary"]
        return "binary" if self._plan().plain else "mks.v1"

    def _handle(self, websocket: ServerConnection) -> None:
        plan = self.plans.pop(0) if self.plans else Plan()
        self._count += 1
        connection = Connection(websocket, plan, self._count)
        self.connections.put(connection)
        connection.run()

    def _answer(self, _: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if self.down or not path.startswith(self._path):
            return self._response(HTTPStatus.SERVICE_UNAVAILABLE)
        path = "/" + path.removeprefix(self._path)
        if path == "/websockify":
            if "Mks-Token" in request.headers:
                return self._response(self.judgement)
            if self.blocks:
                return self._response(HTTPStatus.BAD_REQUEST)
            refuse = self._plan().refuse
            if refuse is None:
                return None
            self.plans.pop(0)
            self.judgement = refuse
            return self._response(refuse)
        if path in PAGES:
            self.pages += 1
            body = (self.root / "templates" / "console.html").read_bytes()
            return self._response(HTTPStatus.OK, body, "text/html; charset=utf-8")
        root = self.others.get(path.rpartition("/")[2], self.root)
        if root is None:
            return self._response(HTTPStatus.NOT_FOUND)
        file = root / path.lstrip("/")
        if file.name == "console.js":
            self.script.wait(20)
            if self.script_status != HTTPStatus.OK:
                return self._response(self.script_status)
        if path.startswith("/static/") and file.is_file():
            return self._response(HTTPStatus.OK, file.read_bytes(), _TYPES[file.suffix])
        return self._response(HTTPStatus.NOT_FOUND)

    def _response(
        self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain"
    ) -> Response:
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
            f"connect-src 'self'; frame-ancestors {self.frame_ancestors}"
        )
        headers = Headers(
            {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Content-Security-Policy": policy,
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
                "Connection": "close",
                "Date": formatdate(time.time() + self.ahead, usegmt=True),
            }
        )
        return Response(status.value, status.phrase, headers, body)
