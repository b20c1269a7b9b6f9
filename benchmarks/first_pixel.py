"""``python -m benchmarks.first_pixel``: from the request of the page to the first picture.

Chromium opens a console through a TCP relay that delays: ours (a proxy with one worker, a simulated
vCenter that is asked for a ticket, a host with TLS), and stock noVNC on websockify before a plain
RFB server, which has neither. Each opening has a browser profile of its own: nothing is cached. The
peers take turns; figures are medians.

The relay knows round trips, not bandwidth: a connection costs one, and bytes take half of one each
way. TCP's slow start is the loopback's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, TimeoutError, sync_playwright

from benchmarks.peers import Host, TicketPeer, websockify
from benchmarks.processes import spawn, stop, wait_for_port
from mksfilter.simulator.screen import rfb
from tests.support.ports import free_port

__all__ = ["DelayingRelay", "main", "measure"]

ROOT = Path(__file__).resolve().parents[1]
NOVNC = ROOT / "page" / "node_modules" / "@novnc" / "novnc"
DEBIAN = Path("/usr/share/novnc")
DELAYS = (0, 20, 80)
GOAL = 400
_WIDTH, _HEIGHT = 720, 400
# What its own vnc_lite.html does, without buttons.
_STOCK_PAGE = """<!DOCTYPE html><html><head><title>noVNC</title><link rel="icon" href="data:,">
<script type="module">import RFB from "./core/rfb.js";
new RFB(document.body, `ws://${location.host}/websockify`).scaleViewport = true;</script>
</head><body></body></html>"""
# The canvas that is seen gets its first content that is not one colour. What happened when is told
# in milliseconds since the navigation began.
_WATCH = """
window.timeline = {};
const note = (name) => { window.timeline[name] ??= performance.now(); };
const draw = CanvasRenderingContext2D.prototype.drawImage;
const look = CanvasRenderingContext2D.prototype.getImageData;
CanvasRenderingContext2D.prototype.drawImage = function (...args) {
    draw.apply(this, args);
    const { canvas } = this;
    if (!canvas.isConnected || window.timeline.picture || canvas.width < 100) return;
    const when = performance.now();
    const shown = new Uint32Array(look.call(this, 0, 0, canvas.width, canvas.height).data.buffer);
    if (shown.some((pixel) => pixel !== shown[0])) window.timeline.picture = when;
};
window.WebSocket = new Proxy(window.WebSocket, {
    construct(target, args) {
        note("socket");
        const socket = Reflect.construct(target, args);
        socket.addEventListener("open", () => note("open"));
        return socket;
    },
});
"""


class DelayingRelay:
    """Relays TCP to a port of this machine, in a thread of its own.

    :param delay: seconds of a round trip.
    """

    def __init__(self, target: int, delay: float) -> None:
        self._target, self._delay = target, delay
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = listener.getsockname()[1]
        # Playwright has a loop of its own in this thread.
        threading.Thread(target=asyncio.run, args=(self._serve(listener),), daemon=True).start()

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._accept, sock=listener, limit=1 << 22)
        await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Loopback has accepted at once what would have taken a round trip.
        start = time.monotonic() + self._delay
        to_reader, to_writer = await asyncio.open_connection(
            "127.0.0.1", self._target, limit=1 << 22
        )
        await asyncio.gather(
            self._pump(reader, to_writer, start), self._pump(to_reader, writer, 0.0)
        )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: float
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def read() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(65536)
                except OSError:
                    data = b""
                await queue.put((max(time.monotonic(), start) + self._delay / 2, data))

        task = asyncio.create_task(read())
        with contextlib.suppress(OSError):
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        task.cancel()
        with contextlib.suppress(OSError):
            writer.close()


class _Screen:
    """A VNC server with one picture, for websockify."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._speak, args=(client,), daemon=True).start()

    def _speak(self, sock: socket.socket) -> None:
        reader = rfb.RFBReader()
        line = bytes(4 * (_WIDTH // 2)) + b"\xff" * 4 * (_WIDTH // 2)
        area = rfb.Rectangle(0, 0, _WIDTH, _HEIGHT)
        picture = rfb.update_header(1) + rfb.raw_rectangle(area, line * _HEIGHT)
        with sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(rfb.VERSION)
            while data := sock.recv(65536):
                was_ready = reader.ready
                events = reader.feed(data)
                sock.sendall(b"".join(reader.replies))
                reader.replies.clear()
                if reader.ready and not was_ready:
                    sock.sendall(rfb.server_init(_WIDTH, _HEIGHT, "stock", rfb.PixelFormat()))
                for event in events:
                    if isinstance(event, rfb.UpdateRequest) and not event.incremental:
                        sock.sendall(picture)


@contextlib.contextmanager
def _ours(directory: Path) -> Iterator[tuple[int, Callable[[], str]]]:
    """A proxy; its port, and what makes a console link of a port."""
    host = Host(directory)
    try:
        with TicketPeer.running(host, directory) as peer:
            yield peer.port, lambda: f"/?{peer.target('')['path'].partition('?')[2]}"
    finally:
        host.stop()


@contextlib.contextmanager
def _stock(directory: Path, root: Path, page: str) -> Iterator[tuple[int, Callable[[], str]]]:
    """websockify that serves *root*."""
    screen, port = _Screen(), free_port()
    program = websockify(ROOT / "var" / "benchmarks" / "websockify")
    log = directory / "websockify.log"
    addresses = [f"127.0.0.1:{each}" for each in (port, screen.port)]
    process = spawn([str(program), "--web", str(root), *addresses], log)
    try:
        wait_for_port(port, process, log)
        yield port, lambda: page
    finally:
        stop(process)
        screen.close()


@contextlib.contextmanager
def _peers(directory: Path) -> Iterator[dict[str, tuple[int, Callable[[], str]]]]:
    with contextlib.ExitStack() as stack:
        found = {"mksfilter": stack.enter_context(_ours(directory / "ours"))}
        root = directory / "stock"
        root.mkdir()
        for name in ("core", "vendor"):
            shutil.copytree(NOVNC / name, root / name)
        (root / "index.html").write_text(_STOCK_PAGE)
        version = json.loads((NOVNC / "package.json").read_text())["version"]
        found[f"noVNC {version}"] = stack.enter_context(_stock(directory, root, "/index.html"))
        if DEBIAN.is_dir():
            found["Debian's vnc_lite"] = stack.enter_context(
                _stock(directory, DEBIAN, "/vnc_lite.html?path=websockify")
            )
        yield found


def _open(browser: Browser, url: str) -> dict[str, float]:
    """Milliseconds until the WebSocket is asked for, is open, and until the first picture."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        page.add_init_script(_WATCH)
        page.goto(url, wait_until="commit")
        try:
            page.wait_for_function("() => window.timeline?.picture", polling=50, timeout=30_000)
        except TimeoutError:
            raise RuntimeError(f"{url} shows nothing: {page.inner_text('body')!r}") from None
        timeline: dict[str, float] = page.evaluate("window.timeline")
        return timeline
    finally:
        context.close()


def measure(rounds: int, delays: tuple[int, ...] = DELAYS) -> list[dict[str, Any]]:
    """A row for each delay and peer, of medians in milliseconds."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    rows = []
    with (
        tempfile.TemporaryDirectory() as name,
        _peers(Path(name)) as peers,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        for delay in delays:
            relays = {name: DelayingRelay(peer[0], delay / 1000) for name, peer in peers.items()}
            taken: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
            # The first of each warms what a server and the browser keep; it is not counted.
            for turn in range(rounds + 1):
                for name, (_, link) in peers.items():
                    time.sleep(0.3)
                    timeline = _open(browser, f"http://127.0.0.1:{relays[name].port}{link()}")
                    if turn:
                        taken[name].append(timeline)
            for name, timelines in taken.items():
                medians = {
                    what: statistics.median(timeline[what] for timeline in timelines)
                    for what in ("socket", "open", "picture")
                }
                rows.append({"delay": delay, "peer": name, **medians})
        browser.close()
    return rows


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_pixel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delays", default=",".join(map(str, DELAYS)), help="milliseconds")
    args = parser.parse_args()
    rows = measure(args.rounds, tuple(int(delay) for delay in args.delays.split(",")))
    head = "".join(f"{what:>9}" for what in ("socket", "open", "picture"))
    print(f"{'round trip':<12}{'page':<20}{head}   ms, medians of {args.rounds}")
    for row in rows:
        figures = "".join(f"{row[what]:>9.0f}" for what in ("socket", "open", "picture"))
        print(f"{row['delay']:>4} ms     {row['peer']:<20}{figures}")
    ours = {row["delay"]: row["picture"] for row in rows if row["peer"] == "mksfilter"}
    for row in rows:
        if row["peer"] != "mksfilter":
            ahead = row["picture"] - ours[row["delay"]]
            print(f"at {row['delay']} ms {ahead:.0f} ms ahead of {row['peer']}")
    if 0 in ours:
        print(f"without delay {ours[0]:.0f} ms, goal {GOAL}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
