"""Tokens: nothing but a TokenError, and no text verifies that we did not mint."""

from __future__ import annotations

import base64
import dataclasses

from mksfilter.auth.token import Claims, TokenCodec
from mksfilter.exceptions import TokenError
from mksfilter.request import ConsoleRequest
from tests.auth.keyring import Keyring, key
from tests.support.clock import Clock

__all__ = ["TestOneInput", "edited"]

_KEYS = Keyring(key(), key(2))
_INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"


def _entropy(size: int) -> bytes:
    return bytes(range(size))


_CODEC = TokenCodec(_KEYS, "fuzz", clock=Clock(), entropy=_entropy)
_PLAIN = _CODEC.issue(
    ConsoleRequest(_INSTANCE, project_id="p", user_id="u", request_id="r", mode="full"), ttl=600
).token
_SEALED = _CODEC.issue(
    ConsoleRequest(_INSTANCE, mode="full"), ttl=600, connect_info={"host": "h", "port": 443}
).token
_MINTED = (_PLAIN, _SEALED)


def TestOneInput(data: bytes) -> None:
    """The first byte says what the rest is."""
    kind, rest = data[:1] or b"\0", data[1:]
    if kind < b"\x40":
        _refused(rest.decode("latin-1"))
    elif kind < b"\x80":
        _refused(edited(_MINTED[kind[0] & 1], rest))
    elif kind < b"\xc0":
        _signed(rest)
    else:
        _opened(rest)


def _refused(text: str) -> None:
    try:
        claims = _CODEC.verify(text, uses=("connect", "resume"))
    except TokenError:
        return
    assert text in _MINTED, f"{claims} were never minted in this spelling"


def edited(token: str, edits: bytes) -> str:
    """*token* with a character put in, taken out or replaced for every three bytes of *edits*."""
    text = list(token)
    for what, where, char in zip(edits[::3], edits[1::3], edits[2::3], strict=False):
        # Two bits of the first byte reach what 256 positions do not.
        position = (where | (what & 0x30) << 4) % (len(text) + 1)
        if what & 3 == 0:
            text.insert(position, chr(char))
        elif what & 3 == 1:
            del text[position : position + 1]
        elif what & 3 == 2:
            text[position : position + 1] = chr(char)
        else:
            text[position:] = text[position : position + char]
    return "".join(text)


def _signed(payload: bytes) -> None:
    """A payload that somebody with the key signed, which is no reason to believe it well-formed."""
    signer = _KEYS.primary()
    text = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    head = signer.prefix + text
    try:
        claims = _CODEC.verify(f"{head}.{signer.mac(head.encode()).decode()}")
        _CODEC.connect_info(claims)
    except TokenError:
        return
    assert claims.aud == "fuzz"
    assert claims.use == "connect"
    assert claims.mode in ("full", "view")
    assert claims.iat < claims.exp


_CLAIMS = Claims("A" * 22, "fuzz", _INSTANCE, 1, 2, "connect", "full")


def _opened(sealed: bytes) -> None:
    """A sealed part of somebody else's making never opens."""
    claims = dataclasses.replace(_CLAIMS, sealed=sealed.decode("latin-1"))
    try:
        _CODEC.connect_info(claims)
    except TokenError:
        return
    raise AssertionError("connect info that nobody sealed")
