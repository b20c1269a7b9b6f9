"""A browser's key pair, as WebCrypto makes it."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from mksfilter.auth.proof import signed_text

__all__ = ["BrowserKey"]


class BrowserKey:
    """Offers its public half with the first request, and proofs afterwards.

    :param private: the private half; by default a new one.
    """

    def __init__(self, private: ec.EllipticCurvePrivateKey | None = None) -> None:
        self._private = private or ec.generate_private_key(ec.SECP256R1())
        point = self._private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.public = _encode(point)

    def proof(self, *, origin: str, jti: str, time: int) -> str:
        """A proof, as it stands behind ``mks.proof.``."""
        signature = self._private.sign(signed_text(origin, jti, time), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(signature)
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{time}.{self.public}.{_encode(raw)}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
