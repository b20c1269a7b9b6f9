"""The head of an HTTP/1.1 request, read strictly (RFC 9112).

pywsgi and ``http.client`` accept what other parsers on the way read differently: bare line feeds,
folded headers, white space before colons, repeated ``Host``. Such differences are what request
smuggling is made of (CVE-2023-41419, CVE-2024-1135, CVE-2024-6827), so whatever is not plain is
refused. No request of ours has a body, and one that announces a body is refused too.
"""

from __future__ import annotations

import dataclasses
import re
from http import HTTPStatus

from mksfilter.exceptions import (
    ConsoleError,
    HeadTooLarge,
    HTTPVersionUnsupported,
    MethodNotAllowed,
    RequestError,
    RequestLineTooLong,
)

__all__ = [
    "MAX_HEAD",
    "MAX_HEADERS",
    "MAX_LINE",
    "RequestHead",
    "asks_for_upgrade",
    "elements",
    "fields",
    "hopeless",
    "parse",
    "refusal",
]

#: Bytes of request line and headers together. A token may be 4096 long and come twice, and
#: dashboards append a console's title, which its user has chosen, to the query.
MAX_HEAD = 32768
#: Bytes of the request line before its query, and of each header line, as in Apache httpd and
#: gunicorn; pywsgi would answer 8192 by itself.
MAX_LINE = 8190
#: Header lines.
MAX_HEADERS = 64

_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
#: OPTIONS is what HAProxy's `option httpchk` sends when nobody says otherwise.
_LIST = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[-!#$%&'*+.^_`|~0-9A-Za-z]+)*")
_METHODS = (b"GET", b"HEAD", b"OPTIONS")
_ALLOW = b", ".join(_METHODS).decode("ascii")
_UPGRADING = frozenset({"upgrade", "sec-websocket-key"})
_SINGLE = frozenset(
    {
        b"host",
        b"origin",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"content-length",
        b"upgrade",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class RequestHead:
    """A request line and the header lines below it, checked.

    :ivar target: path and query as sent, in origin form (``/...``).
    :ivar headers: names and values in their order, without the white space around them.
    """

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]


def asks_for_upgrade(request: RequestHead) -> bool:
    """Is this meant to be a WebSocket request, however malformed?

    A ``Sec-WebSocket-Key`` or an Upgrade header decides, so that a broken handshake gets a plain
    status and not the page.
    """
    return any(name.lower() in _UPGRADING for name, _ in request.headers)


def hopeless(received: bytes | bytearray) -> RequestError | None:
    """Why *received*, the start of a head, can never become one that is accepted; None while it
    can."""
    if received and not 0x41 <= received[0] <= 0x5A:
        # Methods are capital letters; a TLS hello or line noise is not worth waiting for.
        return RequestError("not an HTTP request")
    if b"\n" not in received and _is_too_long(received):
        return RequestLineTooLong("request line too long")
    if len(received) > MAX_HEAD:
        return HeadTooLarge("request head too long")
    return None


def parse(head: bytes) -> RequestHead:
    """Read *head*, which ends in its empty line.

    :raises RequestError: it is not plain, or not for us; the class has the status to answer.
    """
    request_line, _, header_block = head.partition(b"\r\n")
    if _is_too_long(request_line):
        raise RequestLineTooLong("request line too long")
    match = _REQUEST_LINE.fullmatch(request_line)
    if match is None:
        raise RequestError("malformed request line")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise HTTPVersionUnsupported("unsupported HTTP version")
    if method not in _METHODS:
        raise MethodNotAllowed("unsupported method")
    if not target.startswith(b"/"):
        raise RequestError("request target is not a path")
    headers = _check_headers(header_block, needs_host=minor == b"1")
    return RequestHead(
        method.decode("ascii"),
        target.decode("ascii"),
        f"HTTP/1.{minor.decode('ascii')}",
        headers,
    )


def refusal(error: ConsoleError) -> bytes:
    """The whole answer to a request that no application sees: *error*'s status, and the end of the
    connection. Words are in it only where a person has made the request with a link."""
    allow = f"Allow: {_ALLOW}\r\n" if error.status == HTTPStatus.METHOD_NOT_ALLOWED else ""
    body = error.public if isinstance(error, RequestLineTooLong) else ""
    kind = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
    return (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"{allow}{kind if body else ''}Connection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode("ascii")


def fields(header_block: bytes) -> list[tuple[bytes, bytes]]:
    """The header lines of a request or an answer, which end in an empty line: names as sent, and
    values without the white space around them.

    :raises RequestError: too many, or one that is not plain.
    """
    lines = header_block.split(b"\r\n")[:-2]
    if len(lines) > MAX_HEADERS:
        raise HeadTooLarge("too many headers")
    found = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RequestError("malformed header line")
        if len(line) > MAX_LINE:
            raise HeadTooLarge("header line too long")
        found.append((match[1], match[2].strip()))
    return found


def elements(value: str) -> list[str] | None:
    """The elements of a header's list (RFC 9110 section 5.6.1), each of them a token.

    :returns: None for any other form, be it good: empty elements, parameters, ``name/version``.
    """
    return value.replace(" ", "").replace("\t", "").split(",") if _LIST.fullmatch(value) else None


def _is_too_long(line: bytes | bytearray) -> bool:
    """*line*, a request line or the start of one: its path is, or the whole."""
    return len(line) > MAX_HEAD or (len(line) > MAX_LINE and line.find(b"?", 0, MAX_LINE) < 0)


def _check_headers(header_block: bytes, *, needs_host: bool) -> list[tuple[str, str]]:
    seen = set()
    headers = []
    for sent_name, value in fields(header_block):
        name = sent_name.lower()
        if name in seen and name in _SINGLE:
            raise RequestError("header given twice")
        seen.add(name)
        headers.append((sent_name.decode("ascii"), value.decode("latin-1")))
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            raise RequestError("a request here has no body")
    if needs_host and b"host" not in seen:
        raise RequestError("no Host header")
    return headers
