"""The PROXY protocol, versions 1 and 2: how a load balancer in TCP mode tells who its client is.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. No I/O.
"""

from __future__ import annotations

import dataclasses
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from mksfilter.exceptions import ProxyHeaderError

__all__ = ["ProxyHeader", "parse"]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
#: Section 2.1: a line of version 1 has at most 107 bytes with its line end.
_LINE_MAX = 107
#: Section 2.2: what comes after the addresses may be long; ours come from machines we trust.
_BLOCK_MAX = 4096
_SIZES = {0x11: (4, IPv4Address), 0x21: (16, IPv6Address)}


@dataclasses.dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header that is there as a whole.

    :ivar size: its bytes.
    :ivar source: address and port of the client; None when the load balancer speaks for itself,
        as it does for a health check.
    """

    size: int
    source: tuple[str, int] | None


def parse(data: bytes | bytearray) -> ProxyHeader | None:
    """Read the header at the start of *data*; None while more is needed.

    :raises ProxyHeaderError: it does not start with one.
    """
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _binary(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _line(bytes(data[:_LINE_MAX]))
    raise ProxyHeaderError("no PROXY header")


def _line(data: bytes) -> ProxyHeader | None:
    line, end, _ = data.partition(b"\r\n")
    if not end:
        if len(data) >= _LINE_MAX:
            raise ProxyHeaderError("PROXY line too long")
        return None
    size = len(line) + 2
    words = line.decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(size, None)
    try:
        _, protocol, source, _destination, port, _ = words
        address = ip_address(source)
        number = int(port)
    except ValueError:
        raise ProxyHeaderError("malformed PROXY line") from None
    if protocol != f"TCP{address.version}" or not 0 <= number <= 65535:
        raise ProxyHeaderError("malformed PROXY line")
    return ProxyHeader(size, (str(address), number))


def _binary(data: bytes | bytearray) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack_from("!BBH", data, 12)
    if command not in (0x20, 0x21) or length > _BLOCK_MAX:
        raise ProxyHeaderError("malformed PROXY header")
    if len(data) < 16 + length:
        return None
    size = 16 + length
    if command == 0x20 or family not in _SIZES:
        return ProxyHeader(size, None)
    width, kind = _SIZES[family]
    if length < 2 * width + 4:
        raise ProxyHeaderError("malformed PROXY header")
    (port,) = struct.unpack_from("!H", data, 16 + 2 * width)
    return ProxyHeader(size, (str(kind(bytes(data[16 : 16 + width]))), port))
