"""Request heads that others on the way might read differently are refused (RFC 9112)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.exceptions import HeadTooLarge, RequestError
from mksfilter.proxy import http_head

GOOD = b"GET /x?token=a HTTP/1.1\r\nHost: h\r\nX-Y:  spaced \r\n\r\n"


def status_of(raw: bytes) -> int:
    with pytest.raises(RequestError) as refused:
        http_head.parse(raw)
    answer = http_head.refusal(refused.value)
    assert answer.startswith(b"HTTP/1.1 %d " % refused.value.status)
    words = b"" if refused.value.status != 414 else refused.value.public.encode()
    length = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(words)
    assert answer.partition(length)[2] == words
    assert length in answer
    return refused.value.status


def test_a_plain_request_is_read():
    request = http_head.parse(GOOD)
    assert (request.method, request.target, request.version) == ("GET", "/x?token=a", "HTTP/1.1")
    assert request.headers == [("Host", "h"), ("X-Y", "spaced")]


def test_http_1_0_needs_no_host_since_load_balancers_ask_for_health_with_it():
    assert http_head.parse(b"GET /healthz HTTP/1.0\r\n\r\n").version == "HTTP/1.0"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /", 400),  # HTTP/0.9
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET  / HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET /\xe9 HTTP/1.1", 400),
        (b"GET / /x HTTP/1.1", 400),
        (b"GET http://h/ HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"POST / HTTP/1.1", 405),
        (b"TRACE / HTTP/1.1", 405),
        (b"CONNECT h:1 HTTP/1.1", 405),
        (b"get / HTTP/1.1", 405),
        (b"G\x01T / HTTP/1.1", 400),
        (b"GET /" + b"a" * http_head.MAX_LINE + b" HTTP/1.1", 414),
        (b"", 400),
    ],
)
def test_request_lines_that_are_refused(request_line, status):
    assert status_of(request_line + b"\r\nHost: h\r\n\r\n") == status


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"Host: h\r\nTransfer-Encoding: chunked", id="CVE-2023-41419-body"),
        pytest.param(
            b"Host: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", id="CVE-2024-1135-TE-CL"
        ),
        pytest.param(b"Host: h\r\nTransfer-Encoding: xchunked", id="CVE-2024-6827-unknown-TE"),
        pytest.param(b"Host: h\r\nContent-Length: 4", id="body"),
        pytest.param(b"Host: h\r\nContent-Length: -1", id="negative-CL"),
        pytest.param(b"Host: h\r\nContent-Length: +0", id="signed-CL"),
        pytest.param(b"Host: h\r\nContent-Length: 0\r\nContent-Length: 0", id="two-CL"),
        pytest.param(b"Host: h\r\nTransfer-Encoding : chunked", id="space-before-colon"),
        pytest.param(b"Host: h\r\nX: a\r\n folded", id="folded"),
        pytest.param(b"Host: h\r\nX: a\nY: b", id="bare-LF"),
        pytest.param(b"Host: h\r\nX: a\rY: b", id="bare-CR"),
        pytest.param(b"Host: h\r\nX: a\x00b", id="NUL"),
        pytest.param(b"Host: h\r\nno colon", id="no-colon"),
        pytest.param(b"Host: h\r\n: nameless", id="no-name"),
        pytest.param(b"Host: h\r\nhost: other", id="two-hosts"),
        pytest.param(b"Host: h\r\nOrigin: a\r\nOrigin: b", id="two-origins"),
        pytest.param(b"X: no host", id="no-host"),
    ],
)
def test_headers_that_invite_smuggling_are_refused(lines):
    assert status_of(b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n") == 400


def test_a_content_length_of_zero_is_harmless():
    http_head.parse(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")


def test_too_many_headers_are_refused():
    many = b"".join(b"X-%d: 1\r\n" % number for number in range(http_head.MAX_HEADERS))
    assert status_of(b"GET / HTTP/1.1\r\nHost: h\r\n" + many + b"\r\n") == 431


@given(st.binary(max_size=200))
def test_whatever_arrives_there_is_a_request_or_a_status(raw):
    with contextlib.suppress(RequestError):
        assert http_head.parse(raw + b"\r\n\r\n").method in ("GET", "HEAD")


_LONG_HEAD = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 6000
_LONG_LINE = b"GET /".ljust(http_head.MAX_LINE + 1, b"a")
_LONG_QUERY = b"GET /?title=".ljust(http_head.MAX_HEAD + 1, b"a")


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"", None),
        (b"GET / HT", None),
        (b"\x16\x03\x01", 400),
        (b"get /", 400),
        (_LONG_LINE[:-1], None),
        (_LONG_LINE, 414),
        (_LONG_QUERY[: http_head.MAX_HEAD], None),
        (_LONG_QUERY[: http_head.MAX_HEAD + 1], 414),
        (_LONG_LINE[:-1] + b"?", 414),
        (_LONG_HEAD[: http_head.MAX_HEAD], None),
        (_LONG_HEAD[: http_head.MAX_HEAD + 1], 431),
    ],
)
def test_a_head_that_cannot_become_good_is_not_waited_for(received, status):
    problem = http_head.hopeless(received)
    assert (None if problem is None else problem.status) == status


def test_a_request_line_may_be_as_long_as_it_says():
    room = http_head.MAX_LINE - len(b"GET / HTTP/1.1")
    http_head.parse(b"GET /" + b"a" * room + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert status_of(b"GET /" + b"a" * (room + 1) + b" HTTP/1.1\r\nHost: h\r\n\r\n") == 414


def test_a_query_may_be_as_long_as_the_whole_head():
    """Dashboards append a title that its user has chosen."""
    target = b"/?token=a&title=" + b"%41" * 10_000
    request = http_head.parse(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert request.target.encode() == target
    assert status_of(b"GET " + target + b"b" * 3000 + b" HTTP/1.1\r\nHost: h\r\n\r\n") == 414


def test_a_header_line_has_an_end_as_the_request_line_has():
    line = b"X: ".ljust(http_head.MAX_LINE, b"a")
    head = b"GET / HTTP/1.1\r\nHost: h\r\n" + line
    assert http_head.parse(head + b"\r\n\r\n").headers[-1][0] == "X"
    with pytest.raises(HeadTooLarge):
        http_head.parse(head + b"a\r\n\r\n")
