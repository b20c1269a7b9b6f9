"""Where a console host is on the network, and where none may be.

A ticket names the host, so whoever controls a vCenter chooses what the proxy connects to. The
addresses are checked after the look-up, and the caller connects to what was checked: a second
look-up could answer differently (DNS rebinding).
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from typing import Final

import gevent.socket

from mksfilter.exceptions import EndpointForbidden, HostUnresolvable
from mksfilter.happy_eyeballs import Address

__all__ = ["Network", "address_allowed", "parse_networks", "resolve"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where clouds serve credentials to whoever asks from inside, beside the link-local 169.254/16.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_REMEMBERED: Final = 4096


@functools.lru_cache(maxsize=16)
def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Read networks in CIDR form.

    :raises ValueError: one of them is not a network.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


@functools.lru_cache(maxsize=_REMEMBERED)
def address_allowed(address: str, allowed_networks: tuple[Network, ...] = ()) -> bool:
    """Whether a console host may be at *address*.

    :param allowed_networks: if there are any, only these; otherwise anything but loopback,
        link-local, multicast, unspecified, reserved and metadata addresses.
    """
    parsed: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(
        address.partition("%")[0]
    )
    # An IPv4 address written as IPv6 leads to the same machine.
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


def resolve(
    host: str, port: int, name: str, allowed_networks: tuple[Network, ...]
) -> list[Address]:
    """The addresses of *host* that a console host may have; at least one.

    :param name: of the console host, for errors.
    :raises HostUnresolvable: the name does not resolve.
    :raises EndpointForbidden: none of its addresses is allowed.
    """
    found = _look_up(host, port, name)
    allowed = [each for each in found if address_allowed(each.sockaddr[0], allowed_networks)]
    if not allowed:
        raise EndpointForbidden(
            f"{name}: address {found[0].sockaddr[0]} is not one that console hosts may have; "
            f"if it is right, list its network in allowed_networks"
        )
    return allowed


def _look_up(host: str, port: int, name: str) -> list[Address]:
    family = _literal_family(host)
    if family:
        return [Address(family, (host, port))]
    try:
        found = gevent.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
    except (OSError, UnicodeError) as exc:
        raise HostUnresolvable(
            f"{name}: the name {host!r} does not resolve here; add it to DNS or "
            f"/etc/hosts, or set console_host of its vCenter"
        ) from exc
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


@functools.lru_cache(maxsize=_REMEMBERED)
def _literal_family(host: str) -> int:
    """The address family of an IP address; 0 for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return 0
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)
