"""HTTPS connections to a vCenter: pinned, and ended by another thread where need be."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from mksfilter import happy_eyeballs, tcp
from mksfilter.backends.vsphere.http_answer import Answer, read_answer
from mksfilter.endpoint import CertificateDigest
from mksfilter.tls import check_digests

__all__ = ["HTTPSConnection"]


class HTTPSConnection(http.client.HTTPSConnection):
    """Checks the certificate before it sends; :meth:`abort` may be called from another thread.

    :param context: verifies a CA and a name, or nothing when *digests* are given.
    :param digests: pins; compared after each handshake, a reconnection's included.
    :param subject: the server, for errors.
    :param announce: called with the connection once it has a socket, and whenever it is used
        again: the moments from which it can be aborted.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        context: ssl.SSLContext,
        digests: Sequence[CertificateDigest] = (),
        subject: str = "",
        announce: Callable[[HTTPSConnection], None] = lambda _connection: None,
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self.certificate: bytes | None = None
        self.uses = 0
        self.announce = announce
        self._tls = context
        self._digests = tuple(digests)
        self._subject = subject
        self._unsent: list[bytes] | None = None
        self._handle: socket.socket | None = None
        # A descriptor must not be closed, and used again by another socket, while it is shut down.
        self._handle_lock = threading.Lock()

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Head and body leave in one TLS record and one packet."""
        self._unsent = []
        try:
            super().request(*args, **kwargs)
            data = b"".join(self._unsent)
        finally:
            self._unsent = None
        self.send(data)

    def send(self, data: Any) -> None:
        if self._unsent is not None:
            self._unsent.append(data)
        else:
            super().send(data)

    def exchange(self, head: bytes, body: bytes) -> Answer:
        """Send a request whose bytes are known, and read its answer.

        What a call costs: one send, one receive. :meth:`request` is for what is asked once.

        :param head: request line and header fields, the empty line included.
        :raises http.client.HTTPException: no answer, or not one of HTTP/1.
        :raises OSError: no connection, or it is lost; what :meth:`connect` raises.
        """
        if self.sock is None:
            self.connect()
        tcp.send_all(self.sock, head + body)
        answer = read_answer(self.sock.recv)
        if not answer.keeps:
            self.close()
        return answer

    def connect(self) -> None:
        """Connect, encrypt, and compare the certificate with the pins.

        :raises CertificateMismatch: it is another one; nothing was sent and the socket is closed.
        :raises ssl.SSLCertVerificationError: there are no pins, and no CA vouches for the name.
        :raises OSError: no connection.
        """
        self.sock = self._dial()
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tcp.watch_peer(self.sock, tcp.VANISHED_AFTER)
            # A duplicate of the descriptor: the TLS layer takes the original away, and shutting a
            # duplicate down shuts down the connection.
            self._handle = self.sock.dup()
            self.announce(self)
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)
            certificate = self.sock.getpeercert(True)
            if self._digests:
                check_digests(certificate, self._digests, self._subject)
        except BaseException:
            self.close()
            raise
        self.certificate = certificate

    def _dial(self) -> socket.socket:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        # Names of modules, looked up now: gevent may have replaced what they hold.
        sock: socket.socket = happy_eyeballs.connect(
            [happy_eyeballs.Address(family, address) for family, _, _, _, address in found],
            make_socket=socket.socket,
            poll=select.poll,
            timeout=self.timeout,
        )
        return sock

    def abort(self) -> None:
        """Shut the connection down, whatever it waits for."""
        with self._handle_lock, contextlib.suppress(OSError):
            if self._handle is not None:
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        super().close()
        with self._handle_lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None
