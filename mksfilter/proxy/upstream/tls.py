"""TLS towards a console host: contexts and sessions to use again, and the pin.

A context costs some 10 kB and TLS sessions belong to it, so endpoints share one wherever they trust
the same. Pins differ for each host; they are compared after the handshake of each connection, and
not by the context. A resumed session brings its certificate along, and it is compared too: which
one is right may have changed since.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Final, Protocol

import gevent.socket

from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.lru import LRUMap
from mksfilter.proxy.relay.tls_stream import TLSStream
from mksfilter.tls import check_digests, ssl_context
from mksfilter.tls_groups import no_common_group

__all__ = ["Stream", "handshake", "remember_session"]

_REMEMBERED: Final = 4096

# The trusted CA file (empty: none is asked, None: the system's), its time of change, and groups.
_ContextKey = tuple[str | None, int, tuple[str, ...]]
_SessionKey = tuple[ssl.SSLContext, str, int, str]

_contexts: Final[LRUMap[_ContextKey, ssl.SSLContext]] = LRUMap(_REMEMBERED)
_sessions: Final[LRUMap[_SessionKey, ssl.SSLSession | None]] = LRUMap(_REMEMBERED)


class Stream(Protocol):
    """What a handshake asks of a connection, whether a socket or TLS."""

    def sendall(self, data: bytes) -> None:
        """Send all of *data*."""

    def recv(self, size: int) -> bytes:
        """At most *size* bytes; empty at the end."""


def handshake(
    sock: gevent.socket.socket,
    endpoint: Endpoint,
    name: str,
    digests: Sequence[CertificateDigest],
    *,
    groups: tuple[str, ...] = (),
    resume: bool = True,
) -> TLSStream:
    """Do the client's TLS handshake on a connected socket, and check the certificate.

    :param name: of the console host, for errors.
    :param digests: pins; empty where a CA vouches for the host, or nothing is verified.
    :param groups: that are offered; empty: OpenSSL's own list.
    :param resume: offer the session of an earlier connection (RFC 8446 section 2.2).
    :raises CertificateMismatch: the certificate is none of *digests*.
    :raises NoCommonGroup: the host may agree to none of *groups*.
    :raises ssl.SSLError: no CA vouches for it, or the peers do not agree.
    :raises OSError: the connection is lost.
    """
    context = _context(endpoint, groups)
    stream = TLSStream(
        sock,
        context,
        server_hostname=endpoint.server_name or endpoint.host,
        session=_sessions.get(_session_key(context, endpoint)) if resume else None,
    )
    try:
        stream.do_handshake()
    except ssl.SSLError as exc:
        if refused := no_common_group(exc, groups, name):
            raise refused from exc
        raise
    if digests:
        check_digests(stream.getpeercert(True), digests, name)
    return stream


def remember_session(stream: TLSStream, endpoint: Endpoint) -> None:
    """Keep the TLS session for the next console on this host; it comes after the handshake.

    For a host that gives no tickets None is kept: to look for one costs a third of a handshake.
    """
    tls = stream.tls
    key = _session_key(tls.context, endpoint)
    if key in _sessions and (tls.session_reused or _sessions.get(key) is None):
        return
    session = tls.session
    _sessions.put(key, session if session is not None and session.has_ticket else None)


def _context(endpoint: Endpoint, groups: tuple[str, ...]) -> ssl.SSLContext:
    pinned = bool(endpoint.digests) or endpoint.insecure
    if pinned:
        key: _ContextKey = ("", 0, groups)
    else:
        changed = os.stat(endpoint.ca_file).st_mtime_ns if endpoint.ca_file else 0
        key = (endpoint.ca_file or None, changed, groups)
    context = _contexts.get(key)
    if context is None:
        context = ssl_context(endpoint, groups)
        _contexts.put(key, context)
    return context


def _session_key(context: ssl.SSLContext, endpoint: Endpoint) -> _SessionKey:
    return (context, endpoint.host, endpoint.port, endpoint.server_name)
