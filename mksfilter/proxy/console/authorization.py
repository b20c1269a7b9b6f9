"""Whether a token opens a console, and which one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mksfilter.auth.nova_tokens import NovaTokens, is_nova_token

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims, TokenCodec
    from mksfilter.endpoint import Endpoint

__all__ = ["Authorization", "OnceOnly"]

_USES = ("connect", "resume")


class OnceOnly(Protocol):
    """Memory of the tokens that were used; :class:`mksfilter.auth.replay.ReplayGuard` is one."""

    def claim(self, jti: str, exp: int) -> None:
        """Use the token *jti*, which expires at *exp* (seconds since the epoch).

        :raises TokenReplayed: it was used before.
        :raises ReplayCacheUnavailable: the memory does not answer.
        """


class Authorization:
    """
    :param nova: asks Nova about its own tokens; None: they are refused.
    :param once_only: None where a token may be used again until it expires.
    """

    def __init__(
        self,
        codec: TokenCodec,
        *,
        nova: NovaTokens | None = None,
        once_only: OnceOnly | None = None,
    ) -> None:
        self._codec = codec
        self._nova = nova
        self._once_only = once_only

    def verify(self, token: str) -> tuple[Claims, Endpoint | None]:
        """What *token* allows, and where the console is if the token alone tells.

        :raises TokenError: it allows nothing.
        :raises TokenServiceUnavailable: Nova does not answer about a token of its own.
        """
        if self._nova is not None and is_nova_token(token):
            return self._nova.verify(token)
        return self._codec.verify(token, uses=_USES), None

    def check(self, token: str) -> None:
        """Whether this token would open a console; Nova is not asked about one of its own twice.

        :raises TokenError: it would not.
        """
        if self._nova is None or not is_nova_token(token):
            self._codec.verify(token, uses=_USES)

    def claim(self, claims: Claims) -> None:
        """Use the token of *claims*, where each is good for once.

        :raises TokenReplayed: it was used before.
        :raises ReplayCacheUnavailable: that cannot be told at the moment.
        """
        if self._once_only is not None:
            self._once_only.claim(claims.jti, claims.exp)
