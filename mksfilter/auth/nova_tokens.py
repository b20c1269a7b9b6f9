"""The tokens of stock Nova's own mks consoles: UUIDs that only Nova can read.

With ``[mks] enabled`` nova-compute stores what a console leads to and hands out a UUID. Nova tells
what it stored: ``GET /os-console-auth-tokens/{token}`` (microversion 2.31; by default for admins).
https://docs.openstack.org/api-ref/compute/#show-console-connection-information
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from mksfilter.auth.nova_api import NovaAPI
from mksfilter.auth.token import Claims
from mksfilter.config import NovaSettings
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import (
    TicketRefused,
    TokenExpired,
    TokenMalformed,
    TokenServiceUnavailable,
)
from mksfilter.log import event
from mksfilter.lru import LRUMap

__all__ = ["NovaTokens", "is_nova_token"]

LOG = logging.getLogger(__name__)

MICROVERSION = "2.31"
#: Seconds for which once-only remembers such a token: Nova does not say when it expires, and
#: nobody's ``[consoleauth] token_ttl`` is longer.
REMEMBERED = 86_400
#: Seconds for which a token that Nova does not know is not asked about again. Nova hands a token
#: out after it has stored it, so that none becomes known later.
UNKNOWN_FOR = 10.0
#: Such tokens that are remembered, by their digests.
_MOST_UNKNOWN = 4096

_WEBMKS_PATH = re.compile(r"/ticket/[!-~]+")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_nova_token(token: str) -> bool:
    """Whether *token* has the form of Nova's own, which none of ours has."""
    return _UUID.fullmatch(token) is not None


class NovaTokens:
    """Asks Nova about its tokens, in bounded time. Thread-safe; make it after forking.

    :param audience: the deployment's, for the claims.
    """

    def __init__(
        self,
        settings: NovaSettings,
        audience: str = "mksfilter",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = NovaAPI(settings)
        self._unknown: LRUMap[str, float] = LRUMap(_MOST_UNKNOWN)
        self._ticket = settings.ticket
        self._console_ca_file = settings.console_ca_file
        self._console_insecure = settings.console_insecure
        self._audience = audience
        self._clock = clock
        # At DEBUG it writes the path of every request, and here the path holds the token.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
        if not self._api.verifies_certificates:
            LOG.warning(
                event(
                    "certificate-not-verified",
                    option="[nova] insecure",
                    detail="the connections to Keystone and Nova can be intercepted",
                )
            )
        if settings.ticket == "issued" and settings.console_insecure:
            LOG.warning(
                event(
                    "certificate-not-verified",
                    option="[nova] console_insecure",
                    detail="consoles of issued webmks tickets can be intercepted",
                )
            )

    def verify(self, token: str) -> tuple[Claims, Endpoint | None]:
        """What *token* opens.

        :returns: the instance, and where its console is if ``ticket = issued``.
        :raises TokenMalformed: not a token of Nova's; Nova is not asked.
        :raises TokenExpired: Nova does not know it, or not any more.
        :raises TokenServiceUnavailable: Nova or Keystone is down, slow, or refuses us.
        :raises TicketRefused: ``ticket = issued``, and what Nova stored is no ticket of vSphere's.
        """
        if not is_nova_token(token):
            raise TokenMalformed("neither a token of ours nor one of Nova's")
        name = _name_of(token)
        console = self._console(name, token)
        instance = console.get("instance_uuid")
        if not isinstance(instance, str) or not is_nova_token(instance):
            raise TokenServiceUnavailable(f"token {name}: nova names no instance; is it nova?")
        now = int(self._clock())
        claims = Claims(
            jti=name,
            aud=self._audience,
            iid=instance,
            iat=now,
            exp=now + REMEMBERED,
            use="connect",
            mode="full",
        )
        endpoint = self._issued(name, console) if self._ticket == "issued" else None
        LOG.info(
            event(
                "nova-token-accepted",
                jti=name,
                instance=instance,
                ticket=self._ticket,
                certificate="" if endpoint is None else _verified_by(endpoint),
            )
        )
        return claims, endpoint

    def _issued(self, name: str, console: Mapping[str, Any]) -> Endpoint:
        """Where the ticket leads that Nova's driver was given.

        A driver that takes webmks tickets stores the WebSocket's path, and no thumbprint: the
        host's certificate is verified by a CA.
        """
        try:
            host, port = console["host"], int(console["port"])
            path = console["internal_access_path"]
            if not isinstance(host, str) or not host or not 0 < port < 65536:
                raise ValueError("no address")
            if not _WEBMKS_PATH.fullmatch(path):
                return _authd(host, port, path)
        except (KeyError, TypeError, ValueError):
            # Not chained: the original error may quote the ticket.
            raise TicketRefused(
                f"token {name}: nova's console is neither an authd ticket of the VMware driver "
                f"nor the path of a webmks ticket"
            ) from None
        return Endpoint(
            kind="websocket",
            host=host,
            port=port,
            resource=path,
            server_name=host,
            ca_file=self._console_ca_file,
            insecure=self._console_insecure,
        )

    def _console(self, name: str, token: str) -> Mapping[str, Any]:
        until = self._unknown.get(name)
        if until is not None and self._clock() < until:
            raise TokenExpired(f"token {name}: nova did not know it a moment ago")
        # Strangers can cause such questions: while all places are taken nobody waits for one.
        response = self._api.get(
            f"/os-console-auth-tokens/{token}",
            f"token {name}",
            microversion=MICROVERSION,
            wait=False,
        )
        status = response.status_code
        if status == 404:
            self._unknown.put(name, self._clock() + UNKNOWN_FOR)
            raise TokenExpired(f"token {name}: nova does not know it, or not any more")
        if status in (401, 403):
            raise TokenServiceUnavailable(
                f"token {name}: nova refuses our user ({status}); it needs the policy "
                f"os_compute_api:os-console-auth-tokens, by default role admin"
            )
        if status != 200:
            raise TokenServiceUnavailable(f"token {name}: nova answers {status}")
        try:
            console = response.json()["console"]
        except (ValueError, KeyError, TypeError):
            console = None
        if not isinstance(console, dict):
            raise TokenServiceUnavailable(f"token {name}: the answer is not nova's; check [nova]")
        return console


def _name_of(token: str) -> str:
    """A ``jti`` for a token that is itself the secret: it names the token and does not open it."""
    digest = hashlib.sha256(b"mksfilter nova token " + token.encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def _authd(host: str, port: int, path: str) -> Endpoint:
    """Stock Nova's VMware driver stores an authd ticket, with the host's thumbprint, as JSON.

    :raises ValueError, KeyError, TypeError: something else.
    """
    stored = json.loads(path)
    return Endpoint(
        kind="authd",
        host=host,
        port=port,
        server_name=host,
        digests=(CertificateDigest.parse(stored["thumbprint"]),),
        ticket=str(stored["ticket"]),
        config_file=str(stored["cfgFile"]),
    )


def _verified_by(endpoint: Endpoint) -> str:
    if endpoint.digests:
        return "thumbprint"
    return "not-verified" if endpoint.insecure else endpoint.ca_file or "system-cas"
