"""RFB as far as the relay understands it; whole sessions are in test_protocol."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.exceptions import RFBViolation
from mksfilter.proxy.relay.rfb import (
    GREETING,
    PlayedHandshake,
    ViewOnlyFilter,
    is_greeting,
)
from tests.proxy.relay.test_protocol import KEYS

HANDSHAKE = GREETING + b"\x01\x01"


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"", None),
        (b"RFB", None),
        (b"RFB ", True),
        (b"RFB 003.008\n", True),
        (b"\x02\x80\x01\xe0", False),
        (b"\x02", False),
        # A screen 21,062 pixels wide: the first three bytes could still be either.
        (b"RFB\x00", False),
    ],
)
def test_four_bytes_tell_whether_a_handshake_follows(start, expected):
    assert is_greeting(start) is expected


@given(st.lists(st.integers(0, 20), max_size=6))
def test_the_played_handshake_takes_its_replies_in_any_pieces(cuts):
    said = HANDSHAKE + b"what follows"
    played = PlayedHandshake()
    answers, rest = [], b""
    edges = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    for start, end in itertools.pairwise(edges):
        more, left = played.feed(said[start:end])
        answers += more
        rest += left
    assert played.done
    assert b"".join(answers) == b"\x01\x01" + b"\x00\x00\x00\x00"
    assert rest == b"what follows"


def test_version_3_3_has_another_handshake_and_is_refused():
    for parser in (PlayedHandshake(), ViewOnlyFilter()):
        with pytest.raises(RFBViolation, match=r"3\.7 or 3\.8"):
            parser.feed(b"RFB 003.003\n")


@pytest.mark.parametrize("name", KEYS)
@given(cut=st.integers(0, 60))
def test_what_a_viewer_may_not_say_is_dropped_to_the_byte(name, cut):
    request = struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480)
    said = KEYS[name] + request
    viewer = ViewOnlyFilter(handshake=False)
    assert viewer.feed(said[:cut]) + viewer.feed(said[cut:]) == [request]


def test_a_clipboard_of_gigabytes_is_counted_not_kept():
    viewer = ViewOnlyFilter(handshake=False)
    assert viewer.feed(struct.pack("!BxxxI", 6, 0x7FFFFFFF)) == []
    for _ in range(100):
        assert viewer.feed(bytes(65536)) == []
    assert len(viewer._data) == 0


def test_a_viewers_session_is_shared_whatever_it_asks_for():
    viewer = ViewOnlyFilter()
    assert viewer.feed(GREETING + b"\x01\x00") == [GREETING, b"\x01", b"\x01"]


@given(st.binary(max_size=200))
def test_whatever_comes_only_whole_known_messages_pass(data):
    viewer = ViewOnlyFilter(handshake=False)
    try:
        passed = viewer.feed(data)
    except RFBViolation:
        return
    for message in passed:
        size = {0: 20, 3: 10}.get(message[0])
        if message[0] == 2:
            size = 4 + 4 * struct.unpack_from("!H", message, 2)[0]
        assert len(message) == size
