"""Proofs of possession: only a TokenError, and none holds but those that the key's owner made."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from mksfilter.auth import proof
from mksfilter.exceptions import TokenProofInvalid, TokenProofMissing
from tests.fuzz.token import edited
from tests.support.proofs import BrowserKey

__all__ = ["TestOneInput"]

_ORIGIN = "https://console.example.com"
_JTI = "A" * 22
_TIME = 1_700_000_000
#: The same key in each run, so that inputs that were found stay what they were.
_OWNER = BrowserKey(ec.derive_private_key(0xA11CE, ec.SECP256R1()))
_CNF = proof.thumbprint(_OWNER.public)
# Made once: a signature is another one each time.
_MADE = (
    "1700000000.BHJoh24Z2316ZR1V1fPNCLDxTw8tmaw4PVbnBcxYst4JJy80YNEIRNnYp3wP"
    "b1dUyOHH-jpYxmcfkZnYcQr0OHg."
    "OqnAcOHHx5nS46Qo0ozF1zV0PizIk80wFylVgZdt4neq7LRsx89oe6IOuUVi"
    "W3VaRJ2OyXl-asgPyR0dAiMMkg",
    "1700000007.BHJoh24Z2316ZR1V1fPNCLDxTw8tmaw4PVbnBcxYst4JJy80YNEIRNnYp3wP"
    "b1dUyOHH-jpYxmcfkZnYcQr0OHg."
    "M4XFXvguThmmaZVNA-U3SIjRdTsmTR3HW25wVEKSpCQr7H3TuipHKtO0MaZz"
    "teebQCLJDBuNXFAp_-e4DXHxqw",
)


def TestOneInput(data: bytes) -> None:
    """The first byte says what the rest is."""
    kind, rest = data[:1] or b"\0", data[1:]
    text = rest.decode("latin-1")
    if kind < b"\x40":
        _checked(text)
    elif kind < b"\x80":
        _checked(edited(_MADE[kind[0] & 1], rest))
    elif kind < b"\xa0":
        _key(text)
    elif kind < b"\xc0":
        _key(edited(_OWNER.public, rest))
    else:
        _elsewhere(kind[0] & 3, text)


def _checked(made: str) -> None:
    if _holds(made):
        assert made in _MADE, f"{made!r} was never made in this spelling"


def _key(text: str) -> None:
    try:
        name = proof.thumbprint(text)
    except TokenProofInvalid:
        return
    assert len(name) == 43
    assert (name == _CNF) == (text == _OWNER.public), "two keys of one thumbprint"
    # Whether a point or not: no proof for it verifies, and nothing else is raised.
    assert not _holds(".".join([str(_TIME), text, _MADE[0].split(".")[2]]), cnf=name) or (
        text == _OWNER.public
    )


def _elsewhere(which: int, text: str) -> None:
    """A good proof, at another place, for another token, or at another time."""
    if which == 0:
        assert _holds(_MADE[0], origin=text) == (text == _ORIGIN)
    elif which == 1:
        assert _holds(_MADE[0], jti=text) == (text == _JTI)
    elif which == 2:
        now = int.from_bytes(text.encode("latin-1")[:8], "big")
        assert _holds(_MADE[0], now=now) == (abs(now - _TIME) <= proof.PROOF_LIFETIME)
    else:
        assert _holds(_MADE[0], cnf=text) == (text == _CNF)


def _holds(
    made: str, *, cnf: str = _CNF, origin: str = _ORIGIN, jti: str = _JTI, now: float = _TIME
) -> bool:
    try:
        proof.check(made, cnf=cnf, origin=origin, jti=jti, now=now)
    except (TokenProofInvalid, TokenProofMissing):
        return False
    return True
