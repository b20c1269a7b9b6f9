"""The WebSocket opening handshake, the server's side (RFC 6455 section 4.2). No I/O.

gevent-websocket upgrades before the application is asked, accepts version 8, answers a malformed
key with 500 and matches the subprotocol by substring; its handshake is never used.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_plus

from websockets.exceptions import InvalidHeader
from websockets.headers import parse_connection, parse_subprotocol, parse_upgrade
from websockets.utils import accept_key

from mksfilter.exceptions import HandshakeError, UpgradeOverHTTP10, UpgradeRequired
from mksfilter.proxy.http_head import elements

__all__ = [
    "BINARY",
    "CONTROL",
    "Handshake",
    "asks_for_upgrade",
    "link_language",
    "link_token",
    "query_token",
    "read",
    "response",
]

#: Subprotocol of a client that understands the control channel.
CONTROL = "mks.v1"
#: Subprotocol of every other client; VMware's own, and Tempest.
BINARY = "binary"
#: Subprotocol by which a page hands over its token, so that no log on the way holds a URL with it.
TOKEN_PREFIX = "mks.token."  # noqa: S105
#: Subprotocols by which a page offers its public key, and proves that it has the private one.
KEY_PREFIX = "mks.key."
PROOF_PREFIX = "mks.proof."
_PREFIXES = (TOKEN_PREFIX, KEY_PREFIX, PROOF_PREFIX)
#: Subprotocol of a page that asks once more whether its machine has started.
WAIT = "mks.wait"
#: Subprotocol of a page whose user asks for the console that has been opened elsewhere.
TAKE = "mks.take"

_PLAIN_QUERY = re.compile(r"token=([A-Za-z0-9._~-]*)")
# 16 bytes in base64.
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_COOKIE_TOKEN = re.compile(r"(?:^|[;&])\s*token=([^;&]*)")
#: Elements of one header. The parsers take milliseconds for thousands.
_MOST_ELEMENTS = 32
#: Fields of a query, and characters of one that is decoded: a token of 4096 in ``path``, encoded.
_MOST_FIELDS = 64
_LONGEST_FIELD = 12_400


@dataclasses.dataclass(frozen=True, slots=True)
class Handshake:
    """A valid opening handshake.

    :ivar key: ``Sec-WebSocket-Key`` as sent.
    :ivar subprotocol: the one to answer, of those offered; None when none of ours was.
    :ivar token: console token, from the subprotocol, the query or the cookie; empty when there is
        none.
    :ivar in_subprotocol: the token came as a subprotocol, as only a page sends it.
    :ivar page_key: the public key of the page's; see :mod:`mksfilter.auth.proof`.
    :ivar proof: its proof of possession; empty when there is none.
    :ivar waits: it was told that its machine is off, and asks again.
    :ivar takes: its user asks for the console, whoever has it.
    """

    key: str
    subprotocol: str | None
    token: str = dataclasses.field(repr=False)
    in_subprotocol: bool = False
    page_key: str = ""
    proof: str = dataclasses.field(default="", repr=False)
    waits: bool = False
    takes: bool = False

    @property
    def control(self) -> bool:
        """Does the client understand the control channel?"""
        return self.subprotocol == CONTROL


def asks_for_upgrade(environ: Mapping[str, object]) -> bool:
    """Is this meant to be a WebSocket request, however malformed?

    A ``Sec-WebSocket-Key`` or an Upgrade header decides, so that a broken handshake gets a plain
    status and not the page.
    """
    return "HTTP_UPGRADE" in environ or "HTTP_SEC_WEBSOCKET_KEY" in environ


def read(environ: Mapping[str, str]) -> Handshake:
    """Check the handshake in a WSGI environ.

    :raises UpgradeOverHTTP10: a load balancer made it HTTP/1.0.
    :raises UpgradeRequired: no upgrade to ``websocket``, or a version other than 13.
    :raises HandshakeError: anything else that RFC 6455 section 4.2.1 does not allow.
    """
    if environ.get("REQUEST_METHOD") != "GET":
        raise HandshakeError("the method of a WebSocket request is GET")
    if environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        raise UpgradeOverHTTP10(UpgradeOverHTTP10.hint)
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
        raise HandshakeError("a WebSocket request is HTTP/1.1")
    if not environ.get("HTTP_HOST"):
        raise HandshakeError("no Host header")
    if not environ.get("HTTP_UPGRADE"):
        raise UpgradeRequired("no Upgrade header")
    for name in ("HTTP_UPGRADE", "HTTP_CONNECTION", "HTTP_SEC_WEBSOCKET_PROTOCOL"):
        if environ.get(name, "").count(",") >= _MOST_ELEMENTS:
            raise HandshakeError(f"a header of more than {_MOST_ELEMENTS} elements")
    try:
        upgrade, connection = environ["HTTP_UPGRADE"], environ.get("HTTP_CONNECTION", "")
        upgrades = elements(upgrade) or parse_upgrade(upgrade)
        options = elements(connection) or parse_connection(connection)
        offered = _offered(environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", ""))
    except InvalidHeader:
        # The library's message quotes the header, which may hold the token.
        raise HandshakeError("malformed Upgrade, Connection or subprotocol header") from None
    if [*map(str.lower, upgrades)] != ["websocket"]:
        raise UpgradeRequired("the request asks for an upgrade to something else than websocket")
    if "upgrade" not in map(str.lower, options):
        raise HandshakeError("the Connection header lacks 'Upgrade'")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != "13":
        raise UpgradeRequired("WebSocket version other than 13")
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
    if not _KEY.fullmatch(key):
        raise HandshakeError("Sec-WebSocket-Key is not 16 bytes in base64")
    values = _values(offered)
    offered_token = values.get(TOKEN_PREFIX, "")
    token = offered_token or query_token(environ.get("QUERY_STRING", "")) or _cookie_token(environ)
    return Handshake(
        key,
        _choose(offered),
        token,
        in_subprotocol=bool(offered_token),
        page_key=values.get(KEY_PREFIX, ""),
        proof=values.get(PROOF_PREFIX, ""),
        waits=WAIT in offered,
        takes=TAKE in offered,
    )


def response(
    handshake: Handshake, extra_headers: Iterable[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Headers of the ``101`` that accepts *handshake*; no extension is ever negotiated."""
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(handshake.key)),
    ]
    if handshake.subprotocol is not None:
        headers.append(("Sec-WebSocket-Protocol", handshake.subprotocol))
    headers.extend(extra_headers)
    return headers


def query_token(query: str) -> str:
    """The last ``token`` of a query string, which is Nova's rule; empty when there is none."""
    # Nearly every link's query, which the library takes some dozen calls for.
    plain = _PLAIN_QUERY.fullmatch(query)
    return plain[1] if plain else _last_field(query, "token")


def link_token(query: str) -> str:
    """The token in the query string of a console link: ``token``, else the one in ``path``, the
    WebSocket's path, where Nova puts it for noVNC (``path=websockify?token=...``)."""
    return query_token(query) or query_token(_last_field(query, "path").partition("?")[2])


def link_language(query: str) -> str:
    """The language that a console link asks for (``language=``); empty: none."""
    return _last_field(query, "language")


def _last_field(query: str, wanted: str) -> str:
    """As the last of :func:`urllib.parse.parse_qsl`, without decoding what nobody asks for: a title
    beside the token may be long."""
    fields = query.split("&", _MOST_FIELDS)
    if len(fields) > _MOST_FIELDS:
        return ""
    for field in reversed(fields):
        name, _, value = field.partition("=")
        if value and len(name) <= 3 * len(wanted) and unquote_plus(name) == wanted:
            return unquote_plus(value) if len(value) <= _LONGEST_FIELD else ""
    return ""


def _offered(header: str) -> list[str]:
    if not header.strip():
        return []
    offered = elements(header) or list(map(str, parse_subprotocol(header)))
    if len(set(offered)) != len(offered):
        # Section 4.1 point 10: the elements are unique strings.
        raise HandshakeError("a subprotocol is offered twice")
    return offered


def _choose(offered: list[str]) -> str | None:
    return CONTROL if CONTROL in offered else BINARY if BINARY in offered else None


def _values(offered: list[str]) -> dict[str, str]:
    """What is handed over in the names of subprotocols, by its prefix."""
    values: dict[str, str] = {}
    for name in offered:
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                if prefix in values:
                    raise HandshakeError(f"more than one {prefix.split('.')[1]} is offered")
                values[prefix] = name[len(prefix) :]
    return values


def _cookie_token(environ: Mapping[str, str]) -> str:
    """The token of a client that sends no Origin, and so is no browser: a cookie that a browser
    adds by itself would let any site open a console (CVE-2015-0259).

    Tempest sends the whole query of a console link as its Cookie header, so fields may be apart
    by ``&`` too.
    """
    if "HTTP_ORIGIN" in environ:
        return ""
    tokens = _COOKIE_TOKEN.findall(environ.get("HTTP_COOKIE", ""))
    return str(tokens[-1]) if tokens else ""
