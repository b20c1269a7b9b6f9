"""The head of an HTTP/1.1 request, read strictly (RFC 9112).

pywsgi and ``http.client`` accept what other parsers on the way read differently: bare line feeds,
folded headers, white space before colons, repeated ``Host``. Such differences are what request
smuggling is made of (CVE-2023-41419, CVE-2024-1135, CVE-2024-6827), so whatever is not plain is
refused. No request of ours has a body, and one that announces a body is refused too.
"""

from __future__ import annotations

import dataclasses
import re

__all__ = [
    "MAX_HEAD",
    "MAX_HEADERS",
    "MAX_REQUEST_LINE",
    "HeadError",
    "RequestHead",
    "fields",
    "hopeless",
    "parse",
]

#: Bytes of request line and headers together. A token may be 4096 long and come twice.
MAX_HEAD = 32768
#: Bytes of the request line, as in Apache httpd; pywsgi would answer 8192 by itself.
MAX_REQUEST_LINE = 8190
#: Header lines.
MAX_HEADERS = 64

_PHRASES = {
    400: "Bad Request",
    405: "Method Not Allowed",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
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


class HeadError(ValueError):
    """A request that is refused before any application sees it.

    :ivar status: HTTP status code.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> bytes:
        """The whole answer: a status, no body, and the end of the connection."""
        allow = "Allow: GET, HEAD\r\n" if self.status == 405 else ""
        return (
            f"HTTP/1.1 {self.status} {_PHRASES[self.status]}\r\n"
            f"{allow}Connection: close\r\nContent-Length: 0\r\n\r\n"
        ).encode("ascii")


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


def hopeless(received: bytes | bytearray) -> HeadError | None:
    """Why *received*, the start of a head, can never become one that is accepted; None while it
    can."""
    if received and not 0x41 <= received[0] <= 0x5A:
        # Methods are capital letters; a TLS hello or line noise is not worth waiting for.
        return HeadError(400, "not an HTTP request")
    if b"\n" not in received and len(received) > MAX_REQUEST_LINE:
        return HeadError(414, "request line too long")
    if len(received) > MAX_HEAD:
        return HeadError(431, "request head too long")
    return None


def parse(head: bytes) -> RequestHead:
    """Read *head*, which ends in its empty line.

    :raises HeadError: with the status to answer.
    """
    request_line, _, header_block = head.partition(b"\r\n")
    if len(request_line) > MAX_REQUEST_LINE:
        raise HeadError(414, "request line too long")
    match = _REQUEST_LINE.fullmatch(request_line)
    if match is None:
        raise HeadError(400, "malformed request line")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise HeadError(505, "unsupported HTTP version")
    if method not in (b"GET", b"HEAD"):
        raise HeadError(405, "unsupported method")
    if not target.startswith(b"/"):
        raise HeadError(400, "request target is not a path")
    headers = _check_headers(header_block, needs_host=minor == b"1")
    return RequestHead(
        method.decode("ascii"),
        target.decode("ascii"),
        f"HTTP/1.{minor.decode('ascii')}",
        headers,
    )


def fields(header_block: bytes) -> list[tuple[bytes, bytes]]:
    """The header lines of a request or an answer, which end in an empty line: names as sent, and
    values without the white space around them.

    :raises HeadError: too many, or one that is not plain.
    """
    lines = header_block.split(b"\r\n")[:-2]
    if len(lines) > MAX_HEADERS:
        raise HeadError(431, "too many headers")
    found = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise HeadError(400, "malformed header line")
        found.append((match[1], match[2].strip()))
    return found


def _check_headers(header_block: bytes, *, needs_host: bool) -> list[tuple[str, str]]:
    seen = set()
    headers = []
    for sent_name, value in fields(header_block):
        name = sent_name.lower()
        if name in seen and name in _SINGLE:
            raise HeadError(400, "header given twice")
        seen.add(name)
        headers.append((sent_name.decode("ascii"), value.decode("latin-1")))
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            raise HeadError(400, "a request here has no body")
    if needs_host and b"host" not in seen:
        raise HeadError(400, "no Host header")
    return headers
