"""Which tokens open a console."""

from __future__ import annotations

import pytest

from mksfilter.auth.token import Claims, TokenCodec
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import TokenMalformed, TokenReplayed
from mksfilter.proxy.console.authorization import Authorization
from mksfilter.request import ConsoleRequest
from tests.auth.keyring import Keyring, key

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
NOVA_TOKEN = "0f8b4d9c-3c1e-4d0e-9a52-0d5a7a0c9d11"


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
        self.used: set[tuple[str, int]] = set()

    def claim(self, jti: str, exp: int) -> None:
        if (jti, exp) in self.used:
            raise TokenReplayed(jti)
        self.used.add((jti, exp))


@pytest.fixture
def codec() -> TokenCodec:
    return TokenCodec(Keyring(key()), "tests")


def test_links_and_resume_tokens_open_a_console(codec: TokenCodec) -> None:
    authorization = Authorization(codec)
    token = codec.issue(ConsoleRequest(INSTANCE), ttl=60).token
    claims, endpoint = authorization.verify(token)
    assert (claims.iid, claims.use, endpoint) == (INSTANCE, "connect", None)
    resumed, _ = authorization.verify(codec.renew(claims, ttl=60))
    assert (resumed.iid, resumed.use) == (INSTANCE, "resume")
    authorization.check(token)
    with pytest.raises(TokenMalformed):
        authorization.check(token[:-1])


def test_novas_own_tokens_are_asked_about_once_where_that_is_set_up(codec: TokenCodec) -> None:
    nova = Nova()
    authorization = Authorization(codec, nova=nova)  # type: ignore[arg-type]
    authorization.check(NOVA_TOKEN)
    assert nova.asked == 0
    claims, endpoint = authorization.verify(NOVA_TOKEN)
    assert (claims.iid, nova.asked) == (INSTANCE, 1)
    assert endpoint is not None
    for refuses in (Authorization(codec).verify, Authorization(codec).check):
        with pytest.raises(TokenMalformed):
            refuses(NOVA_TOKEN)


def test_a_token_is_used_up_only_where_that_is_asked_for(codec: TokenCodec) -> None:
    claims = codec.issue(ConsoleRequest(INSTANCE), ttl=60).claims
    once = Authorization(codec, once_only=Once())
    once.claim(claims)
    with pytest.raises(TokenReplayed):
        once.claim(claims)
    for _ in range(2):
        Authorization(codec).claim(claims)
