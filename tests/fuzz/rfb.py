"""RFB from a browser: the handshake that is played to it, and what a viewer may say."""

from __future__ import annotations

from itertools import pairwise

from mksfilter.exceptions import RFBViolation
from mksfilter.proxy.relay.rfb import PlayedHandshake, ViewOnlyFilter, is_greeting

__all__ = ["TestOneInput", "check_viewer"]

_MAX_KEPT = 4 + 4 * 1024  # the longest message that passes: SetEncodings
_LENGTHS = {0: 20, 3: 10}


def TestOneInput(data: bytes) -> None:
    """A byte that says which, four of cuts, and what the browser says."""
    which, cuts, said = data[:1] or b"\0", data[1:5], data[5:]
    is_greeting(said)
    edges = sorted({cut % (len(said) + 1) for cut in cuts})
    if which[0] & 1:
        whole = _played(said, [])
        assert whole == _played(said, edges) == _played(said, [*range(len(said))])
    else:
        handshake = bool(which[0] & 2)
        passed, violated = _viewed(said, [], handshake)
        check_viewer(passed, handshake=handshake)
        for other in (edges, [*range(len(said))]):
            assert _viewed(said, other, handshake) == (passed, violated)


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


def _viewed(said: bytes, edges: list[int], handshake: bool) -> tuple[list[bytes], bool]:
    """The messages that pass, and whether one ended the session."""
    viewer = ViewOnlyFilter(handshake=handshake)
    passed: list[bytes] = []
    for start, end in pairwise([0, *edges, len(said)]):
        try:
            passed += viewer.feed(said[start:end])
        except RFBViolation:
            # Messages before it may or may not have left: the session is over either way.
            return [], True
        assert len(viewer._data) < _MAX_KEPT, "memory that the peer chooses"
    return passed, False


def check_viewer(passed: list[bytes], *, handshake: bool) -> None:
    """Each message is one that a server takes for what we took it for."""
    messages = list(passed)
    if handshake:
        for size in (12, 1, 1):
            if not messages:
                return
            assert len(messages.pop(0)) == size
    for message in messages:
        if message[0] == 2:
            assert len(message) == 4 + 4 * int.from_bytes(message[2:4], "big")
        else:
            assert len(message) == _LENGTHS[message[0]], "a viewer's message that is none"
