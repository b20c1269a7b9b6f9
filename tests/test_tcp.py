"""Peers that vanish, and addresses in brackets."""

from __future__ import annotations

import socket

import pytest

from mksfilter.exceptions import ConfigurationError
from mksfilter.tcp import split_address, unbracketed, watch_peer


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("[::1]", "::1"),
        (" [fe80::1%eth0] ", "fe80::1%eth0"),
        ("::1", "::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("vc1.example.com", "vc1.example.com"),
        ("[vc1]", "[vc1]"),
        ("", ""),
    ],
)
def test_brackets_around_an_address_are_not_part_of_it(written: str, meant: str) -> None:
    assert unbracketed(written) == meant


def options(sock: socket.socket) -> dict[str, int]:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    return {
        "SO_KEEPALIVE": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        **{n: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, n)) for n in names},
    }


@pytest.mark.parametrize("seconds", [1, 2, 5, 20, 25, 30, 3600])
def test_an_idle_peer_is_asked_before_it_is_given_up(seconds: int) -> None:
    with socket.socket() as sock:
        watch_peer(sock, seconds)
        found = options(sock)
    assert found["SO_KEEPALIVE"] == 1
    assert found["TCP_KEEPIDLE"] <= seconds
    assert found["TCP_KEEPIDLE"] + found["TCP_KEEPINTVL"] * 3 <= max(4, seconds)
    assert found["TCP_USER_TIMEOUT"] == seconds * 1000


def test_a_peer_that_may_be_slow_to_read_gets_the_time_for_it() -> None:
    with socket.socket() as sock:
        watch_peer(sock, 25, unread=60.5)
        assert options(sock)["TCP_USER_TIMEOUT"] == 60_500
        assert options(sock)["TCP_KEEPIDLE"] == 10


def test_nothing_is_set_where_the_kernels_own_times_are_wanted() -> None:
    with socket.socket() as sock:
        watch_peer(sock, 0)
        assert options(sock)["SO_KEEPALIVE"] == 0


def test_a_unix_socket_has_no_such_peer() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        watch_peer(sock, 25)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), (" host:1 ", ("host", 1))],
)
def test_an_address_has_two_parts(text, parts):
    assert split_address(text, "o") == parts


@pytest.mark.parametrize(
    "text", ["", "6091", ":6091", "h:", "h:x", "h:65536", "[]:1", "h:-1", "[::1:6091"]
)
def test_and_none_is_guessed(text):
    with pytest.raises(ConfigurationError, match="not of the form HOST:PORT"):
        split_address(text, "o")
