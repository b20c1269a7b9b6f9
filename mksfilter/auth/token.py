"""The token: who may open the console of which instance, signed.

``mks1.<kid>.<payload>.<mac>`` in ASCII. The payload is JSON in base64url without padding; the MAC
is HMAC-SHA256 over everything before the last dot. There is one algorithm and no field that
chooses it. Signing and sealing each use a key of their own, derived (HKDF, RFC 5869) from the
repository's key that ``kid`` names.

This module takes values and returns values: keys come from a :class:`KeySource`, the time and
the randomness from callables.
"""

from __future__ import annotations

import binascii
import dataclasses
import functools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mksfilter.auth.clock import require_by_either
from mksfilter.exceptions import (
    TokenAudienceMismatch,
    TokenExpired,
    TokenMalformed,
    TokenMissing,
    TokenNotYetValid,
    TokenSignatureInvalid,
    TokenUseMismatch,
)
from mksfilter.request import ConsoleRequest

__all__ = [
    "MAX_TOKEN_LENGTH",
    "MIN_KEY_BYTES",
    "Claims",
    "Issued",
    "Key",
    "KeySource",
    "TokenCodec",
    "key_name",
]

#: Characters; longer texts are refused unread. A request line of gunicorn's holds 4094.
MAX_TOKEN_LENGTH = 4096
#: Bytes of key material below which a key is refused (the length of HMAC-SHA256's output).
MIN_KEY_BYTES = 32

_VERSION = "mks1"
_USES = frozenset({"connect", "resume"})
_MODES = frozenset({"full", "view"})
_MAC_CHARACTERS = 43  # 32 bytes in base64url without padding
_NONCE_BYTES = 12  # NIST SP 800-38D section 8.2
_MAX_TEXT = 255
_KID = re.compile(r"[0-9a-f]{12}")
_JTI = re.compile(r"[A-Za-z0-9_-]{22}")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclasses.dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Nothing in it is secret, ``sealed`` aside, and that is encrypted.

    :param jti: name of this token, 128 random bits; logs, replay and deny lists go by it.
    :param aud: the deployment it is for.
    :param iid: Nova instance UUID, lower case with dashes.
    :param pid: project of the instance.
    :param uid: user who asked.
    :param rid: id of the API request, for the audit trail.
    :param iat: issued at, seconds since the epoch.
    :param exp: may be used until, seconds since the epoch.
    :param use: ``connect`` opens a session, ``resume`` continues one.
    :param mode: ``full``, or ``view`` for a console without input.
    :param vc: name of the vCenter that has the instance; None: any.
    :param max: end of the session whatever happens, seconds since the epoch; None: open.
    :param sealed: encrypted connect info (``ticket_at = issue``).
    :param sid: the session that a ``resume`` token continues: the ``jti`` of its first token. None
        in a first token; see :attr:`session_id`.
    :param auth_time: when that first token was issued, seconds since the epoch. None in a first
        token; see :attr:`began`. (The name is OpenID Connect Core's, section 2.)
    :param cnf: thumbprint of the key that a ``resume`` token is bound to (RFC 7800); see
        :mod:`mksfilter.auth.proof`.
    """

    jti: str
    aud: str
    iid: str
    iat: int
    exp: int
    use: str
    mode: str
    pid: str = ""
    uid: str = ""
    rid: str = ""
    vc: str | None = None
    max: int | None = None
    sealed: str | None = dataclasses.field(default=None, repr=False)
    sid: str | None = None
    auth_time: int | None = None
    cnf: str | None = None

    @property
    def session_id(self) -> str:
        """Names the session through every resume token of it; nothing secret, opens nothing."""
        return self.sid or self.jti

    @property
    def began(self) -> int:
        """When Nova allowed this session, seconds since the epoch."""
        return self.iat if self.auth_time is None else self.auth_time


@dataclasses.dataclass(frozen=True, slots=True)
class Issued:
    """A token, and what it says.

    :param token: the secret; kept out of the ``repr``, so that no log gets it by mistake.
    :param claims: may be logged where the token may not.
    """

    token: str = dataclasses.field(repr=False)
    claims: Claims


class Key:
    """A repository key and the keys derived from it, one per purpose."""

    __slots__ = ("_aead", "_hmac", "_list_hmac", "kid", "prefix")

    def __init__(self, secret: bytes) -> None:
        """:param secret: at least :data:`MIN_KEY_BYTES` random bytes; not kept."""
        if len(secret) < MIN_KEY_BYTES:
            raise ValueError(f"a key needs at least {MIN_KEY_BYTES} bytes")
        #: Names the key by its content: its file's number changes when it is promoted.
        self.kid = _derive(secret, b"name", 6).hex()
        self.prefix = f"{_VERSION}.{self.kid}."
        self._hmac = hmac.HMAC(_derive(secret, b"sign", 32), hashes.SHA256())
        self._list_hmac = hmac.HMAC(_derive(secret, b"list", 32), hashes.SHA256())
        self._aead = AESGCM(_derive(secret, b"seal", 32))

    def __repr__(self) -> str:
        return f"<Key {self.kid}>"

    def mac(self, data: bytes) -> bytes:
        """HMAC-SHA256 of *data* in base64url."""
        # Copying an initialised context is twice as fast as keying a new one.
        context = self._hmac.copy()
        context.update(data)
        return _encode(context.finalize())

    def list_mac(self, data: bytes) -> bytes:
        """As :meth:`mac`, for a revocation list: no token's MAC is ever one of a list."""
        context = self._list_hmac.copy()
        context.update(data)
        return _encode(context.finalize())

    def seal(self, nonce: bytes, data: bytes, bound_to: bytes) -> bytes:
        """*data* encrypted with AES-256-GCM; opens only with the same *bound_to*."""
        return nonce + self._aead.encrypt(nonce, data, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """:raises InvalidTag: other key, other *bound_to*, or changed bytes."""
        return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)


class KeySource(Protocol):
    """Where keys come from; :class:`mksfilter.auth.keys.KeyRepository` is one."""

    def primary(self) -> Key:
        """The key to sign with."""

    def get(self, kid: str) -> Key:
        """The key of that name.

        :raises TokenKeyUnknown: there is none.
        """


class TokenCodec:
    """Mints and verifies tokens of one audience."""

    def __init__(
        self,
        keys: KeySource,
        audience: str,
        *,
        clock: Callable[[], float] = time.time,
        as_before: Callable[[], float | None] = lambda: None,
        entropy: Callable[[int], bytes] = os.urandom,
        clock_skew: int = 30,
    ) -> None:
        """
        :param clock: seconds since the epoch.
        :param as_before: the same before the clock was set, see
            :class:`~mksfilter.auth.clock.SetClock`; a token may be good by either.
        :param entropy: that many random bytes.
        :param clock_skew: seconds by which clocks may differ, either way.
        """
        self._keys = keys
        self._audience = audience
        self._clock = clock
        self._as_before = as_before
        self._entropy = entropy
        self._skew = clock_skew

    def now(self) -> int:
        """Seconds since the epoch by this codec's clock."""
        return int(self._clock())

    def require_key(self) -> None:
        """:raises KeyRepositoryError: no key to sign with."""
        self._keys.primary()

    def issue(
        self,
        request: ConsoleRequest,
        *,
        ttl: int,
        use: str = "connect",
        session_end: int | None = None,
        connect_info: Mapping[str, Any] | None = None,
    ) -> Issued:
        """A new token for *request*.

        :param ttl: seconds for which it can be used.
        :param session_end: seconds since the epoch at which the session ends; caps the ttl too.
        :param connect_info: JSON-able; sealed into the token.
        :raises ValueError: a claim that :meth:`verify` would refuse.
        :raises KeyRepositoryError: no key to sign with.
        """
        key = self._keys.primary()
        now = self.now()
        jti = _encode(self._entropy(16)).decode()
        claims = Claims(
            jti=jti,
            aud=self._audience,
            iid=request.instance_id,
            iat=now,
            exp=now + ttl if session_end is None else min(now + ttl, session_end),
            use=use,
            mode=request.mode,
            pid=request.project_id,
            uid=request.user_id,
            rid=request.request_id,
            vc=request.vcenter,
            max=session_end,
            sealed=None if connect_info is None else self._seal(key, jti, connect_info),
        )
        return Issued(_sign(key, claims), claims)

    def renew(self, claims: Claims, *, ttl: int, cnf: str = "", kid: str = "") -> str:
        """A ``resume`` token for the session of *claims*, never good for longer than its ``max``.

        :param ttl: seconds for which it can be used.
        :param cnf: thumbprint of the key to bind it to; empty: the one *claims* are bound to.
        :param kid: the key by which the session is vouched for; empty: none needs to be.

        Connect info is not taken over: the ticket in it was good for one connection.

        :raises TokenExpired: the session has reached its ``max``.
        :raises TokenKeyUnknown: *kid* is gone: what a leaked key has opened is not carried over to
            the key that took its place.
        """
        if kid:
            self._keys.get(kid)
        now = self.now()
        if claims.max is not None and claims.max <= now:
            raise TokenExpired(f"token {claims.jti}: the session's time is over")
        renewed = dataclasses.replace(
            claims,
            jti=_encode(self._entropy(16)).decode(),
            iat=now,
            exp=now + ttl if claims.max is None else min(now + ttl, claims.max),
            use="resume",
            sealed=None,
            sid=claims.session_id,
            auth_time=claims.began,
            cnf=cnf or claims.cnf,
        )
        return _sign(self._keys.primary(), renewed)

    def verify(self, token: str, *, uses: Collection[str] = ("connect",)) -> Claims:
        """The claims of a token that is authentic, for here, for now and for one of *uses*.

        :raises TokenError: one of its subclasses, naming the token by ``jti`` where that is known.
        :raises KeyRepositoryError: no keys to verify with.
        """
        claims = self.authenticate(token)
        if claims.aud != self._audience:
            raise TokenAudienceMismatch(
                f"token {claims.jti} was made for audience {claims.aud!r}, not {self._audience!r}"
            )
        require_by_either(
            functools.partial(self._require_current, claims),
            self._clock,
            self._as_before,
            TokenNotYetValid,
            TokenExpired,
        )
        if claims.use not in uses:
            raise TokenUseMismatch(f"token {claims.jti} is for {claims.use}, not for {set(uses)}")
        return claims

    def _require_current(self, claims: Claims, now: float) -> None:
        if claims.iat > now + self._skew:
            raise TokenNotYetValid(
                f"token {claims.jti} was issued {claims.iat - now:.0f} s in the future; "
                f"compare the clocks of the filter's node and this one"
            )
        if claims.exp + self._skew <= now:
            raise TokenExpired(f"token {claims.jti} expired {now - claims.exp:.0f} s ago")
        # Clocks that differ may shorten a session and never lengthen it.
        if claims.max is not None and claims.max <= now:
            raise TokenExpired(
                f"token {claims.jti}: its session ended {now - claims.max:.0f} s ago"
            )

    def authenticate(self, token: str) -> Claims:
        """The claims of a token made with one of our keys, be it expired or for elsewhere.

        :raises TokenMissing, TokenMalformed, TokenKeyUnknown, TokenSignatureInvalid:
        """
        if not token:
            raise TokenMissing("no token in the request")
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenMalformed(f"longer than {MAX_TOKEN_LENGTH} characters")
        parts = token.split(".")
        if len(parts) != 4 or parts[0] != _VERSION or not token.isascii():
            raise TokenMalformed(f"not of the form {_VERSION}.<kid>.<payload>.<mac>")
        _, kid, payload, mac = parts
        if len(mac) != _MAC_CHARACTERS or not _KID.fullmatch(kid):
            raise TokenMalformed("key name or MAC of the wrong length or alphabet")
        key = self._keys.get(kid)
        # The MAC is compared as text: a second spelling of the same bytes is another text.
        if not constant_time.bytes_eq(
            key.mac(token[: -_MAC_CHARACTERS - 1].encode()), mac.encode()
        ):
            raise TokenSignatureInvalid(f"the MAC does not match key {kid}")
        return _claims(payload)

    def connect_info(self, claims: Claims) -> dict[str, Any] | None:
        """The connect info sealed into the token of *claims*, None without any.

        :raises TokenKeyUnknown: sealed with a key that is gone.
        :raises TokenSignatureInvalid: sealed for another token.
        """
        if claims.sealed is None:
            return None
        kid, _, box = claims.sealed.partition(".")
        key = self._keys.get(kid)
        try:
            info = json.loads(key.open(_decode(box), claims.jti.encode()))
        except (InvalidTag, ValueError) as exc:
            raise TokenSignatureInvalid(
                f"token {claims.jti}: its connect info does not open"
            ) from exc
        if not isinstance(info, dict):
            raise TokenMalformed(f"token {claims.jti}: its connect info is not an object")
        return info

    def _seal(self, key: Key, jti: str, info: Mapping[str, Any]) -> str:
        box = key.seal(self._entropy(_NONCE_BYTES), _to_json(dict(info)).encode(), jti.encode())
        return f"{key.kid}.{_encode(box).decode()}"


def key_name(token: str) -> str:
    """The ``kid`` in *token*, which need not be good; empty for a token of Nova's."""
    parts = token.split(".")
    return parts[1] if len(parts) == 4 else ""


def _sign(key: Key, claims: Claims) -> str:
    _check(claims, ValueError)
    document: dict[str, Any] = {
        "jti": claims.jti,
        "aud": claims.aud,
        "iid": claims.iid,
        "iat": claims.iat,
        "exp": claims.exp,
        "use": claims.use,
        "mode": claims.mode,
    }
    for name in _OPTIONAL:
        value = getattr(claims, name)
        if value:
            document[name] = value
    signed = key.prefix.encode() + _encode(_to_json(document).encode())
    token = (signed + b"." + key.mac(signed)).decode()
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValueError(f"the token would have {len(token)} characters, over {MAX_TOKEN_LENGTH}")
    return token


def _claims(payload: str) -> Claims:
    # Signed by a key of ours, and still not trusted to be well-formed: the signer may have a bug.
    try:
        document = json.loads(_decode(payload))
    except (ValueError, RecursionError) as exc:
        raise TokenMalformed("the payload is not JSON in base64url") from exc
    if not isinstance(document, dict):
        raise TokenMalformed("the payload is not a JSON object")
    for name in _SHARED:
        if type(value := document.get(name)) is str:
            document[name] = sys.intern(value)
    try:
        claims = Claims(**document)
    except TypeError as exc:
        # An unknown claim may be a restriction of a later version: better refuse than ignore.
        raise TokenMalformed("a claim is missing or unknown") from exc
    _check(claims, TokenMalformed)
    return claims


#: Claims that all tokens of a deployment have in common: one text of each is enough.
_SHARED = ("aud", "use", "mode")
_OPTIONAL = ("pid", "uid", "rid", "vc", "max", "sealed", "sid", "auth_time", "cnf")


def _check(claims: Claims, error: type[Exception]) -> None:
    # type() rather than isinstance(): to the latter True is a number.
    if type(claims.jti) is not str or not _JTI.fullmatch(claims.jti):
        raise error("claim jti is not 22 characters of base64url")
    if type(claims.iid) is not str or not _UUID.fullmatch(claims.iid):
        raise error("claim iid is not a UUID in lower case with dashes")
    for name, value in (
        ("aud", claims.aud),
        ("pid", claims.pid),
        ("uid", claims.uid),
        ("rid", claims.rid),
        ("vc", "" if claims.vc is None else claims.vc),
    ):
        if type(value) is not str or len(value) > _MAX_TEXT or not value.isprintable():
            raise error(f"claim {name} is not printable text of up to {_MAX_TEXT} characters")
    if type(claims.iat) is not int or type(claims.exp) is not int or claims.exp <= claims.iat:
        raise error("claims iat and exp are not whole seconds in order")
    if claims.max is not None and (type(claims.max) is not int or claims.max < claims.exp):
        raise error("claim max is not a second after exp")
    if type(claims.use) is not str or claims.use not in _USES:
        raise error("claim use is unknown")
    if type(claims.mode) is not str or claims.mode not in _MODES:
        raise error("claim mode is unknown")
    if claims.sealed is not None and type(claims.sealed) is not str:
        raise error("claim sealed is not text")
    _check_session(claims, error)


def _check_session(claims: Claims, error: type[Exception]) -> None:
    """The claims that only a ``resume`` token has."""
    if (claims.sid, claims.auth_time, claims.cnf) == (None, None, None):
        return
    if claims.use != "resume":
        raise error("claims sid, auth_time and cnf belong to a resume token")
    if claims.sid is not None and (type(claims.sid) is not str or not _JTI.fullmatch(claims.sid)):
        raise error("claim sid is not 22 characters of base64url")
    # It may lie after iat: another node, with another clock, issued the first token.
    if claims.auth_time is not None and (type(claims.auth_time) is not int or claims.auth_time < 0):
        raise error("claim auth_time is not a whole second")
    if claims.cnf is not None and (
        type(claims.cnf) is not str or not _THUMBPRINT.fullmatch(claims.cnf)
    ):
        raise error("claim cnf is not a SHA-256 thumbprint in base64url")


def _derive(secret: bytes, purpose: bytes, length: int) -> bytes:
    info = b"mksfilter " + _VERSION.encode() + b" " + purpose
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(secret)


# As those of :mod:`base64`, whose functions are three calls of Python each.
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def _encode(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


def _decode(text: str) -> bytes:
    """:raises ValueError: anything but the one spelling that :func:`_encode` writes."""
    raw = text.encode("ascii")
    try:
        data = binascii.a2b_base64(raw.translate(_STANDARD) + b"=" * (-len(raw) % 4))
    except binascii.Error as exc:
        raise ValueError("not base64url") from exc
    if _encode(data) != raw:
        raise ValueError("not canonical base64url")
    return data
