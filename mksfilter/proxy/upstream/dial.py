"""The way to a console host: name, address, TCP, TLS, and its handshake, within one deadline.

Runs in a greenlet, once per connection, and leaves nothing of it behind but an :class:`Upstream`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Final

import gevent
import gevent.select
import gevent.socket

from mksfilter import happy_eyeballs, tcp
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import (
    CertificateMismatch,
    HostUnreachable,
    NoCommonGroup,
    UpstreamRefused,
)
from mksfilter.proxy.relay.transport import Upstream
from mksfilter.proxy.upstream import addresses, authd, websocket
from mksfilter.proxy.upstream.groups import Groups

__all__ = ["dial"]

_DEFAULT_GROUPS: Final = Groups()


def dial(
    endpoint: Endpoint,
    *,
    timeout: float,
    allowed_networks: Sequence[str] = (),
    tcp_user_timeout: int = tcp.VANISHED_AFTER,
    groups: Groups = _DEFAULT_GROUPS,
) -> Upstream:
    """Connect to a console, in a greenlet.

    :param timeout: seconds for everything.
    :param allowed_networks: see :func:`mksfilter.proxy.upstream.addresses.address_allowed`.
    :param tcp_user_timeout: see :func:`mksfilter.tcp.watch_peer`.
    :param groups: which the host is offered in the TLS handshake.
    :raises HostUnresolvable: the host's name does not resolve.
    :raises EndpointForbidden: its addresses are not allowed.
    :raises HostUnreachable: no connection, or not within *timeout*.
    :raises CertificateMismatch: neither pin nor CA vouches for the certificate.
    :raises TicketRefused: the host does not know the ticket, or not any more.
    :raises UpstreamRefused: the host answers, but not with a console.
    """
    networks = addresses.parse_networks(tuple(allowed_networks))
    name = _name(endpoint)
    deadline = gevent.Timeout(timeout)
    try:
        with deadline:
            found = addresses.resolve(endpoint.host, endpoint.port, name, networks)
            upstream = _open(found, endpoint, name, groups)
    except gevent.Timeout as exc:
        if exc is not deadline:
            raise
        raise HostUnreachable(
            f"{name}: no console within {timeout:g} s; check the route and the firewall from here"
        ) from None
    except (ssl.SSLCertVerificationError, ssl.CertificateError) as exc:
        # Only a ticket that nova-compute was given comes from no vCenter of ours.
        option = "ca_file of its vCenter" if endpoint.vcenter else "[nova] console_ca_file"
        raise CertificateMismatch(f"{name}: {exc.verify_message}; set {option}") from exc
    except ssl.SSLError as exc:
        raise UpstreamRefused(f"{name}: TLS failed: {exc.reason or exc}") from exc
    except OSError as exc:
        raise UpstreamRefused(f"{name}: connection lost before it had a console") from exc
    # Not sooner: so far the deadline watches.
    upstream.transport.watch_peer(tcp_user_timeout)
    return upstream


def _name(endpoint: Endpoint) -> str:
    name = f"console host {endpoint.address}"
    return f"{name} (vcenter {endpoint.vcenter})" if endpoint.vcenter else name


def _open(
    found: Sequence[happy_eyeballs.Address], endpoint: Endpoint, name: str, groups: Groups
) -> Upstream:
    try:
        return _open_console(_connect(found, name), endpoint, name, groups)
    except NoCommonGroup:
        if not groups.refused_by(endpoint):
            raise
    # The ticket is still good: the host has not seen it.
    return _open_console(_connect(found, name), endpoint, name, groups)


def _connect(found: Sequence[happy_eyeballs.Address], name: str) -> gevent.socket.socket:
    try:
        # The very addresses that were checked: no second look-up, whose answer could differ.
        sock: gevent.socket.socket = happy_eyeballs.connect(
            found, make_socket=gevent.socket.socket, poll=gevent.select.poll
        )
    except OSError as failure:
        what = os.strerror(failure.errno) if failure.errno else str(failure)
        raise HostUnreachable(
            f"{name}: {what}; check the route and the firewall from here"
        ) from failure
    return sock


def _open_console(
    sock: gevent.socket.socket, endpoint: Endpoint, name: str, groups: Groups
) -> Upstream:
    handshake = authd.open_console if endpoint.kind == "authd" else websocket.open_console
    try:
        return handshake(sock, endpoint, name, groups)
    except BaseException:
        sock.close()
        raise
