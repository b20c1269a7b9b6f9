"""A TLS 1.3 peer that asks for new keys again and again (RFC 8446 section 4.6.3), which no TLS
library does on demand from Python."""

from __future__ import annotations

import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

__all__ = ["CIPHER", "KeyUpdates", "client_secret"]

#: The cipher suite that these records are made for.
CIPHER = "TLS_AES_256_GCM_SHA384"

_SIZE = 48
_ASKS = b"\x18\x00\x00\x01\x01"  # KeyUpdate, update_requested
_HANDSHAKE, _APPLICATION_DATA = b"\x16", b"\x17"


class KeyUpdates:
    """The records that a client goes on with.

    :param secret: its first application traffic secret.
    :param sequence: records that it has sent with that one.
    """

    def __init__(self, secret: bytes, *, sequence: int = 0) -> None:
        self._secret = secret
        self._sequence = sequence

    def record(self) -> bytes:
        """One that asks the peer for new keys; the next one uses new keys itself."""
        record = self._protect(_ASKS, _HANDSHAKE)
        self._secret = self._expand(b"traffic upd", _SIZE)
        self._sequence = 0
        return record

    def data(self, payload: bytes) -> bytes:
        """One with data."""
        return self._protect(payload, _APPLICATION_DATA)

    def _protect(self, content: bytes, kind: bytes) -> bytes:
        key, iv = self._expand(b"key", 32), self._expand(b"iv", 12)
        nonce = (int.from_bytes(iv, "big") ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        head = _APPLICATION_DATA + struct.pack("!HH", 0x0303, len(content) + 17)
        return head + AESGCM(key).encrypt(nonce, content + kind, head)

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack("!HB", size, len(label)) + label + b"\x00"
        return HKDFExpand(hashes.SHA384(), size, info).derive(self._secret)


def client_secret(key_log: Path) -> bytes:
    """The secret of the last client in a log in NSS's format (``SSLContext.keylog_filename``)."""
    lines = [line.split() for line in key_log.read_text().splitlines()]
    return bytes.fromhex([line[2] for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"][-1])
