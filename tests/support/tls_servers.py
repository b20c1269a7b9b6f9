"""TLS servers that present a certificate of our making, and servers that never finish."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

from tests.support.certificates import SelfSigned


class Server:
    """Where it listens, and every byte that reached it inside TLS."""

    def __init__(self, port: int) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self.received = bytearray()
        self.connections = 0
        self.closed = threading.Semaphore(0)


@contextlib.contextmanager
def listening(answer: Callable[[Server, socket.socket], None]) -> Iterator[Server]:
    """A server on loopback that calls *answer* in a thread of its own for each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener.getsockname()[1])
    stopping = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            answer(server, connection)
        server.closed.release()

    def accept() -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        stopping.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def swallowing_tls(certificate: SelfSigned) -> Callable[[Server, socket.socket], None]:
    """Completes the TLS handshake, then reads and keeps what comes."""
    context = certificate.context()

    def answer(server: Server, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(b"hello")
            while data := tls.recv(4096):
                server.received += data

    return answer


def answering_http(
    certificates: Sequence[SelfSigned],
) -> Callable[[Server, socket.socket], None]:
    """Answers one request a connection and closes it; each connection has the next certificate."""
    contexts = [certificate.context() for certificate in certificates]

    def answer(server: Server, connection: socket.socket) -> None:
        context = contexts[min(server.connections, len(contexts)) - 1]
        with context.wrap_socket(connection, server_side=True) as tls:
            server.received += tls.recv(4096)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    return answer


def silent(_server: Server, connection: socket.socket) -> None:
    """Takes what comes and never says a word."""
    while connection.recv(4096):
        pass


def dripping_tls(certificate: SelfSigned) -> Callable[[Server, socket.socket], None]:
    """Answers with an HTTP response that grows by a byte every so often, and never ends."""
    context = certificate.context()
    pause = threading.Event()

    def answer(_server: Server, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not pause.wait(0.05):
                tls.sendall(b"z")

    return answer
