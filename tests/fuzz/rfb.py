"""RFB from a browser: the handshake that is played to it, and what a viewer may say."""

from __future__ import annotations

from itertools import pairwise

from mksfilter.exceptions import RFBViolation, UpstreamViolation
from mksfilter.proxy.relay.rfb import GREETING, PlayedHandshake, ViewOnlyFilter, is_greeting

__all__ = ["HOSTS", "TestOneInput", "check_viewer"]

#: What a host says first.
HOSTS = (
    GREETING,
    b"RFB 003.007\n",
    b"RFB 003.003\n\0\0\0\1",
    b"RFB 003.003\n\0\0\0\2",
    b"RFB 003.008\n\0\0\0\1",
    b"RFB 003.010\n",
    b"RFB",
    b"",
)

_MAX_KEPT = 4 + 4 * 1024  # the longest message that passes: SetEncodings
_LENGTHS = {0: 20, 3: 10}


def TestOneInput(data: bytes) -> None:
    """A byte that says which, and what the host says first; four of cuts; what the browser says."""
    which, cuts, said = data[:1] or b"\0", data[1:5], data[5:]
    is_greeting(said)
    edges = sorted({cut % (len(said) + 1) for cut in cuts})
    if which[0] & 1:
        whole = _played(said, [])
        assert whole == _played(said, edges) == _played(said, [*range(len(said))])
    else:
        handshake = bool(which[0] & 2)
        host = HOSTS[which[0] >> 2 & 7] if handshake else None
        passed, violated = _viewed(said, [], host)
        check_viewer(passed, host)
        for other in (edges, [*range(len(said))]):
            assert _viewed(said, other, host) == (passed, violated)


def _played(said: bytes, edges: list[int]) -> tuple[bytes, bytes, bool]:
    """Answers, what followed the handshake, and whether it was one."""
    handshake = PlayedHandshake()
    answers, rest = b"", b""
    for start, end in pairwise([0, *edges, len(said)]):
        if handshake.done:
            rest += said[start:end]
            continue
        try:
            more, following = handshake.feed(said[start:end])
        except RFBViolation:
            # What was answered in the same breath is lost with the session.
            return b"", b"", False
        answers += b"".join(more)
        rest += following
        assert len(handshake._wanted) < 12, "memory that the peer chooses"
    assert not handshake.done or rest == said[14:]
    return answers, rest, True


def _viewed(said: bytes, edges: list[int], host: bytes | None) -> tuple[list[bytes], bool]:
    """The messages that pass, and whether one ended the session."""
    viewer = ViewOnlyFilter(handshake=host is not None)
    viewer.hear(host or b"")
    passed: list[bytes] = []
    for start, end in pairwise([0, *edges, len(said)]):
        try:
            passed += viewer.feed(said[start:end])
        except (RFBViolation, UpstreamViolation):
            # Messages before it may or may not have left: the session is over either way.
            return [], True
        assert len(viewer._data) <= _MAX_KEPT, "memory that the peer chooses"
    return passed, False


def check_viewer(passed: list[bytes], host: bytes | None) -> None:
    """Each message is one that a server takes for what we took it for.

    :param host: what it said first; None: it has been through the handshake.
    """
    messages = list(passed)
    if host is not None and messages:
        version = messages.pop(0)
        assert version in (b"RFB 003.003\n", b"RFB 003.007\n", GREETING)
        assert version <= host[:12], "a version that the host does not speak"
        chooses = version != b"RFB 003.003\n"
        assert chooses or not messages or host[12:16] == b"\0\0\0\1"
        for expected in [b"\1"] * (1 + chooses):
            if not messages:
                return
            assert messages.pop(0) == expected
    for message in messages:
        if message[0] == 2:
            assert len(message) == 4 + 4 * int.from_bytes(message[2:4], "big")
        else:
            assert len(message) == _LENGTHS[message[0]], "a viewer's message that is none"
