"""Where a console is, and how to be sure of it: the value every backend returns.

An :class:`Endpoint` is all that the relay needs: no vCenter object hangs on it, so it can be sealed
into a token (``ticket_at = issue``) and opened by a proxy that may not log in to any vCenter.
"""

from __future__ import annotations

import dataclasses
import hashlib
import string
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from mksfilter.exceptions import TicketRefused
from mksfilter.tcp import host_and_port

__all__ = ["CertificateDigest", "Endpoint", "Kind", "RFBHandshake"]

Kind = Literal["websocket", "authd"]
RFBHandshake = Literal["auto", "full", "missing"]

_LENGTHS: Final = {"sha1": 20, "sha256": 32, "sha512": 64}
_ALGORITHMS: Final = {length: name for name, length in _LENGTHS.items()}
_DIGITS: Final = frozenset(string.hexdigits)
_SEPARATORS: Final = str.maketrans("", "", ": \t")


@dataclasses.dataclass(frozen=True)
class CertificateDigest:
    """The digest of a certificate in DER form, as vSphere calls it: a thumbprint.

    :param algorithm: ``sha1``, ``sha256`` or ``sha512``.
    :param value: the digest itself; its length is the algorithm's.
    :raises ValueError: another algorithm, or a value of another length.
    """

    algorithm: str
    value: bytes

    def __post_init__(self) -> None:
        if _LENGTHS.get(self.algorithm) != len(self.value):
            raise ValueError(f"not a {self.algorithm} digest: {len(self.value)} bytes")

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value.hex(':').upper()}"

    def __repr__(self) -> str:
        return f"<{self}>"

    @property
    def strength(self) -> int:
        """Greater is stronger."""
        return len(self.value)

    @classmethod
    def parse(cls, text: str, algorithm: str | None = None) -> CertificateDigest:
        """Read ``AA:BB:...`` or ``aabb...``, in either case, or the form that ``str()`` gives.

        :param algorithm: what the text is said to be (``SHA-256`` is read as ``sha256``); without
            it, its length tells.
        :raises ValueError: not hexadecimal, or of no known length.
        """
        prefix, _, rest = text.partition(":")
        if prefix.lower() in _LENGTHS:
            algorithm, text = algorithm or prefix, rest
        digits = text.translate(_SEPARATORS)
        if not digits or len(digits) % 2 or not _DIGITS.issuperset(digits):
            raise ValueError("a certificate digest is written in pairs of hexadecimal digits")
        value = bytes.fromhex(digits)
        if algorithm is None:
            algorithm = _ALGORITHMS.get(len(value))
            if algorithm is None:
                raise ValueError("a certificate digest has 20 (SHA-1), 32 or 64 bytes")
        return cls(algorithm.lower().replace("-", ""), value)

    @classmethod
    def of(cls, der: bytes, algorithm: str = "sha256") -> CertificateDigest:
        """The digest of the certificate *der*."""
        return cls(algorithm, hashlib.new(algorithm, der).digest())


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A console that waits for one connection.

    :param kind: ``websocket`` (RFB in a WebSocket) or ``authd`` (port 902, two TLS layers one
        after the other).
    :param host: name or address to connect to; an IPv6 address is written without brackets.
    :param resource: path and query of the WebSocket; holds the ticket, so it stays out of ``repr``.
    :param tls: False only for the vCenter 5.5 console proxy on port 7331.
    :param server_name: the name the certificate is checked against when a CA vouches for it.
    :param digests: pins; empty: verify with ``ca_file``, or with the system's CAs.
    :param insecure: the operator wrote ``insecure = true`` and nothing else can be verified.
    :param rfb_handshake: whether the display stream starts with RFB's version message (``full``)
        or at ServerInit (``missing``); ``auto``: look at its first bytes.
    :param ticket: authd's ticket; empty for WebSockets.
    :param config_file: authd's ``cfgFile``.
    :param vcenter: name of the ``[vcenter.NAME]`` group it came from, for logs and limits.
    :param vm: the VM's managed object id there, for the audit trail.
    :param name: the VM's name there, for the page; empty: not known.
    :param question: what the VM waits to be told in vCenter, in words for its user; never sealed.
    """

    kind: Kind
    host: str
    port: int
    resource: str = dataclasses.field(default="", repr=False)
    tls: bool = True
    server_name: str = ""
    digests: tuple[CertificateDigest, ...] = ()
    ca_file: str | None = None
    insecure: bool = False
    rfb_handshake: RFBHandshake = "auto"
    ticket: str = dataclasses.field(default="", repr=False)
    config_file: str = ""
    vcenter: str = ""
    vm: str = ""
    name: str = ""
    question: str = ""

    @property
    def address(self) -> str:
        """``host:port`` for logs, with brackets around an IPv6 address."""
        return host_and_port(self.host, self.port)

    def to_mapping(self) -> dict[str, object]:
        """JSON-able and small: what is sealed into a token. Holds the ticket."""
        mapping: dict[str, object] = {"kind": self.kind, "host": self.host, "port": self.port}
        if self.digests:
            mapping["digests"] = [digest.value.hex() for digest in self.digests]
        for name, default in _OPTIONAL.items():
            value = getattr(self, name)
            if value != default:
                mapping[name] = value
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Endpoint:
        """The inverse of :meth:`to_mapping`.

        :raises TicketRefused: something is missing or of the wrong type; what a newer or older
            release sealed may be.
        """
        try:
            values: dict[str, Any] = {}
            for name, kind in _READ.items():
                if name in mapping:
                    value = mapping[name]
                    # type() rather than isinstance(): to the latter True is a number.
                    if type(value) is not kind:
                        raise TypeError(f"{name} is of the wrong type")
                    values[name] = value
            if not values["host"] or not 0 < values["port"] < 65536:
                raise ValueError("no host, or no port")
            if values["kind"] not in _KINDS or values.get("rfb_handshake", "auto") not in _WAYS:
                raise ValueError("not a kind of console, or not a way to begin RFB")
            return cls(**values, digests=_digests(mapping.get("digests", ())))
        except (KeyError, TypeError, ValueError) as exc:
            raise TicketRefused(
                "the console ticket sealed in a token cannot be read; "
                "run the same release of mksfilter in nova-api and on the proxies"
            ) from exc


_OPTIONAL: Final[dict[str, str | bool | None]] = {
    "resource": "",
    "tls": True,
    "server_name": "",
    "ca_file": None,
    "insecure": False,
    "rfb_handshake": "auto",
    "ticket": "",
    "config_file": "",
    "vcenter": "",
    "vm": "",
    "name": "",
}


#: Of what a token tells, and of which type.
_READ: Final[dict[str, type]] = {
    "kind": str,
    "host": str,
    "port": int,
    "resource": str,
    "tls": bool,
    "server_name": str,
    "ca_file": str,
    "insecure": bool,
    "rfb_handshake": str,
    "ticket": str,
    "config_file": str,
    "vcenter": str,
    "vm": str,
}
_KINDS: Final = get_args(Kind)
_WAYS: Final = get_args(RFBHandshake)


def _digests(values: object) -> tuple[CertificateDigest, ...]:
    if not isinstance(values, (list, tuple)):
        raise TypeError("not a list")
    digests = []
    for value in values:
        if not isinstance(value, str):
            raise TypeError("not a string")
        digests.append(CertificateDigest.parse(value))
    return tuple(digests)
