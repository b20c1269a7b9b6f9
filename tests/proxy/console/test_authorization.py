"""Which tokens open a console."""

from __future__ import annotations

import base64
import dataclasses
import time

import pytest

from mksfilter.auth.proof import thumbprint
from mksfilter.auth.revocation import Revocation, RevocationList
from mksfilter.auth.token import Claims, TokenCodec
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import (
    KeyRepositoryError,
    KeysUnavailable,
    TokenMalformed,
    TokenProofInvalid,
    TokenProofMissing,
    TokenReplayed,
    TokenRevoked,
    TokenUseMismatch,
    VCenterUnreachable,
)
from mksfilter.proxy.console.authorization import Authorization
from mksfilter.proxy.console.handshake import Handshake
from mksfilter.request import ConsoleRequest
from tests.auth.keyring import Keyring, key
from tests.support.proofs import BrowserKey

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
NOVA_TOKEN = "0f8b4d9c-3c1e-4d0e-9a52-0d5a7a0c9d11"


ORIGIN = "https://console.example.com"
KEY = BrowserKey()


class Revocations:
    """The list as it is on this node."""

    current = RevocationList()


class Nova:
    """Nova, which knows one token of its own."""

    asked = 0

    def verify(self, token: str) -> tuple[Claims, Endpoint | None]:
        self.asked += 1
        claims = Claims(
            jti=token, aud="tests", iid=INSTANCE, iat=0, exp=60, use="connect", mode="full"
        )
        return claims, Endpoint("websocket", "esxi-1", 443)


class Once:
    """Lets each name pass once."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def claim(self, jti: str, exp: int) -> bool:
        if jti in self.used:
            raise TokenReplayed(jti)
        self.used.add(jti)
        return True

    def claim_proof(self, jti: str, proof: str, exp: int) -> bool:
        if jti in self.used:
            raise TokenReplayed(jti)
        return self.claim(f"{jti}.{proof}", exp)

    def give_back(self, jti: str) -> None:
        self.used.remove(jti)


@pytest.fixture
def codec() -> TokenCodec:
    return TokenCodec(Keyring(key()), "tests")


def link(token: str) -> Handshake:
    """A request by a console link."""
    return Handshake("key", "binary", token)


def page(token: str, proof: str = "") -> Handshake:
    """A request of our page."""
    return Handshake("key", "mks.v1", token, in_subprotocol=True, proof=proof)


def proof(token: str, codec: TokenCodec, *, by: BrowserKey = KEY, origin: str = ORIGIN) -> str:
    jti = codec.authenticate(token).jti
    return by.proof(origin=origin, jti=jti, time=int(time.time()))


@pytest.fixture
def resume(codec: TokenCodec) -> str:
    """A token to reconnect with, bound to :data:`KEY`."""
    claims = codec.issue(ConsoleRequest(INSTANCE, user_id="u1", mode="full"), ttl=60).claims
    return codec.renew(claims, ttl=60, cnf=thumbprint(KEY.public))


def test_without_keys_nobody_can_tell(codec: TokenCodec, resume: str, monkeypatch) -> None:
    """It is no fault of the token's, and lets nobody in."""

    def unreadable(kid: str) -> None:
        raise KeyRepositoryError("key repository /keys: permission denied")

    authorization = Authorization(codec)
    token = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token
    proven = page(resume, proof(resume, codec))
    monkeypatch.setattr(codec._keys, "get", unreadable)
    for request in (link(token), proven):
        with pytest.raises(KeysUnavailable, match="permission denied"):
            authorization.verify(request, ORIGIN)
    with pytest.raises(KeysUnavailable):
        authorization.check(token)


def test_a_link_opens_a_console(codec: TokenCodec) -> None:
    authorization = Authorization(codec)
    token = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token
    claims, endpoint = authorization.verify(link(token), ORIGIN)
    assert (claims.iid, claims.use, endpoint) == (INSTANCE, "connect", None)
    authorization.check(token)
    with pytest.raises(TokenMalformed):
        authorization.check(token[:-1])


def test_a_proof_by_the_time_before_the_clock_was_set_is_good(codec, resume) -> None:
    """A page tells the time of the node that it comes from."""
    request = page(resume, proof(resume, codec))
    wrong = {"clock": lambda: time.time() + 3600}
    with pytest.raises(TokenProofInvalid, match="s old"):
        Authorization(codec, **wrong).verify(request, ORIGIN)
    Authorization(codec, **wrong, as_before=time.time).verify(request, ORIGIN)
    thief = page(resume, proof(resume, codec, by=BrowserKey()))
    with pytest.raises(TokenProofInvalid):
        Authorization(codec, **wrong, as_before=time.time).verify(thief, ORIGIN)


def test_a_resume_token_opens_it_again_for_whoever_has_its_key(
    codec: TokenCodec, resume: str
) -> None:
    request = page(resume, proof(resume, codec))
    claims, _ = Authorization(codec).verify(request, ORIGIN)
    assert (claims.iid, claims.use) == (INSTANCE, "resume")


def test_a_stolen_resume_token_opens_nothing(codec: TokenCodec, resume: str) -> None:
    authorization = Authorization(codec)
    with pytest.raises(TokenProofMissing):
        authorization.verify(page(resume), ORIGIN)
    with pytest.raises(TokenProofInvalid):
        authorization.verify(page(resume, proof(resume, codec, by=BrowserKey())), ORIGIN)
    elsewhere = proof(resume, codec, origin="https://evil.example")
    with pytest.raises(TokenProofInvalid):
        authorization.verify(page(resume, elsewhere), ORIGIN)


def test_a_resume_token_is_never_a_link(codec: TokenCodec, resume: str) -> None:
    authorization = Authorization(codec)
    with pytest.raises(TokenUseMismatch):
        authorization.check(resume)
    request = dataclasses.replace(link(resume), proof=proof(resume, codec))
    with pytest.raises(TokenUseMismatch):
        authorization.verify(request, ORIGIN)


def test_a_resume_token_that_is_bound_to_no_key_opens_nothing(codec: TokenCodec) -> None:
    unbound = codec.renew(codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).claims, ttl=60)
    with pytest.raises(TokenProofMissing):
        Authorization(codec).verify(page(unbound, proof(unbound, codec)), ORIGIN)


def test_what_is_revoked_opens_nothing(codec: TokenCodec, resume: str) -> None:
    revocations = Revocations()
    authorization = Authorization(codec, revocations=revocations)  # type: ignore[arg-type]
    token = codec.issue(ConsoleRequest(INSTANCE, user_id="u1", mode="full"), ttl=60).token
    authorization.verify(link(token), ORIGIN)
    entry = Revocation("user", "u1", int(time.time()))
    revocations.current = RevocationList([entry])
    with pytest.raises(TokenRevoked):
        authorization.verify(link(token), ORIGIN)
    with pytest.raises(TokenRevoked):
        authorization.check(token)
    with pytest.raises(TokenRevoked):
        authorization.verify(page(resume, proof(resume, codec)), ORIGIN)


def test_novas_own_tokens_are_asked_about_once_where_that_is_set_up(codec: TokenCodec) -> None:
    nova = Nova()
    authorization = Authorization(codec, nova=nova)  # type: ignore[arg-type]
    authorization.check(NOVA_TOKEN)
    assert nova.asked == 0
    claims, endpoint = authorization.verify(link(NOVA_TOKEN), "")
    assert (claims.iid, nova.asked) == (INSTANCE, 1)
    assert endpoint is not None
    with pytest.raises(TokenMalformed):
        Authorization(codec).verify(link(NOVA_TOKEN), "")
    with pytest.raises(TokenMalformed):
        Authorization(codec).check(NOVA_TOKEN)


def test_a_token_is_used_up_only_where_that_is_asked_for(codec: TokenCodec) -> None:
    claims = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).claims
    once = Authorization(codec, once_only=Once())
    with once.claim(claims):
        pass
    with pytest.raises(TokenReplayed), once.claim(claims):
        pass
    for _ in range(2):
        with Authorization(codec).claim(claims):
            pass


def test_a_resume_token_is_used_up_when_its_bearer_has_heard_the_next_and_no_proof_comes_twice(
    codec: TokenCodec, resume: str
) -> None:
    """Its answer may be lost on the way, and the page has no other token."""
    once = Authorization(codec, once_only=Once())
    first, second, third = (proof(resume, codec) for _ in range(3))
    claims, _ = once.verify(page(resume, first), ORIGIN)
    with once.claim(claims, first):
        pass
    with pytest.raises(TokenReplayed), once.claim(claims, first):
        pass
    with once.claim(claims, second):
        pass
    once.give_back(claims)  # as at the end of a connection that said nothing
    for seen in (first, second):
        with pytest.raises(TokenReplayed), once.claim(claims, seen):
            pass
    once.heard(claims)
    once.heard(claims)  # on the other connection
    with pytest.raises(TokenReplayed), once.claim(claims, third):
        pass


def test_whoever_has_seen_a_proof_makes_no_other_of_it(codec: TokenCodec, resume: str) -> None:
    """(r, -s) is a second signature that holds wherever (r, s) does."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    seen = proof(resume, codec)
    time, key, signature = seen.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    turned = order - int.from_bytes(raw[32:], "big")
    signature = base64.urlsafe_b64encode(raw[:32] + turned.to_bytes(32, "big")).rstrip(b"=")
    forged = f"{time}.{key}.{signature.decode()}"
    once = Authorization(codec, once_only=Once())
    claims, _ = once.verify(page(resume, seen), ORIGIN)
    once.verify(page(resume, forged), ORIGIN)
    with once.claim(claims, seen):
        pass
    with pytest.raises(TokenReplayed), once.claim(claims, forged):
        pass


def test_a_token_that_opened_nothing_is_good_again(codec: TokenCodec) -> None:
    """A page has one resume token: with a vCenter away for a moment it was refused for ever."""
    claims = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).claims
    once = Authorization(codec, once_only=Once())
    with pytest.raises(VCenterUnreachable), once.claim(claims):
        raise VCenterUnreachable("away")
    with once.claim(claims), pytest.raises(TokenReplayed), once.claim(claims):
        pass
    with pytest.raises(TokenReplayed), once.claim(claims):
        pass
