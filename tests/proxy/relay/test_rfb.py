"""RFB as far as the relay understands it; whole sessions are in test_protocol."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.exceptions import RFBViolation, UpstreamViolation
from mksfilter.proxy.relay.rfb import (
    GREETING,
    PlayedHandshake,
    ViewOnlyFilter,
    is_greeting,
)
from tests.proxy.relay.test_protocol import KEYS

HANDSHAKE = GREETING + b"\x01\x01"
RFB_3_3, RFB_3_7 = b"RFB 003.003\n", b"RFB 003.007\n"
REQUEST = struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480)


def viewer_of(host: bytes = GREETING) -> ViewOnlyFilter:
    """A viewer's filter that has heard the beginning of what the host says."""
    viewer = ViewOnlyFilter()
    viewer.hear(host)
    return viewer


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


def test_version_3_3_has_another_handshake_which_is_not_played():
    with pytest.raises(RFBViolation, match=r"3\.7 or 3\.8"):
        PlayedHandshake().feed(RFB_3_3)


NONE_CHOSEN = b"\0\0\0\1"


@pytest.mark.parametrize(
    ("host", "client"),
    [
        (RFB_3_3 + NONE_CHOSEN, RFB_3_3 + b"\0"),
        (b"RFB 003.006\n" + NONE_CHOSEN, RFB_3_3 + b"\0"),
        (RFB_3_7 + NONE_CHOSEN, RFB_3_3 + b"\0"),
        (GREETING + NONE_CHOSEN, RFB_3_3 + b"\0"),
        (RFB_3_7, RFB_3_7 + b"\1\0"),
        (GREETING, RFB_3_7 + b"\1\0"),
        (GREETING, GREETING + b"\1\0"),
        (b"RFB 003.889\n", GREETING + b"\1\0"),
        (b"RFB 005.000\n", GREETING + b"\1\0"),
    ],
)
def test_a_viewer_stays_in_step_whatever_version_it_and_the_host_agree_on(host, client):
    """In 3.3 the host chooses the security type, and the client says one byte less: a filter that
    does not know would let keys through, a byte out of step."""
    said = client + KEYS["key"] + REQUEST
    for cut in range(len(said)):
        for heard_at in (0, cut):
            viewer = viewer_of(host) if not heard_at else ViewOnlyFilter()
            passed = viewer.feed(said[:cut])
            if heard_at:
                assert passed == [], "before the host has spoken"
                viewer.hear(host)
            passed += viewer.feed(said[cut:])
            assert b"".join(passed) == client[:-1] + b"\1" + REQUEST


@pytest.mark.parametrize(
    ("host", "client"),
    [
        (RFB_3_3, RFB_3_7),
        (RFB_3_3, GREETING),
        (RFB_3_7, GREETING),
        (GREETING, b"RFB 003.005\n"),
        (GREETING, b"RFB 003.889\n"),
        (GREETING, b"RFB 000.000\n"),
        (GREETING, b"ID:12345678\n"),
    ],
)
def test_a_version_that_the_host_does_not_speak_ends_a_viewers_session(host, client):
    """The host would go on in its own version, a byte out of step."""
    with pytest.raises(RFBViolation, match="version"):
        viewer_of(host + NONE_CHOSEN).feed(client)


@pytest.mark.parametrize("chosen", [b"\0\0\0\0", b"\0\0\0\2", b"\0\0\1\1", b"\1\0\0\1"])
def test_a_security_type_that_the_host_chooses_for_a_viewer_is_none(chosen):
    viewer = viewer_of(RFB_3_3)
    assert viewer.feed(RFB_3_3) == [RFB_3_3]
    viewer.hear(RFB_3_3 + chosen)
    with pytest.raises(RFBViolation, match="security type"):
        viewer.feed(b"\1")


@pytest.mark.parametrize("host", [b"RFB 000.000\n", b"RFB 003.010\n", b"HTTP/1.1 200"])
def test_a_host_of_an_unknown_version_has_no_viewers(host):
    with pytest.raises(UpstreamViolation, match="version"):
        viewer_of(host).feed(GREETING)


def test_what_a_viewer_says_before_the_host_is_kept_to_a_point():
    viewer = ViewOnlyFilter()
    assert viewer.feed(bytes(4096)) == []
    with pytest.raises(RFBViolation, match="before the server"):
        viewer.feed(b"x")


@pytest.mark.parametrize("name", KEYS)
def test_what_a_viewer_may_not_say_is_dropped_to_the_byte(name):
    request = struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480)
    said = KEYS[name] + request
    for cut in range(len(said)):
        viewer = ViewOnlyFilter(handshake=False)
        assert viewer.feed(said[:cut]) + viewer.feed(said[cut:]) == [request]


# Bytes after which the length of a message is known.
KNOWN_AFTER = {
    "key": 1,
    "pointer": 2,
    "extended pointer": 2,
    "clipboard": 8,
    "extended clipboard": 8,
    "VMware key": 4,
    "power": 1,
    "resize": 8,
    "QEMU key": 2,
    "QEMU audio": 4,
    "QEMU audio format": 4,
    "continuous updates": 1,
    "fence": 9,
}
MORE = {
    "QEMU audio": struct.pack("!BBH", 255, 1, 1),
    "QEMU audio format": struct.pack("!BBHBBI", 255, 1, 2, 3, 2, 44100),
}


@pytest.mark.parametrize("name", KNOWN_AFTER)
def test_a_dropped_message_is_kept_until_its_length_is_known_and_not_a_byte_longer(name):
    message = {**KEYS, **MORE}[name]
    known = KNOWN_AFTER[name]
    viewer = ViewOnlyFilter(handshake=False)
    assert viewer.feed(message[: known - 1]) == []
    assert len(viewer._data) == known - 1
    assert viewer.feed(message[known - 1 : known]) == []
    assert len(viewer._data) == 0
    request = struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480)
    assert viewer.feed(message[known:] + request) == [request]


def test_what_a_viewer_may_say_passes_however_it_is_cut():
    said = [
        GREETING,
        b"\x01",
        b"\x01",
        struct.pack("!Bxxx16s", 0, b"a pixel format.."),
        struct.pack("!BxH2i", 2, 2, 0, 16),
        struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480),
    ]
    stream = b"".join(said)
    for cut in range(1, len(stream)):
        viewer = viewer_of()
        passed = viewer.feed(stream[:cut]) + viewer.feed(stream[cut:])
        assert passed == said
    viewer = viewer_of()
    assert [m for byte in stream for m in viewer.feed(bytes([byte]))] == said


def test_a_viewer_announces_these_encodings_and_no_other():
    """RFC 6143 section 7.7 and the community's registry of encodings, by number."""
    allowed = {*range(25), 50}  # pixels, up to ZRLE and its kin; H.264
    allowed |= set(range(-32, -22))  # quality of JPEG
    allowed |= set(range(-256, -246))  # compression level
    allowed |= {-223, -224, -239, -240, -308, -260, -307, -314}
    allowed |= {0x574D5664, 0x574D5665, 0x574D5666, 0x574D5668}
    asked = [*range(-1000, 100), *range(0x574D5600, 0x574D5700)]
    kept = []
    for start in range(0, len(asked), 1024):
        part = asked[start : start + 1024]
        viewer = ViewOnlyFilter(handshake=False)
        (message,) = viewer.feed(struct.pack(f"!BxH{len(part)}i", 2, len(part), *part))
        (count,) = struct.unpack_from("!H", message, 2)
        kept += struct.unpack_from(f"!{count}i", message, 4)
    assert set(kept) == allowed


@pytest.mark.parametrize(("count", "refused"), [(1024, False), (1025, True)])
def test_a_thousand_encodings_are_a_list_and_more_are_not(count, refused):
    viewer = ViewOnlyFilter(handshake=False)
    message = struct.pack(f"!BxH{count}i", 2, count, *([0] * count))
    if refused:
        with pytest.raises(RFBViolation, match="1025 encodings"):
            viewer.feed(message[:4])
    else:
        assert viewer.feed(message) == [message]


def test_the_shortest_message_of_vmware_is_its_header():
    viewer = ViewOnlyFilter(handshake=False)
    request = struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480)
    assert viewer.feed(struct.pack("!BBH", 127, 0, 4) + request) == [request]
    with pytest.raises(RFBViolation, match="3 bytes"):
        viewer.feed(struct.pack("!BBH", 127, 0, 3))


def test_a_clipboard_of_gigabytes_is_counted_not_kept():
    viewer = ViewOnlyFilter(handshake=False)
    assert viewer.feed(struct.pack("!BxxxI", 6, 0x7FFFFFFF)) == []
    for _ in range(100):
        assert viewer.feed(bytes(65536)) == []
    assert len(viewer._data) == 0


def test_a_viewers_session_is_shared_whatever_it_asks_for():
    viewer = viewer_of()
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
