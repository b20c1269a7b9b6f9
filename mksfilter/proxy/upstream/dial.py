"""The way to a console host: name, address, TCP, TLS, and its handshake, within one deadline.

Runs in a greenlet, once per session, and leaves nothing of it behind but an :class:`Upstream`.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import functools
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final, Protocol

import gevent
import gevent.socket

from mksfilter.backends.vsphere.tls import check_digests, ssl_context
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import (
    BackendError,
    CertificateMismatch,
    EndpointForbidden,
    HostUnreachable,
    HostUnresolvable,
    TicketRefused,
    UpstreamRefused,
)
from mksfilter.proxy.relay.tls_stream import TLSStream
from mksfilter.proxy.relay.transport import PlainTransport, Upstream
from mksfilter.proxy.upstream import websocket

__all__ = ["address_allowed", "dial"]

MAX_RESPONSE: Final = 16 * 1024
"""Bytes of response header that a console host may send."""

_MAX_LINE: Final = 4096
_RESOURCE: Final = re.compile(r"/[!-~]*")
_MAX_SESSIONS: Final = 4096

# Where clouds serve credentials to whoever asks from inside, beside the link-local 169.254/16.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Stream(Protocol):
    def sendall(self, data: bytes) -> None: ...
    def recv(self, size: int) -> bytes: ...


@functools.lru_cache(maxsize=_MAX_SESSIONS)
def address_allowed(address: str, allowed_networks: tuple[_Network, ...] = ()) -> bool:
    """Whether a console host may be at *address*.

    :param allowed_networks: all there is, if there are any; otherwise anything but loopback,
        link-local, multicast, unspecified, reserved and metadata addresses.
    """
    parsed: _Address = ipaddress.ip_address(address.partition("%")[0])
    # An IPv4 address in IPv6's clothes leads to the same machine.
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is None and parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        parsed = inner or parsed
    if allowed_networks:
        return any(parsed in network for network in allowed_networks)
    return not (
        parsed.is_loopback
        or parsed.is_link_local
        or parsed.is_multicast
        or parsed.is_unspecified
        or parsed.is_reserved
        or parsed in _METADATA
    )


def dial(endpoint: Endpoint, *, timeout: float, allowed_networks: Sequence[str] = ()) -> Upstream:
    """Connect to a console, in a greenlet.

    :param timeout: seconds for everything.
    :param allowed_networks: see :func:`address_allowed`.
    :raises HostUnresolvable: nobody knows the name.
    :raises EndpointForbidden: its addresses are not allowed.
    :raises HostUnreachable: no connection, or not within *timeout*.
    :raises CertificateMismatch: neither pin nor CA vouches for the certificate.
    :raises TicketRefused: the host does not know the ticket, or not any more.
    :raises UpstreamRefused: the host answers, but not with a console.
    """
    networks = _networks(tuple(allowed_networks))
    deadline = gevent.Timeout(timeout)
    name = _name(endpoint)
    sock: gevent.socket.socket | None = None
    try:
        with deadline:
            sock = _connect(endpoint, name, networks)
            if endpoint.kind == "authd":
                return _authd(endpoint, name, sock)
            return _websocket(endpoint, name, sock)
    except gevent.Timeout as exc:
        if exc is not deadline:
            raise
        _close(sock)
        raise HostUnreachable(
            f"{name}: no console within {timeout:g} s; check the route and the firewall from here"
        ) from None
    except (ssl.SSLCertVerificationError, ssl.CertificateError) as exc:
        _close(sock)
        raise CertificateMismatch(
            f"{name}: {exc.verify_message}; set ca_file of its vCenter"
        ) from exc
    except ssl.SSLError as exc:
        _close(sock)
        raise UpstreamRefused(f"{name}: TLS failed: {exc.reason or exc}") from exc
    except OSError as exc:
        _close(sock)
        raise UpstreamRefused(f"{name}: connection lost before it had a console") from exc
    except BaseException:
        _close(sock)
        raise


@functools.lru_cache(maxsize=16)
def _networks(texts: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _name(endpoint: Endpoint) -> str:
    name = f"console host {endpoint.address}"
    return f"{name} (vcenter {endpoint.vcenter})" if endpoint.vcenter else name


def _close(sock: gevent.socket.socket | None) -> None:
    if sock is not None:
        sock.close()


# --- TCP ---


def _connect(endpoint: Endpoint, name: str, networks: tuple[_Network, ...]) -> gevent.socket.socket:
    addresses = _resolve(endpoint, name)
    allowed = [entry for entry in addresses if address_allowed(entry[1][0], networks)]
    if not allowed:
        raise EndpointForbidden(
            f"{name}: address {addresses[0][1][0]} is not one that console hosts may have; "
            f"if it is right, list its network in allowed_networks"
        )
    failure: OSError | None = None
    for family, address in allowed:
        sock = gevent.socket.socket(family, socket.SOCK_STREAM)
        try:
            # The very address that was checked: no second look-up, whose answer could differ.
            sock.connect(address)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as exc:
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    assert failure is not None
    what = os.strerror(failure.errno) if failure.errno else str(failure)
    raise HostUnreachable(
        f"{name}: {what}; check the route and the firewall from here"
    ) from failure


@functools.lru_cache(maxsize=_MAX_SESSIONS)
def _family(host: str) -> int:
    """The address family of an address; 0 for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return 0
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


def _resolve(endpoint: Endpoint, name: str) -> list[tuple[int, tuple[Any, ...]]]:
    family = _family(endpoint.host)
    if family:
        return [(family, (endpoint.host, endpoint.port))]
    try:
        found = gevent.socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
    except (OSError, UnicodeError) as exc:
        raise HostUnresolvable(
            f"{name}: the name {endpoint.host!r} does not resolve here; add it to DNS or "
            f"/etc/hosts, or set console_host of its vCenter"
        ) from exc
    return [(family, address) for family, _, _, _, address in found]


# --- TLS ---


class _Recent(collections.OrderedDict[Any, Any]):
    """A dictionary that forgets what was not used for longest."""

    def recall(self, key: Any) -> Any:
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def remember(self, key: Any, value: Any) -> None:
        self[key] = value
        self.move_to_end(key)
        while len(self) > _MAX_SESSIONS:
            self.popitem(last=False)


_contexts = _Recent()
_sessions = _Recent()


def _client_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The context for an endpoint, one for many: each has some 10 kB, and sessions belong to it.

    Pins are compared after the handshake of each connection, not by the context.
    """
    pinned = bool(endpoint.digests) or endpoint.insecure
    if pinned:
        key: tuple[Any, ...] = ("unverified",)
    else:
        stamp = os.stat(endpoint.ca_file).st_mtime_ns if endpoint.ca_file else 0
        key = ("ca", endpoint.ca_file, stamp)
    context: ssl.SSLContext | None = _contexts.recall(key)
    if context is None:
        trust = dataclasses.replace(endpoint, digests=(), insecure=True) if pinned else endpoint
        context = ssl_context(trust)
        context.options |= ssl.OP_NO_RENEGOTIATION
        _contexts.remember(key, context)
    return context


def _shake(
    sock: gevent.socket.socket,
    endpoint: Endpoint,
    name: str,
    digests: Sequence[CertificateDigest],
    *,
    resume: bool = True,
) -> TLSStream:
    context = _client_context(endpoint)
    stream = TLSStream(
        sock,
        context,
        server_hostname=endpoint.server_name or endpoint.host,
        session=_sessions.recall(_session_key(context, endpoint)) if resume else None,
    )
    stream.do_handshake()
    # A resumed session brings the certificate along; whether it is the right one may have changed.
    if digests:
        check_digests(stream.getpeercert(True), digests, name)
    return stream


def _session_key(context: ssl.SSLContext, endpoint: Endpoint) -> tuple[Any, ...]:
    return (context, endpoint.host, endpoint.port, endpoint.server_name)


def _remember_session(stream: TLSStream, endpoint: Endpoint) -> None:
    """Keep the TLS session for the next console on this host; it comes after the handshake.

    Of a host that gives no tickets None is kept: to look for one costs a third of a handshake.
    """
    tls = stream.tls
    key = _session_key(tls.context, endpoint)
    if key in _sessions and (tls.session_reused or _sessions[key] is None):
        return
    session = tls.session
    _sessions.remember(key, session if session is not None and session.has_ticket else None)


# --- WebSocket ---


def _websocket(endpoint: Endpoint, name: str, sock: gevent.socket.socket) -> Upstream:
    stream: _Stream = sock
    if endpoint.tls:
        stream = _shake(sock, endpoint, name, endpoint.digests)
    early = _upgrade(endpoint, name, stream)
    if isinstance(stream, TLSStream):
        early += stream.unread()
        _remember_session(stream, endpoint)
        return Upstream(stream.detach_transport(), early, "websocket")
    return Upstream(PlainTransport(sock), early, "websocket")


def _upgrade(endpoint: Endpoint, name: str, stream: _Stream) -> bytes:
    """WebSocket's opening handshake (RFC 6455 section 4.1); returns what followed it."""
    if not (_RESOURCE.fullmatch(endpoint.resource) and endpoint.host.isascii()):
        raise TicketRefused(
            f"{name}: the console's URL holds characters that no URL has (a name with others than "
            f"ASCII is written in its xn-- form)"
        )
    key, request = websocket.request(
        endpoint.host, endpoint.port, endpoint.resource, tls=endpoint.tls
    )
    stream.sendall(request)
    answer = b""
    while (end := answer.find(b"\r\n\r\n") + 4) < 4:
        if len(answer) > MAX_RESPONSE:
            raise UpstreamRefused(f"{name}: response header of more than {MAX_RESPONSE} bytes")
        data = stream.recv(_MAX_LINE)
        if not data:
            raise UpstreamRefused(f"{name}: closed the connection instead of opening a WebSocket")
        answer += data
    try:
        status = websocket.status(answer)
        if status != 101:
            raise _refused(name, status)
        websocket.check(answer[:end], key)
    except websocket.AnswerError as exc:
        raise UpstreamRefused(f"{name}: not a WebSocket handshake: {exc}") from None
    return answer[end:]


def _refused(name: str, status: int) -> BackendError:
    if status in (401, 403, 404, 410):
        return TicketRefused(
            f"{name}: HTTP status {status}: the console ticket is used up, too old or not for it"
        )
    return UpstreamRefused(f"{name}: HTTP status {status} instead of a WebSocket")


# --- authd ---


def _authd(endpoint: Endpoint, name: str, sock: gevent.socket.socket) -> Upstream:
    """VMware's authentication daemon on port 902: two TLS layers, one after the other."""
    _expect(_line(sock, name), "220", name)
    stream = _shake(sock, endpoint, name, endpoint.digests, resume=False)
    nonce = base64.b64encode(os.urandom(12))
    _say(stream, f"USER {endpoint.ticket}")
    _expect(_line(stream, name), "331", name, ticket=True)
    _say(stream, f"PASS {endpoint.ticket}")
    _expect(_line(stream, name), "230", name, ticket=True)
    _say(stream, f"THUMBPRINT {nonce.decode()}")
    answer = _expect(_line(stream, name), "200", name)
    _say(stream, f"CONNECT {endpoint.config_file} mks")
    _expect(_line(stream, name), "200", name)
    # The second certificate is another one; the first, authenticated layer has named it.
    digest = _announced_digest(answer, name)
    unnamed = dataclasses.replace(endpoint, insecure=True, digests=(digest,))
    second = _shake(stream.detach_socket(), unnamed, name, [digest], resume=False)
    second.sendall(nonce)
    return Upstream(second.detach_transport(), second.unread(), "bytes")


def _say(stream: TLSStream, line: str) -> None:
    if "\r" in line or "\n" in line:
        raise TicketRefused("the console ticket has a line break in it")
    stream.sendall(line.encode("utf-8") + b"\r\n")


def _line(stream: _Stream, name: str) -> str:
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
