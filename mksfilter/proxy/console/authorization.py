"""Whether a request opens a console, and which one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from mksfilter.auth import proof
from mksfilter.auth.clock import require_by_either
from mksfilter.auth.nova_tokens import NovaTokens, is_nova_token
from mksfilter.exceptions import (
    KeyRepositoryError,
    KeysUnavailable,
    ReplayCacheUnavailable,
    TokenProofInvalid,
    TokenReplayed,
    TokenRevoked,
    TokenUseMismatch,
)
from mksfilter.log import event

if TYPE_CHECKING:
    from mksfilter.auth.revocation import RevocationFile
    from mksfilter.auth.token import Claims, TokenCodec
    from mksfilter.endpoint import Endpoint
    from mksfilter.proxy.console.handshake import Handshake

__all__ = ["Authorization", "Instances", "OnceOnly"]

LOG = logging.getLogger(__name__)


class OnceOnly(Protocol):
    """Memory of the tokens that were used; :class:`mksfilter.auth.replay.ReplayGuard` is one."""

    def claim(self, jti: str, exp: int) -> bool:
        """Use the token *jti*, which expires at *exp* (seconds since the epoch).

        :returns: whether :meth:`give_back` may take it back.
        :raises TokenReplayed: it was used before.
        :raises ReplayCacheUnavailable: the memory does not answer.
        """

    def claim_proof(self, jti: str, proof: str, exp: int) -> bool:
        """Use one proof for the token *jti*, which is used up only by :meth:`claim`.

        :raises TokenReplayed: the token is used up, or this very proof came before.
        :raises ReplayCacheUnavailable: the memory does not answer.
        """

    def require_unused(self, jti: str) -> None:
        """
        :raises TokenReplayed: the token *jti* was used before.
        :raises ReplayCacheUnavailable: the memory does not answer.
        """

    def give_back(self, jti: str) -> None:
        """The token *jti* was used for nothing, and may be used again."""


class Instances(Protocol):
    """What tells whether a session may go on;
    :class:`mksfilter.auth.nova_instances.NovaInstances` is one."""

    def confirm(self, claims: Claims) -> None:
        """
        :raises ConsoleError: the instance is gone, or another project's, or nobody can tell.
        """


class Authorization:
    """
    :param instances: asked at a reconnect; None: nobody is.
    :param nova: asks Nova about its own tokens; None: they are refused.
    :param once_only: None where a token may be used again until it expires.
    :param revocations: what is revoked; None: nothing.
    :param clock: seconds since the epoch.
    :param as_before: the same before the clock was set; see
        :class:`~mksfilter.auth.clock.SetClock`.
    """

    def __init__(
        self,
        codec: TokenCodec,
        *,
        nova: NovaTokens | None = None,
        instances: Instances | None = None,
        once_only: OnceOnly | None = None,
        revocations: RevocationFile | None = None,
        clock: Callable[[], float] = time.time,
        as_before: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._codec = codec
        self._nova = nova
        self._instances = instances
        self._once_only = once_only
        self._revocations = revocations
        self._clock = clock
        self._as_before = as_before

    def asks_nova(self, request: Handshake) -> bool:
        """Whether :meth:`verify` has to ask Nova about the token of *request*."""
        return self._nova is not None and is_nova_token(request.token)

    def verify(self, request: Handshake, origin: str) -> tuple[Claims, Endpoint | None]:
        """What the token of *request* allows, and where the console is if the token alone tells.

        :param origin: the Origin header; empty without one.
        :raises TokenError: it allows nothing, or not to this sender.
        :raises KeysUnavailable: nobody can tell at the moment.
        :raises TokenServiceUnavailable: Nova does not answer about a token of its own.
        """
        token = request.token
        endpoint: Endpoint | None = None
        if self._nova is not None and is_nova_token(token):
            claims, endpoint = self._nova.verify(token)
        else:
            claims = self._verify(token, ("connect", "resume"))
        if claims.use == "resume":
            if not request.in_subprotocol:
                raise TokenUseMismatch(f"token {claims.jti} is for a reconnect and no link")
            self._check_proof(request, claims, origin)
        self._refuse_revoked(claims)
        return claims, endpoint

    def _check_proof(self, request: Handshake, claims: Claims, origin: str) -> None:
        def check(now: float) -> None:
            proof.check(request.proof, cnf=claims.cnf or "", origin=origin, jti=claims.jti, now=now)

        require_by_either(check, self._clock, self._as_before, TokenProofInvalid)

    def check(self, token: str) -> None:
        """Whether this token would open a console as a link; Nova is not asked about one of its
        own twice.

        :raises TokenError: it would not.
        :raises KeysUnavailable: nobody can tell at the moment.
        """
        if self._nova is None or not is_nova_token(token):
            self._refuse_revoked(self._verify(token, ("connect",)))

    def judge(self, token: str) -> bool:
        """Whether this token would open a console, with the proof that goes with it; for a page
        whose WebSocket did not open, since browsers hide why.

        :returns: false: it is Nova's, which is not asked twice.
        :raises TokenError: it would not.
        :raises KeysUnavailable, ReplayCacheUnavailable: nobody can tell at the moment.
        """
        if self._nova is not None and is_nova_token(token):
            return False
        claims = self._verify(token, ("connect", "resume"))
        self._refuse_revoked(claims)
        if self._once_only is not None:
            self._once_only.require_unused(claims.jti)
        return True

    def claim(self, claims: Claims, proof_text: str = "") -> _Claim:
        """Use the token of *claims*, where each is good for once, for what the context does.

        When that fails no console was opened, and the token is good again: a page whose vCenter
        was away for a moment has no other. A resume token is used up only by :meth:`heard`; until
        then whoever has its key may come again, and nobody with what was sent before.

        :param proof_text: the proof that came with a resume token.

        :raises TokenReplayed: it was used before.
        :raises ReplayCacheUnavailable: that cannot be told at the moment.
        """
        name = proof.name(proof_text) if claims.use == "resume" else ""
        return _Claim(self._once_only, claims, name)

    def give_back(self, claims: Claims) -> None:
        """Make the link of *claims* good again: its bearer has not heard that it was used.

        An opening whose connection broke before the first token had arrived is such a case, and the
        page has nothing else.
        """
        if self._once_only is not None and claims.use == "connect":
            self._once_only.give_back(claims.jti)

    def heard(self, claims: Claims) -> None:
        """The bearer of a resume token has said something on its new connection, and so has heard
        the next token, which was said before: this one is used up."""
        if self._once_only is None or claims.use != "resume":
            return
        try:
            self._once_only.claim(claims.jti, claims.exp)
        except TokenReplayed:
            pass  # on another connection
        except ReplayCacheUnavailable as exc:
            LOG.warning(event("once-only-not-kept", jti=claims.jti, detail=exc))

    def use_up(self, claims: Claims) -> None:
        """Use the token of *claims* for good, as its bearer gets another one in its place.

        :raises TokenReplayed: it was used before.
        :raises ReplayCacheUnavailable: that cannot be told at the moment.
        """
        if self._once_only is not None:
            self._once_only.claim(claims.jti, claims.exp)

    def confirm(self, claims: Claims) -> None:
        """Ask once more, where a session of *claims* is to go on.

        :raises ConsoleError: its reason is gone, or nobody can tell at the moment.
        """
        if self._instances is not None and claims.use == "resume":
            self._instances.confirm(claims)

    def _verify(self, token: str, uses: tuple[str, ...]) -> Claims:
        try:
            return self._codec.verify(token, uses=uses)
        except KeyRepositoryError as exc:
            raise KeysUnavailable(str(exc)) from exc

    def _refuse_revoked(self, claims: Claims) -> None:
        entry = None if self._revocations is None else self._revocations.current.match(claims)
        if entry is not None:
            raise TokenRevoked(f"token {claims.jti} is revoked, by {entry.kind} {entry.value}")


class _Claim:
    """See :meth:`Authorization.claim`."""

    __slots__ = ("_claims", "_once_only", "_ours", "_proof")

    def __init__(self, once_only: OnceOnly | None, claims: Claims, proof_name: str) -> None:
        self._once_only = once_only
        self._claims = claims
        self._proof = proof_name
        self._ours = False

    def __enter__(self) -> None:
        once_only, claims = self._once_only, self._claims
        if once_only is None:
            return
        if self._proof:  # the next one takes the key
            once_only.claim_proof(claims.jti, self._proof, claims.exp)
        else:
            self._ours = once_only.claim(claims.jti, claims.exp)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and self._ours and self._once_only is not None:
            self._once_only.give_back(self._claims.jti)
