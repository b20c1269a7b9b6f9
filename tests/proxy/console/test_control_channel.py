"""The control channel's words."""

from __future__ import annotations

import json
import math

import pytest
from websockets.frames import Close, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from mksfilter.exceptions import ConsoleError, InstancePoweredOff, UserLimitReached
from mksfilter.proxy.console import control_channel


def frames(data: bytes):
    protocol = Protocol(CLIENT, state=OPEN)
    protocol.receive_data(data)
    return protocol.events_received()


def test_a_page_is_greeted_with_a_token_to_come_back_with():
    hello = control_channel.hello(
        mode="view", session="s", resume="t", expires=None, now=1.5, name="web-1"
    )
    assert json.loads(hello) == {
        "type": "hello",
        "mode": "view",
        "session": "s",
        "resume": "t",
        "expires": None,
        "now": 1.5,
        "name": "web-1",
        "beat": True,
    }
    assert json.loads(control_channel.resume("t2")) == {"type": "resume", "token": "t2"}
    assert json.loads(control_channel.notice("draining", 5)) == {
        "type": "notice",
        "notice": "draining",
        "in": 5,
    }


@pytest.mark.parametrize(
    ("name", "told"), [("", None), ("x" * 300, "x" * 255), ("<b>\r\n\u2028", "<b>\r\n\u2028")]
)
def test_a_page_is_told_the_machine_s_name_as_text_or_not_at_all(name, told):
    hello = control_channel.hello(
        mode="full", session="s", resume=None, expires=None, now=0, name=name
    )
    assert json.loads(hello)["name"] == told
    assert hello.isascii()
    assert "\n" not in hello


def test_a_beat_is_answered_by_the_like_and_nothing_else_is():
    beat = b'{"type":"beat","id":17}'
    assert json.loads(control_channel.answer(beat)) == json.loads(beat)
    for message in (b"", b"{}", b'{"type":"beat"}', beat + b" ", beat.replace(b"17", b"-1")):
        assert control_channel.answer(message) is None
    assert control_channel.answer(beat.replace(b"17", b"1" * 10)) is None


def test_a_session_that_never_began_ends_with_words_and_a_code():
    text, close = frames(control_channel.refusal_frames(InstancePoweredOff("vm x on host y")))
    assert (text.opcode, close.opcode) == (Opcode.TEXT, Opcode.CLOSE)
    said = json.loads(text.data)
    assert said == {
        "type": "end",
        "reason": "powered-off",
        "message": InstancePoweredOff.public,
        "retry": "wait",
    }
    assert Close.parse(close.data) == Close(4409, "powered-off")


def said(reason):
    return json.loads(control_channel.end(reason))


def test_facts_of_a_reason_travel_beside_it():
    assert said(UserLimitReached("user u1", limit=3))["facts"] == {"limit": 3}
    off = InstancePoweredOff("x", machine="web-1", seconds=1.2)
    assert said(off)["facts"] == {"machine": "web-1", "seconds": 2}
    assert "facts" not in said(InstancePoweredOff("x"))


@pytest.mark.parametrize("value", [-1, math.inf, math.nan, 1e10, "many", ""])
def test_a_fact_that_is_no_number_of_use_is_not_told(value):
    assert "facts" not in said(UserLimitReached("x", limit=value, seconds=value))


def test_names_among_the_facts_are_one_short_line_and_nothing_else_is_told():
    reason = InstancePoweredOff(
        "x", machine="a\u202eb\r\n\x1bc" + "d" * 300, node="\u2066", ticket="secret"
    )
    text = control_channel.end(reason)
    assert said(reason)["facts"] == {"machine": ("abc" + "d" * 300)[:255]}
    assert "secret" not in text
    assert text.isascii()


def test_a_refused_page_is_told_by_what_an_operator_finds_it():
    text, _ = frames(
        control_channel.refusal_frames(InstancePoweredOff("x"), session="s", request="r", node="n")
    )
    told = json.loads(text.data)
    assert (told["session"], told["request"], told["node"]) == ("s", "r", "n")


def test_every_reason_fits_into_a_close_frame_and_has_a_code_that_may_be_sent():
    """Section 7.4.1: 1005, 1006 and 1015 are never on the wire; 5.5: at most 123 bytes."""

    def tree(cls):
        yield cls
        for child in cls.__subclasses__():
            yield from tree(child)

    for cls in tree(ConsoleError):
        assert cls.close_code in range(1000, 5000)
        assert cls.close_code not in (1004, 1005, 1006, 1015), cls
        assert len(cls.reason.encode()) <= 123
        assert len(frames(control_channel.refusal_frames(cls("x")))) == 2
