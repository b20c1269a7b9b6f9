"""VMware's authentication daemon on port 902: two TLS layers, one after the other.

Lines in FTP's manner pass over the first layer, whose certificate is the one that the ticket pins.
The client names a random word there; the host answers with the digest of the certificate of the
second layer, which takes the place of the first on the same TCP connection, and begins with that
word. The display stream follows.
"""

from __future__ import annotations

import base64
import dataclasses
import os
from typing import Final

import gevent.socket

from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import TicketRefused, UpstreamRefused
from mksfilter.proxy.relay.transport import Upstream
from mksfilter.proxy.upstream import tls
from mksfilter.proxy.upstream.groups import Groups

__all__ = ["open_console"]

_MAX_LINE: Final = 4096


def open_console(
    sock: gevent.socket.socket, endpoint: Endpoint, name: str, groups: Groups
) -> Upstream:
    """Log in with the ticket and ask for the console.

    :param sock: connected to the host; its deadline is the caller's business.
    :param name: of the console host, for errors.
    :param groups: tells which it is offered.
    :raises TicketRefused: the host does not know the ticket, or not any more.
    :raises UpstreamRefused: it does not speak this protocol.
    :raises CertificateMismatch: a certificate is not the one pinned or announced.
    :raises NoCommonGroup: the host may agree to no group that it was offered.
    :raises OSError: the connection is lost, or TLS failed.
    """
    _expect(_read_line(sock, name), "220", name)
    offered = groups.offered_to(endpoint)
    stream = tls.handshake(sock, endpoint, name, endpoint.digests, groups=offered, resume=False)
    word = base64.b64encode(os.urandom(12))
    _send_line(stream, f"USER {endpoint.ticket}")
    _expect(_read_line(stream, name), "331", name, ticket=True)
    _send_line(stream, f"PASS {endpoint.ticket}")
    _expect(_read_line(stream, name), "230", name, ticket=True)
    _send_line(stream, f"THUMBPRINT {word.decode()}")
    answer = _expect(_read_line(stream, name), "200", name)
    _send_line(stream, f"CONNECT {endpoint.config_file} mks")
    _expect(_read_line(stream, name), "200", name)
    # The second certificate is another one; the first layer, whose host is known, announced it.
    digest = _announced_digest(answer, name)
    second = tls.handshake(
        stream.detach_socket(),
        dataclasses.replace(endpoint, insecure=True, digests=(digest,)),
        name,
        [digest],
        # With the ticket used up there is no second connection on which to offer more.
        groups=groups.configured,
        resume=False,
    )
    second.sendall(word)
    early = second.unread()
    return Upstream(second.detach_transport(), early, "bytes")


def _send_line(stream: tls.Stream, line: str) -> None:
    if "\r" in line or "\n" in line:
        raise TicketRefused("the console ticket has a line break in it")
    stream.sendall(line.encode("utf-8") + b"\r\n")


def _read_line(stream: tls.Stream, name: str) -> str:
    """One line, and not a byte of what follows it."""
    line = b""
    while not line.endswith(b"\n"):
        if len(line) > _MAX_LINE:
            raise UpstreamRefused(f"{name}: a line of more than {_MAX_LINE} bytes")
        data = stream.recv(1)
        if not data:
            raise UpstreamRefused(f"{name}: closed the connection in the middle of its handshake")
        line += data
    return line.decode("utf-8", "replace").strip()


def _expect(line: str, code: str, name: str, *, ticket: bool = False) -> str:
    if line.startswith(code):
        return line[len(code) :].strip()
    # Only the code is quoted: the text could repeat the ticket.
    if ticket:
        raise TicketRefused(f"{name}: answers {line[:3]!r} to the console ticket, not {code}")
    raise UpstreamRefused(f"{name}: answers {line[:3]!r}, not {code}")


def _announced_digest(answer: str, name: str) -> CertificateDigest:
    for word in reversed(answer.split()):
        try:
            return CertificateDigest.parse(word)
        except ValueError:
            continue
    raise UpstreamRefused(f"{name}: does not say which certificate its console has")
