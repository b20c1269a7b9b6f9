"""One console, opened end to end from here: how long each step takes, and which one fails.

As the proxy opens it, without gevent: link, token, ticket, connection, TLS, WebSocket, first bytes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from mksfilter.checks.finding import Finding, Kind
from mksfilter.exceptions import ConsoleError, HostUnreachable, MksFilterError, UpstreamRefused
from mksfilter.issuer import token_url
from mksfilter.request import ConsoleRequest
from mksfilter.tls import check_digests, ssl_context
from mksfilter.tls_groups import no_common_group

if TYPE_CHECKING:
    from mksfilter.auth.token import Claims, TokenCodec
    from mksfilter.backends.resolver import Consoles
    from mksfilter.endpoint import Endpoint

__all__ = ["Walk"]

T = TypeVar("T")
_TIMEOUT: Final = 10.0


class Walk:
    """
    :param where: for the findings.
    :param base_url: ``webmks_proxy_base_url``; empty: the way through a proxy is not gone.
    :param tls_groups: the option; empty: OpenSSL's own list, which a proxy falls back on.
    """

    def __init__(
        self,
        where: str,
        codec: TokenCodec,
        consoles: Consoles,
        *,
        base_url: str = "",
        tls_groups: Sequence[str] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._where = where
        self._codec = codec
        self._consoles = consoles
        self._base_url = base_url
        self._tls_groups = tls_groups
        self._clock = clock
        self._took: list[tuple[str, float]] = []

    def findings(self, instance_id: str) -> Iterator[Finding]:
        """What opening the console of *instance_id* came to."""
        for name, go in (("from here", self._here), ("through the proxy", self._through)):
            if go == self._through and not self._base_url:
                continue
            self._took = []
            try:
                go(instance_id)
            except (MksFilterError, OSError, WebSocketException) as exc:
                words = str(exc) if isinstance(exc, MksFilterError) else _words(exc)
                reason = f" ({exc.reason})" if isinstance(exc, ConsoleError) else ""
                yield Finding(
                    self._where,
                    f"instance {instance_id} {name}: {self._times()}"
                    f"then it failed{reason}: {words}",
                )
                return
            yield Finding(
                self._where,
                f"instance {instance_id} {name}: {self._times()}its console is open",
                kind=Kind.GOOD,
            )

    def _times(self) -> str:
        return "".join(f"{step} {1000 * seconds:.1f} ms, " for step, seconds in self._took)

    def _step(self, name: str, do: Callable[[], T]) -> T:
        started = self._clock()
        done = do()
        self._took.append((name, self._clock() - started))
        return done

    def _token(self, instance_id: str) -> str:
        request = ConsoleRequest(instance_id, user_id="mksfilter-check", mode="view")
        issued = self._codec.issue(request, ttl=60)
        token_url(self._base_url or "https://unset.invalid/", issued.token)
        return issued.token

    # -- from here

    def _here(self, instance_id: str) -> None:
        token = self._step("link", lambda: self._token(instance_id))
        claims: Claims = self._step("token", lambda: self._codec.verify(token))
        endpoint = self._step(
            "ticket", lambda: self._consoles.connect(claims.iid, may_take_over=False)
        )
        with contextlib.ExitStack() as stack:
            sock = self._step("connection", lambda: _dial(endpoint))
            stack.callback(sock.close)
            if endpoint.kind == "authd":
                self._step("first bytes", lambda: _some(sock))
                return
            if endpoint.tls:
                sock = self._step("TLS", lambda: _encrypted(sock, endpoint, self._tls_groups))
                stack.callback(sock.close)
            console = self._step("handshake", lambda: _websocket(stack, sock, endpoint))
            self._step("first bytes", lambda: _first(console))

    # -- through the proxy

    def _through(self, instance_id: str) -> None:
        token = self._step("link", lambda: self._token(instance_id))
        parts = urlsplit(self._base_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        path = parts.path
        if "." in path.rpartition("/")[2]:
            path = path.rpartition("/")[0]
        url = f"{scheme}://{parts.netloc}{path.rstrip('/')}/websockify"
        with contextlib.ExitStack() as stack:
            console = self._step("101", lambda: self._open(stack, url, token, parts))
            self._step("first bytes", lambda: _first(console))

    def _open(
        self, stack: contextlib.ExitStack, url: str, token: str, parts: SplitResult
    ) -> ClientConnection:
        try:
            return stack.enter_context(
                connect(
                    url,
                    origin=Origin(f"{parts.scheme}://{parts.netloc}"),
                    subprotocols=[Subprotocol("binary"), Subprotocol(f"mks.token.{token}")],
                    compression=None,
                    open_timeout=2 * _TIMEOUT,
                    close_timeout=1,
                    proxy=None,
                )
            )
        except InvalidStatus as exc:
            raise UpstreamRefused(
                f"{url} answers {exc.response.status_code}; the proxy's log has the reason"
            ) from None


def _dial(endpoint: Endpoint) -> socket.socket:
    try:
        return socket.create_connection((endpoint.host, endpoint.port), _TIMEOUT)
    except OSError as exc:
        raise HostUnreachable(
            f"console host {endpoint.address}: {exc.strerror or exc}; check DNS, route and firewall"
        ) from None


def _encrypted(sock: socket.socket, endpoint: Endpoint, groups: Sequence[str]) -> ssl.SSLSocket:
    name = f"console host {endpoint.address}"
    context = ssl_context(endpoint, groups)
    try:
        tls = context.wrap_socket(sock, server_hostname=endpoint.server_name or None)
    except ssl.SSLError as exc:
        if refused := no_common_group(exc, groups, name):
            raise refused from exc
        raise
    if endpoint.digests:
        check_digests(tls.getpeercert(True), endpoint.digests, name)
    return tls


def _websocket(
    stack: contextlib.ExitStack, sock: socket.socket, endpoint: Endpoint
) -> ClientConnection:
    try:
        # The socket is encrypted already.
        return stack.enter_context(
            connect(
                f"ws://{endpoint.address}{endpoint.resource}",
                sock=sock,
                subprotocols=[Subprotocol("binary")],
                compression=None,
                open_timeout=_TIMEOUT,
                close_timeout=1,
            )
        )
    except InvalidStatus as exc:
        raise UpstreamRefused(
            f"console host {endpoint.address} answers {exc.response.status_code} to its own ticket"
        ) from None


def _first(console: ClientConnection) -> bytes:
    message = console.recv(timeout=_TIMEOUT)
    return message.encode() if isinstance(message, str) else message


def _some(sock: socket.socket) -> bytes:
    sock.settimeout(_TIMEOUT)
    data = sock.recv(4096)
    if not data:
        raise UpstreamRefused("the console host closes the connection")
    return data


def _words(exc: Exception) -> str:
    # Not all of it: a library may put the URL in, and with it a ticket.
    strerror = getattr(exc, "strerror", None)
    return f"{type(exc).__name__}: {strerror}" if strerror else type(exc).__name__
