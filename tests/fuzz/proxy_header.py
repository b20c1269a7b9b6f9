"""The PROXY protocol's header: the same reading however it arrives, and never a byte too many."""

from __future__ import annotations

from ipaddress import ip_address

from mksfilter.exceptions import ProxyHeaderError
from mksfilter.proxy.server.proxy_protocol import ProxyHeader, parse

__all__ = ["TestOneInput"]

_LONGEST = 16 + 4096


def TestOneInput(data: bytes) -> None:
    """The first bytes of a connection from a trusted load balancer."""
    whole = _read(data)
    if isinstance(whole, ProxyHeader):
        assert 8 <= whole.size <= len(data)
        if whole.source is not None:
            address, port = whole.source
            ip_address(address)
            assert 0 <= port <= 65535
        # What follows it changes nothing, and without its last byte it is not there yet.
        assert _read(data[: whole.size]) == whole
        assert _read(data[: whole.size - 1]) is None
    elif whole is None:
        assert len(data) < _LONGEST, "memory that the peer chooses"
    # Whoever is refused with a part of it would be refused with the whole.
    if not isinstance(whole, str):
        for end in range(min(len(data), 32)):
            assert not isinstance(_read(data[:end]), str)


def _read(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse(data)
    except ProxyHeaderError:
        return "refused"
