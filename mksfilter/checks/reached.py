"""The console page as browsers reach it, through whatever stands in front of the proxies.

The base URL is asked for its page, and a WebSocket is opened there with a token of our own for an
instance that does not exist. That a node answers 404 proves the rest: the load balancer passes
WebSockets, the Origin check passes, the node has our key, audience and time, and its vCenters
answer. Where the filter takes the tickets, the token holds one for a host that does not resolve,
and 502 is what proves it.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import os
import re
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urljoin, urlsplit

from mksfilter.checks.finding import Finding, Kind
from mksfilter.request import ConsoleRequest

if TYPE_CHECKING:
    from mksfilter.auth.token import TokenCodec

__all__ = ["Reached"]

_TIMEOUT: Final = 15.0
_MOST: Final = 1 << 20
_SCRIPT: Final = re.compile(rb"static/(?:[0-9a-f]{16}/)?novnc/console\.js")
_NOWHERE: Final = "console.mksfilter-check.invalid"


class Reached:
    """
    :param where: for the findings.
    :param url: ``webmks_proxy_base_url``.
    :param codec: mints tokens as the filter does.
    :param sealed: ``ticket_at = issue``.
    :param clock_skew: seconds by which clocks may differ.
    :param trusted: ``trusted_proxies`` is set.
    """

    def __init__(
        self,
        where: str,
        url: str,
        codec: TokenCodec,
        *,
        sealed: bool = False,
        clock_skew: int = 30,
        trusted: bool = True,
        is_here: Callable[[str], bool] | None = None,
    ) -> None:
        self._where = where
        self._url = url
        self._codec = codec
        self._sealed = sealed
        self._skew = clock_skew
        self._trusted = trusted
        self._is_here = is_here or _is_here
        parts = urlsplit(url)
        self._scheme = parts.scheme
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._netloc = parts.netloc
        path = parts.path or "/"
        self._directory = path if path.endswith("/") else path.rpartition("/")[0] + "/"
        if "." not in path.rpartition("/")[2]:
            self._directory = path.rstrip("/") + "/"
        self._page = path if "." in path.rpartition("/")[2] else self._directory
        named = parse_qs(parts.query).get("path", [""])[0]
        self._socket = f"/{named.lstrip('/')}" if named else f"{self._directory}websockify"

    def findings(self) -> Iterator[Finding]:
        """Each thing that keeps consoles from opening there; what is behind it is not looked at."""
        try:
            addresses = self._addresses()
            status, headers, body = self._get(self._page)
        except _Unreached as exc:
            yield self._wrong(*exc.args)
            return
        wrong = self._about_page(status, headers, body)
        yield from wrong
        if wrong:
            return
        late = list(self._clock(headers))
        yield from late
        yield from self._balancer(addresses)
        yield from self._console(late=any(each.kind is Kind.ERROR for each in late))

    # -- the page

    def _addresses(self) -> list[str]:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise _Unreached(
                f"{self._host} does not resolve here", "correct the URL, or the DNS"
            ) from None
        return [str(info[4][0]) for info in found]

    def _about_page(self, status: int, headers: dict[str, str], body: bytes) -> list[Finding]:
        location = urljoin(self._url, headers.get("location", ""))
        if status in (301, 302, 303, 307, 308):
            return [self._wrong(f"leads on to {location}", f"write {location.partition('?')[0]}")]
        if status == 404:
            return [
                self._wrong(
                    f"has no console page: 404 for {self._page}",
                    "write the path prefix that the load balancer gives to the proxies, and the "
                    "same URL for the proxies",
                )
            ]
        if b"page is not built" in body:
            return [self._wrong("says that the page is not built", "install a wheel, which has it")]
        if status != 200:
            return [
                self._wrong(
                    f"answers {status} for the page", "see the load balancer's log, and the proxies"
                )
            ]
        named = _SCRIPT.search(body)
        if named is None:
            return [
                self._wrong(
                    "is something else's page, not the console page", "correct the URL or its port"
                )
            ]
        file = named[0].decode()
        try:
            script, _, _ = self._get(self._directory + file)
        except _Unreached as exc:
            return [self._wrong(*exc.args)]
        if script != 200:
            return [
                self._wrong(
                    f"has the page, and answers {script} for its {file}",
                    "let the load balancer pass everything below the page's path",
                )
            ]
        return []

    def _clock(self, headers: dict[str, str]) -> Iterator[Finding]:
        try:
            theirs = email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
        except (ValueError, TypeError):
            return
        ahead = theirs - time.time()
        if abs(ahead) > self._skew + 1:
            yield self._wrong(
                f"is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine, by "
                f"its answers' Date; tokens are refused beyond clock_skew = {self._skew}",
                "synchronize the clocks of nova-api, load balancer and proxies (NTP)",
            )
        else:
            yield self._good(f"clock there: within {abs(ahead) + 1:.0f} s of this machine's")

    def _balancer(self, addresses: list[str]) -> Iterator[Finding]:
        if not self._trusted and not any(self._is_here(address) for address in addresses):
            yield Finding(
                self._where,
                f"{self._host} is not this machine, so a load balancer may stand in front, and "
                f"trusted_proxies is empty: then every client has the balancer's address, in "
                f"limits, log and audit trail",
                "set trusted_proxies to the balancer's addresses",
                Kind.WARNING,
            )

    # -- the console

    def _console(self, *, late: bool) -> Iterator[Finding]:
        expected = 502 if self._sealed else 404
        try:
            status = self._upgrade(origin=True)
            alone = self._upgrade(origin=False) if status == 403 else status
        except _Unreached as exc:
            yield self._wrong(*exc.args)
            return
        if status == expected:
            yield self._good(
                "reached as browsers do: page, WebSocket, Origin, our key and audience are good "
                "there"
            )
        elif status == 403 and alone == expected:
            yield self._wrong(
                f"refuses the page's own origin {self._scheme}://{self._netloc}",
                "write this webmks_proxy_base_url for the proxies too, or the load balancer into "
                "trusted_proxies, so that X-Forwarded-Proto and -Host are believed",
            )
        elif status == 403 and not late:
            yield self._wrong(
                "refuses a token that is good here",
                "copy the keys to its proxies ('mksfilter keys list' shows the ids), and write the "
                "same audience",
            )
        elif status in (400, 426, 200, 404):
            yield self._wrong(
                f"answers {status} to a WebSocket at {self._socket}",
                "let the load balancer pass upgrades: HTTP/1.1 with Upgrade and Connection (nginx: "
                "proxy_http_version 1.1 and both headers)",
            )
        elif status in (502, 503, 504):
            yield self._wrong(
                f"answers {status} to a console: a node is reached, and what it needs is not, or "
                f"the load balancer has no node",
                "see the proxies' log for the reason, with user=mksfilter-check",
            )
        elif status != 403:
            yield self._wrong(f"answers {status} to a WebSocket", "see the proxies' log")

    def _upgrade(self, *, origin: bool) -> int:
        token = self._token()
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            # Not mks.v1: a client that does not speak it is told by the status.
            "Sec-WebSocket-Protocol": f"binary, mks.token.{token}",
        }
        if origin:
            headers["Origin"] = f"{self._scheme}://{self._netloc}"
        return self._ask(self._socket, headers)[0]

    def _token(self) -> str:
        request = ConsoleRequest(
            str(uuid.uuid4()),
            user_id="mksfilter-check",
            request_id=f"req-check-{uuid.uuid4()}",
            mode="view",
        )
        info = None
        if self._sealed:
            info = {"kind": "websocket", "host": _NOWHERE, "port": 443, "resource": "/ticket/none"}
        return self._codec.issue(request, ttl=60, connect_info=info).token

    # -- HTTP

    def _get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        return self._ask(path, {})

    def _ask(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection: http.client.HTTPConnection
        if self._scheme == "https":
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=_TIMEOUT, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        named = f"{self._host}:{self._port}"
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            read = b"" if response.status == 101 else response.read(_MOST)
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, read
        except ssl.SSLCertVerificationError as exc:
            raise _Unreached(
                f"has a certificate that browsers refuse: {exc.verify_message}",
                "give it one for that name, of a CA that they know",
            ) from None
        except ssl.SSLError:
            raise _Unreached(
                f"is https, and {named} does not speak TLS", "write http://, or end TLS there"
            ) from None
        except TimeoutError:
            raise _Unreached(
                f"does not answer at {named}", "open the way to it, or correct the port"
            ) from None
        except http.client.HTTPException:
            raise _Unreached(
                f"is {self._scheme}, and {named} does not speak HTTP",
                "write https:// where it speaks TLS, or correct the port",
            ) from None
        except OSError as exc:
            raise _Unreached(
                f"is not reached at {named}: {exc.strerror or exc}",
                "start the proxy or the load balancer, or correct host and port",
            ) from None
        finally:
            connection.close()

    def _wrong(self, problem: str, remedy: str) -> Finding:
        return Finding(self._where, f"webmks_proxy_base_url {self._url} {problem}", remedy)

    def _good(self, words: str) -> Finding:
        return Finding(self._where, f"{self._url}: {words}", kind=Kind.GOOD)


class _Unreached(Exception):
    """What is wrong, and what to do about it."""


def _is_here(address: str) -> bool:
    """Whether this machine has that address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
