"""Which sites may open consoles: the Origin check (CVE-2015-0259, OSSN-0101). No I/O.

Nova's rules, with the port and the scheme right: a request without Origin does not come from a
browser and is allowed; any other must come from the page's own origin, or from one that the
operator listed. What the page's own origin is the operator tells by its URL; where they do not, the
Host header does, which a site may have chosen that has its name lead to us (DNS rebinding). What is
allowed never depends on an earlier request.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from mksfilter.exceptions import ConfigurationError, OriginDenied
from mksfilter.tcp import unbracketed

__all__ = [
    "Origin",
    "OriginPolicy",
    "TrustedProxies",
    "contains",
    "parse_networks",
    "parse_origin",
]

#: Characters; a host name has 253 at most.
_LONGEST = 512
#: Addresses of X-Forwarded-For that are looked at, from the right.
_MOST_HOPS = 32
#: Addresses that are remembered: each of a load balancer's requests comes from the same few.
_REMEMBERED = 4096
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_MAPPED = IPv6Network("::ffff:0:0/96")
_Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port; two origins are the same when all three are (RFC 6454)."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _PORTS[self.scheme] == self.port
        return f"{self.scheme}://{host}" + ("" if default else f":{self.port}")


def parse_origin(text: str) -> Origin:
    """Read ``scheme://host[:port]`` and nothing more.

    :raises ValueError: ``null``, another scheme than http and https, a user, a path, a bad port.
    """
    if len(text) > _LONGEST:
        raise ValueError("too long for an origin")
    # str.isprintable keeps out what urlsplit would silently remove (tabs and line breaks).
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("not an origin")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not parts.hostname:
        raise ValueError("not an origin")
    if parts.path or parts.query or parts.fragment or text.endswith(("?", "#", "/", ":")):
        raise ValueError("not an origin")
    port = parts.port
    if port == 0:
        raise ValueError("not an origin")
    return Origin(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


class TrustedProxies:
    """The load balancers whose ``X-Forwarded-*`` headers are believed.

    :param networks: CIDR networks; ``unix`` stands for peers on a Unix socket.
    :raises ConfigurationError: something else than a network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        names = list(networks)
        self._unix = "unix" in names
        self._networks = parse_networks(
            (name for name in names if name != "unix"), "trusted_proxies"
        )

    def trusts(self, address: str) -> bool:
        """Is *address* (empty: a Unix socket) one of them?"""
        return self._unix if not address else contains(self._networks, address)

    def client_address(self, environ: Mapping[str, str]) -> str:
        """Where the request comes from: the right-most address that no trusted proxy has.

        A client may write whatever it likes into the left of ``X-Forwarded-For``.
        """
        peer = environ.get("REMOTE_ADDR", "")
        address = peer
        if not self.trusts(peer):
            return peer
        hops = environ.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]
        for hop in reversed([hop.strip() for hop in hops]):
            parsed = _parse_hop(hop)
            if parsed is None:
                break
            address = parsed
            if not self.trusts(address):
                break
        return address

    def own_origin(self, environ: Mapping[str, str]) -> Origin | None:
        """The page's origin as the browser sees it; None when ``Host`` makes no sense."""
        scheme = environ.get("wsgi.url_scheme", "http")
        host = environ.get("HTTP_HOST", "")
        if self.trusts(environ.get("REMOTE_ADDR", "")):
            scheme = _last(environ.get("HTTP_X_FORWARDED_PROTO", "")).lower() or scheme
            host = _last(environ.get("HTTP_X_FORWARDED_HOST", "")) or host
            scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
        try:
            return parse_origin(f"{scheme}://{host}")
        except ValueError:
            return None


class OriginPolicy:
    """The check itself.

    :param allowed: origins beside the page's own.
    :param base_url: the page's URL where the operator told us; its origin is then the page's own,
        whatever Host says.
    :raises ConfigurationError: something else than an origin.
    """

    def __init__(
        self, allowed: Iterable[str], proxies: TrustedProxies, *, base_url: str = ""
    ) -> None:
        self._proxies = proxies
        self._own = _of_url(base_url) if base_url else None
        self.allowed = frozenset([*map(_configured, allowed), *([self._own] if self._own else [])])

    def allows(self, environ: Mapping[str, str]) -> bool:
        """Whether :meth:`check` lets the request pass."""
        try:
            self.check(environ)
        except OriginDenied:
            return False
        return True

    def check(self, environ: Mapping[str, str]) -> None:
        """Let the request pass.

        :raises OriginDenied: its Origin header names another site.
        """
        text = environ.get("HTTP_ORIGIN")
        if text is None:
            return
        try:
            origin = parse_origin(text)
        except ValueError:
            raise OriginDenied("Origin header is not an origin") from None
        if origin in self.allowed:
            return
        if self._own is not None:
            raise OriginDenied(
                f"Origin {origin} is not that of webmks_proxy_base_url ({self._own}) nor in "
                "allowed_origins"
            )
        own = self._proxies.own_origin(environ)
        if origin != own:
            raise OriginDenied(
                f"Origin {origin} is not the page's own ({own}) nor in allowed_origins; "
                "behind a load balancer that ends TLS, set trusted_proxies"
            )


def parse_networks(texts: Iterable[str], option: str) -> _Networks:
    """Read CIDR networks of a configuration option. An IPv6 address may stand in brackets.

    :raises ConfigurationError: naming *option* and the value.
    """
    networks = []
    for text in texts:
        address, slash, length = text.strip().partition("/")
        try:
            network = ip_network(unbracketed(address) + slash + length)
        except ValueError as exc:
            raise ConfigurationError(f"{option}: {exc}") from None
        if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
            # Addresses of that kind are looked at as IPv4, see contains().
            mapped = int(network.network_address) & 0xFFFFFFFF
            network = IPv4Network((mapped, network.prefixlen - 96))
        networks.append(network)
    return tuple(networks)


def contains(networks: _Networks, address: str) -> bool:
    """Is *address* in one of *networks*? An IPv4 address mapped into IPv6 counts as IPv4."""
    parsed = _parse_address(address) if networks else None
    return parsed is not None and any(
        parsed.version == network.version and parsed in network for network in networks
    )


@functools.lru_cache(maxsize=_REMEMBERED)
def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, IPv4Address) else address


def _parse_hop(hop: str) -> str | None:
    """An element of X-Forwarded-For: some proxies add the port, or brackets."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    address = _parse_address(hop)
    return None if address is None else str(address)


def _last(header: str) -> str:
    return header.rpartition(",")[2].strip()


def _configured(text: str) -> Origin:
    try:
        return parse_origin(text.rstrip("/").lower())
    except ValueError:
        raise ConfigurationError(
            f"allowed_origins: {text!r} is not of the form scheme://host[:port]"
        ) from None


def _of_url(url: str) -> Origin:
    try:
        parts = urlsplit(url)
        return parse_origin(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        raise ConfigurationError(
            f"webmks_proxy_base_url: {url!r} is not an http or https URL"
        ) from None
