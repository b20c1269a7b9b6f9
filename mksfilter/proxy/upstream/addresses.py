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

# Beside what the standard library has a property for.
_FORBIDDEN: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            # Where clouds serve credentials to whoever asks from inside, 169.254/16 and fe80::/10
            # aside: Amazon, Google, Akamai, Scaleway, Alibaba, Azure, Oracle.
            "fd00:ec2::/32",
            "fd20:ce::/32",
            "fd00:a9fe:a9fe::/48",
            "fd00:42::42",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.0/24",
            # "This" network (RFC 1122 section 3.2.1.3), which some systems take for themselves.
            "0.0.0.0/8",
            # Teredo (RFC 4380): a tunnel to any IPv4 address.
            "2001::/32",
        ),
    )
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# The interface identifier of ISATAP (RFC 5214), its bit for globally unique addresses left out.
_ISATAP: Final = 0x00005EFE
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
        link-local, site-local, multicast, unspecified, reserved, Teredo and metadata addresses.
    """
    leads_to = _destinations(ipaddress.ip_address(address.partition("%")[0]))
    if allowed_networks:
        return all(any(each in network for network in allowed_networks) for each in leads_to)
    return not any(map(_forbidden, leads_to))


def _destinations(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The address, or the IPv4 address in it that leads to the same machine; both where it depends
    on this machine's interfaces."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return [last]
    if int(address) >> 32 & 0xFDFFFFFF == _ISATAP:
        return [address, last]
    return [address.ipv4_mapped or address.sixtofour or address]


def _forbidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
        or any(address in network for network in _FORBIDDEN)
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
