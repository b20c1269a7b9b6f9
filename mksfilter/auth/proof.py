"""Proof of possession: a resume token is worth nothing to whoever did not make its key.

What DPoP (RFC 9449) does for HTTP, for the opening of a WebSocket, and as there without shared
state. A page makes a P-256 key pair whose private half its browser does not give away, and offers
the public half with its first request::

    Sec-WebSocket-Protocol: mks.v1, binary, mks.token.<token>, mks.key.<public key>

The thumbprint of that key (RFC 7638) stands in every resume token of the session (claim ``cnf``,
RFC 7800). A request with a resume token brings the key and a signature instead::

    Sec-WebSocket-Protocol: mks.v1, binary, mks.token.<token>, mks.proof.<time>.<key>.<signature>

The signature covers the origin of the page, the token's ``jti`` and the time, so that a proof is
good for one token, at one deployment, for a minute or two.

Public keys are the 65 bytes of an uncompressed point (SEC 1, section 2.3.3) and signatures the 64
bytes of r and s (FIPS 186-5), which is how WebCrypto exports both; in text they are base64url
without padding.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from mksfilter.exceptions import TokenProofInvalid, TokenProofMissing

__all__ = ["PROOF_LIFETIME", "check", "name", "signed_text", "thumbprint"]

#: Seconds for which a proof is good, and by which its time may lie ahead. A page takes the time
#: from the proxy when its session opens, so the clock of the machine it runs on does not matter.
PROOF_LIFETIME = 120

_KEY = re.compile(r"[A-Za-z0-9_-]{87}")
_PROOF = re.compile(r"([1-9][0-9]{0,11})\.([A-Za-z0-9_-]{87})\.([A-Za-z0-9_-]{86})")
_UNCOMPRESSED = 0x04
_COORDINATE = 32


def thumbprint(key: str) -> str:
    """The JWK thumbprint (RFC 7638, SHA-256) of a public key, for the claim ``cnf``.

    :param key: an uncompressed P-256 point in base64url. That it lies on the curve is not looked
        at: no proof is ever good for one that does not.
    :returns: 43 characters of base64url.
    :raises TokenProofInvalid: *key* has another form.
    """
    point = _decode(key) if _KEY.fullmatch(key) else b""
    if len(point) != 1 + 2 * _COORDINATE or point[0] != _UNCOMPRESSED or _encode(point) != key:
        raise TokenProofInvalid("the key is not an uncompressed P-256 point in base64url")
    x, y = point[1 : 1 + _COORDINATE], point[1 + _COORDINATE :]
    # RFC 7638 section 3: the required members, in lexicographic order, without white space.
    document = f'{{"crv":"P-256","kty":"EC","x":"{_encode(x)}","y":"{_encode(y)}"}}'
    return _encode(hashlib.sha256(document.encode("ascii")).digest())


def signed_text(origin: str, jti: str, time: int) -> bytes:
    """What a proof signs.

    :param origin: of the page, as its browser sends it (RFC 6454): ``https://console.example.com``.
    :param jti: the token's.
    :param time: seconds since the epoch.
    """
    return f"mks.proof\n{origin}\n{jti}\n{time}".encode()


def name(proof: str) -> str:
    """What stands for *proof*, which was found to hold, where each is taken once.

    Of an ECDSA signature anybody makes a second one that holds too, with -s in the place of s: so
    r alone counts, and the time. Another r takes the key.

    :returns: 22 characters of base64url.
    """
    time, _, signature = proof.split(".")
    made = f"{time}.".encode() + _decode(signature)[:32]
    return _encode(hashlib.sha256(made).digest()[:16])


def check(proof: str, *, cnf: str, origin: str, jti: str, now: float) -> None:
    """Make sure that *proof* was made with the key that a token is bound to, for this request.

    :param proof: ``<time>.<key>.<signature>``; empty when the request has none.
    :param cnf: the token's claim; empty when the token is bound to no key.
    :param origin: the request's Origin header.
    :param now: seconds since the epoch.
    :raises TokenProofMissing: there is no proof, or nothing that it could prove.
    :raises TokenProofInvalid: it is malformed, too old, or made with another key, for another
        token or at another origin.
    """
    if not cnf:
        raise TokenProofMissing(f"token {jti} is bound to no key")
    if not proof:
        raise TokenProofMissing(f"token {jti} comes without a proof of possession")
    match = _PROOF.fullmatch(proof)
    if match is None or _encode(_decode(match[3])) != match[3]:
        raise TokenProofInvalid(f"token {jti}: the proof is not of the form TIME.KEY.SIGNATURE")
    time, key, signature = int(match[1]), match[2], _decode(match[3])
    if not hmac.compare_digest(thumbprint(key).encode(), cnf.encode()):
        raise TokenProofInvalid(f"token {jti}: the proof is made with another key")
    if abs(now - time) > PROOF_LIFETIME:
        raise TokenProofInvalid(f"token {jti}: the proof is {now - time:.0f} s old")
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _decode(key))
        public.verify(
            encode_dss_signature(r, s),
            signed_text(origin, jti, time),
            ec.ECDSA(hashes.SHA256()),
        )
    except (InvalidSignature, ValueError):
        raise TokenProofInvalid(f"token {jti}: the proof's signature does not match") from None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
