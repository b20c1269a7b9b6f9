"""A load balancer that can be wrong in the ways that load balancers are."""

from __future__ import annotations

import contextlib
import email.utils
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

__all__ = ["Balancer", "start_balancer"]


class Balancer(socketserver.ThreadingTCPServer):
    """One in front of a proxy.

    :ivar fault: ``host`` (does not pass the Host), ``upgrade`` (does not pass upgrades),
        ``redirect``, ``other`` (somebody else's page), ``prefix`` (knows no such path),
        ``unbuilt``, ``static`` (passes the page alone), ``down`` (no node left) or ``tls`` (would
        like TLS); empty: none.
    :ivar clock: seconds by which the nodes' answers are ahead.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.fault = ""
        self.clock = 0
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def own_answer(self, path: str) -> bytes | None:
        """What it says instead of a node."""
        if self.fault == "redirect":
            return answer("301 Moved Permanently", location=f"https://127.0.0.1{path}")
        if self.fault == "other":
            return answer("200 OK", "<html><title>Welcome</title></html>")
        if self.fault == "prefix" or (self.fault == "static" and "/static/" in path):
            return answer("404 Not Found")
        if self.fault == "unbuilt":
            return answer("503 Service Unavailable", "<h1>The console page is not built</h1>")
        if self.fault == "down":
            return answer("503 Service Unavailable", "No server is available")
        if self.fault == "tls":
            return b"\x15\x03\x01\x00\x02\x02\x46"
        return None


def answer(status: str, body: str = "", *, location: str = "") -> bytes:
    more = f"Location: {location}\r\n" if location else ""
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n{body}"
    ).encode()


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        balancer, client = self.server, self.request
        head = read_head(client)
        if not head:
            return
        own = balancer.own_answer(head.split(" ", 2)[1] if head.count(" ") > 1 else "/")
        if own is not None:
            client.sendall(own)
            return
        if balancer.fault == "host":
            head = re.sub(r"\r\nHost: [^\r]*", "\r\nHost: node1.internal:6090", head)
        if balancer.fault == "upgrade":
            head = re.sub(r"\r\n(?:Upgrade|Connection): [^\r]*", "", head)
        with socket.create_connection(("127.0.0.1", balancer.upstream), 20) as node:
            node.sendall(head.encode("latin-1"))
            said = read_head(node)
            if balancer.clock:
                date = email.utils.formatdate(time.time() + balancer.clock, usegmt=True)
                said = re.sub(r"\r\nDate: [^\r]*", f"\r\nDate: {date}", said)
            with contextlib.suppress(OSError):
                client.sendall(said.encode("latin-1"))
            back = threading.Thread(target=pipe, args=(client, node), daemon=True)
            back.start()
            pipe(node, client)
            back.join(5)


def read_head(sock: socket.socket) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            break
        head += byte
    return head.decode("latin-1")


def pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def start_balancer(upstream: int) -> Iterator[Balancer]:
    """One for as long as the context lasts.

    :param upstream: the proxy's port.
    """
    with Balancer(upstream) as balancer:
        threading.Thread(target=balancer.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield balancer
        finally:
            balancer.shutdown()
