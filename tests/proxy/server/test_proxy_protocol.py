"""Who a load balancer in TCP mode says its client is."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.exceptions import ProxyHeaderError
from mksfilter.proxy.server.proxy_protocol import ProxyHeader, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes([198, 51, 100, 9, 10, 0, 0, 1]) + struct.pack("!HH", 5151, 443)
V6 = bytes.fromhex("20010db8" + "00" * 11 + "01") + bytes(16) + struct.pack("!HH", 5151, 443)


def block(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


WHOLE = [
    (b"PROXY TCP4 198.51.100.9 10.0.0.1 5151 443\r\n", ("198.51.100.9", 5151)),
    (b"PROXY TCP6 2001:db8::1 ::1 5151 443\r\n", ("2001:db8::1", 5151)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    (block(0x21, 0x11, V4), ("198.51.100.9", 5151)),
    (block(0x21, 0x21, V6), ("2001:db8::1", 5151)),
    (block(0x21, 0x11, V4 + b"\x03\x00\x04crc!"), ("198.51.100.9", 5151)),
    (block(0x20, 0x00, b""), None),
    (block(0x21, 0x31, bytes(216)), None),  # a Unix socket
]


@pytest.mark.parametrize(("header", "source"), WHOLE)
def test_the_client_is_named_and_what_follows_is_left_alone(header, source):
    assert parse(header + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(header), source)


@pytest.mark.parametrize(("header", "source"), WHOLE)
def test_every_beginning_of_a_header_asks_for_more(header, source):
    for size in range(len(header)):
        assert parse(header[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02",
        b"PROXY TCP4 198.51.100.9 10.0.0.1 5151\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 5151 443\r\n",
        b"PROXY TCP4 nonsense 10.0.0.1 5151 443\r\n",
        b"PROXY TCP4 198.51.100.9 10.0.0.1 99999 443\r\n",
        b"PROXY UDP4 198.51.100.9 10.0.0.1 5151 443\r\n",
        b"PROXY " + b"x" * 200,
        block(0x31, 0x11, V4),
        block(0x21, 0x11, V4[:6]),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 65535),
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(ProxyHeaderError):
        parse(data)


@given(st.binary(max_size=300), st.sampled_from([b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 "]))
def test_whatever_arrives_there_is_a_header_or_a_refusal(data, start):
    with contextlib.suppress(ProxyHeaderError):
        parse(start + data)
