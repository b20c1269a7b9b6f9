"""The answers of a vCenter, read from a connection: HTTP/1.1 as RFC 9112 has it, and no more of it.

:mod:`http.client` reads headers with :mod:`email`'s parser, which costs more than all else that a
call does. What a vCenter sends is one status line, some fields, and a body of a length that it
says, or in chunks.
"""

from __future__ import annotations

import dataclasses
import http.client
import re
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["MAX_BODY", "MAX_HEAD", "Answer", "read_answer"]

#: Bytes of an answer's status line and header fields.
MAX_HEAD: Final = 64 * 1024
#: Bytes of an answer's body: the largest asked for here, the service's content, has 10 kB.
MAX_BODY: Final = 4 * 1024 * 1024

_READ: Final = 16 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([^\r\n]*))?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\x00]*?)[ \t]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer.

    :param fields: by name in lower case; of a repeated one the last.
    :param keeps: the connection may be used again.
    """

    status: int
    reason: str
    fields: Mapping[bytes, bytes]
    body: bytes
    keeps: bool


class _Source:
    """What has been received and not been read."""

    def __init__(self, receive: Callable[[int], bytes], first: bytes) -> None:
        self._receive = receive
        self._data = first

    def until(self, mark: bytes, limit: int) -> bytes:
        """What comes before *mark*, which is consumed too."""
        searched = 0
        while (end := self._data.find(mark, searched)) < 0:
            if len(self._data) > limit:
                raise http.client.HTTPException(f"a head of more than {limit} bytes")
            searched = max(0, len(self._data) - len(mark) + 1)
            self._more()
        found, self._data = self._data[:end], self._data[end + len(mark) :]
        return found

    def exactly(self, length: int) -> bytes:
        if len(self._data) < length:
            parts = [self._data]
            missing = length - len(self._data)
            self._data = b""
            while missing > 0:
                self._more()
                parts.append(self._data)
                missing -= len(self._data)
                self._data = b""
            self._data = b"".join(parts)
        found, self._data = self._data[:length], self._data[length:]
        return found

    def rest(self, limit: int) -> bytes:
        """All until the end of the connection."""
        parts, length = [self._data], len(self._data)
        while data := self._receive(_READ):
            length += len(data)
            if length > limit:
                raise http.client.HTTPException(f"an answer of more than {limit} bytes")
            parts.append(data)
        self._data = b""
        return b"".join(parts)

    @property
    def is_empty(self) -> bool:
        return not self._data

    def _more(self) -> None:
        data = self._receive(_READ)
        if not data:
            raise http.client.IncompleteRead(self._data)
        self._data += data


def read_answer(receive: Callable[[int], bytes]) -> Answer:
    """Read one answer.

    :param receive: at most so many bytes of the connection, none at its end.
    :raises http.client.RemoteDisconnected: it ended before an answer began.
    :raises http.client.HTTPException: what came is no HTTP/1, or more than an answer may have.
    :raises OSError: what *receive* raises.
    """
    first = receive(_READ)
    if not first:
        raise http.client.RemoteDisconnected("the connection was closed without an answer")
    source = _Source(receive, first)
    while True:
        head = source.until(b"\r\n\r\n", MAX_HEAD)
        start, _, lines = head.partition(b"\r\n")
        match = _STATUS_LINE.fullmatch(start)
        if match is None:
            raise http.client.BadStatusLine(repr(start[:100]))
        if match[2][:1] != b"1":  # an interim answer (RFC 9110 section 15.2)
            break
    fields: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n") if lines else ():
        field = _FIELD.fullmatch(line)
        if field is None:
            raise http.client.HTTPException("a header field that cannot be read")
        fields[field[1].lower()] = field[2]
    options = fields.get(b"connection", b"").lower()
    keeps = b"close" not in options if match[1] == b"1" else b"keep-alive" in options
    body = _body(source, fields)
    if body is None:
        body, keeps = source.rest(MAX_BODY), False
    return Answer(
        status=int(match[2]),
        reason=(match[3] or b"").decode("latin-1"),
        fields=fields,
        body=body,
        keeps=keeps and source.is_empty,
    )


def _body(source: _Source, fields: Mapping[bytes, bytes]) -> bytes | None:
    """None: it has no length, and ends with the connection (RFC 9112 section 6.3)."""
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise http.client.HTTPException("a transfer coding that was not asked for")
        return _chunks(source)
    length = fields.get(b"content-length")
    if length is None:
        return None
    if not _LENGTH.fullmatch(length):
        raise http.client.HTTPException("a Content-Length that is no number")
    return source.exactly(_bounded(int(length)))


def _chunks(source: _Source) -> bytes:
    parts, length = [], 0
    while True:
        match = _CHUNK.fullmatch(source.until(b"\r\n", MAX_HEAD))
        if match is None:
            raise http.client.HTTPException("a chunk without a size")
        size = int(match[1], 16)
        length = _bounded(length + size)
        if not size:
            break
        parts.append(source.exactly(size))
        if source.exactly(2) != b"\r\n":
            raise http.client.HTTPException("a chunk of another size than it says")
    while source.until(b"\r\n", MAX_HEAD):  # trailer fields
        pass
    return b"".join(parts)


def _bounded(length: int) -> int:
    if length > MAX_BODY:
        raise http.client.HTTPException(f"an answer of more than {MAX_BODY} bytes")
    return length
