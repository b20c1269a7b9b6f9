"""What a vCenter answers is read as RFC 9112 has it, in whatever pieces it comes."""

from __future__ import annotations

import http.client
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.backends.vsphere import http_answer
from mksfilter.backends.vsphere.http_answer import Answer, read_answer


def read(data: bytes, pieces: int = 1 << 20) -> Answer:
    source = io.BytesIO(data)
    return read_answer(lambda size: source.read(min(size, pieces)))


def answer(body: bytes = b"body", fields: str = "", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


class TestWhatIsRead:
    def test_status_fields_and_body(self) -> None:
        found = read(answer(fields="Set-Cookie: vmware_soap_session=x; Path=/\r\n"))
        assert (found.status, found.reason, found.body) == (200, "OK", b"body")
        assert found.fields[b"set-cookie"] == b"vmware_soap_session=x; Path=/"
        assert found.keeps

    def test_chunks_with_extensions_and_trailers(self) -> None:
        found = read(
            b"HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: Chunked\r\n\r\n"
            b"3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Checksum: 1\r\n\r\n"
        )
        assert (found.status, found.body, found.keeps) == (500, b"abc0123456789", True)

    def test_an_answer_without_a_length_ends_with_the_connection(self) -> None:
        found = read(b"HTTP/1.1 503 Service Unavailable\r\n\r\nall of it")
        assert (found.body, found.keeps) == (b"all of it", False)

    def test_an_interim_answer_is_passed_over(self) -> None:
        assert read(b"HTTP/1.1 100 Continue\r\n\r\n" + answer()).body == b"body"

    @pytest.mark.parametrize(
        ("data", "keeps"),
        [
            pytest.param(answer(fields="Connection: close\r\n"), False, id="close"),
            pytest.param(answer(fields="connection: Keep-Alive\r\n"), True, id="keep-alive"),
            pytest.param(answer().replace(b"1.1", b"1.0"), False, id="http-1.0"),
            pytest.param(
                answer(fields="Connection: keep-alive\r\n").replace(b"1.1", b"1.0"),
                True,
                id="http-1.0-keep-alive",
            ),
            pytest.param(answer() + b"HTTP", False, id="more-than-was-asked-for"),
        ],
    )
    def test_whether_the_connection_may_be_used_again(self, data: bytes, keeps: bool) -> None:
        assert read(data).keeps is keeps

    @given(
        st.binary(max_size=200),
        st.integers(1, 40),
        st.lists(st.integers(1, 60), max_size=4),
    )
    def test_the_same_as_http_client_reads(self, body: bytes, pieces: int, cuts: list[int]) -> None:
        chunks, rest = b"", body
        for cut in cuts:
            part, rest = rest[:cut], rest[cut:]
            if part:
                chunks += b"%x\r\n%s\r\n" % (len(part), part)
        if rest:
            chunks += b"%X\r\n%s\r\n" % (len(rest), rest)
        data = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA:  b \r\n\r\n"
            + chunks
            + b"0\r\n\r\n"
        )
        ours = read(data, pieces)
        theirs = http.client.HTTPResponse(_Socket(data))  # type: ignore[arg-type]
        theirs.begin()
        assert ours.body == theirs.read() == body
        assert ours.fields[b"a"].decode() == (theirs.getheader("a") or "").strip()


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("data", "error"),
        [
            pytest.param(b"", http.client.RemoteDisconnected, id="nothing"),
            pytest.param(b"SSH-2.0-x\r\n\r\n", http.client.BadStatusLine, id="another-protocol"),
            pytest.param(answer()[:-1], http.client.IncompleteRead, id="cut-off-in-the-body"),
            pytest.param(answer()[:20], http.client.IncompleteRead, id="cut-off-in-the-head"),
            pytest.param(answer(fields="no colon\r\n"), http.client.HTTPException, id="no-field"),
            pytest.param(answer(fields="a : b\r\n"), http.client.HTTPException, id="space"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                http.client.HTTPException,
                id="length-negative",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                http.client.HTTPException,
                id="coding",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
                http.client.HTTPException,
                id="chunk-size",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
                http.client.HTTPException,
                id="chunk-longer-than-it-says",
            ),
        ],
    )
    def test_what_is_no_answer(self, data: bytes, error: type[Exception]) -> None:
        with pytest.raises(error):
            read(data)

    def test_a_body_that_says_it_is_larger_than_any_is_not_read(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (http_answer.MAX_BODY + 1)
        with pytest.raises(http.client.HTTPException, match="more than"):
            read(head)

    @pytest.mark.parametrize(
        ("begins", "most"),
        [
            pytest.param(b"HTTP/1.1 200 OK\r\n", http_answer.MAX_HEAD, id="head"),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", http_answer.MAX_BODY, id="body"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                http_answer.MAX_HEAD,
                id="chunk-size",
            ),
        ],
    )
    def test_what_does_not_end_is_given_up(self, begins: bytes, most: int) -> None:
        sent = 0

        def endless(size: int) -> bytes:
            nonlocal sent
            data = (b"" if sent else begins) + b"a" * size
            sent += len(data)
            return data[:size]

        with pytest.raises(http.client.HTTPException, match="more than"):
            read_answer(endless)
        assert sent < 2 * most


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)
