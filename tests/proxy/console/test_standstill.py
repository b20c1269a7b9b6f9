"""Machines that stand still while their users act are asked about, and no others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import gevent
import pytest

from mksfilter.exceptions import VCenterUnreachable
from mksfilter.proxy.console.standstill import (
    AGAIN,
    AGAIN_ASKING,
    LOOK_EVERY,
    MOST,
    StandstillWatch,
)
from mksfilter.proxy.relay.timers import TimerWheel


@dataclasses.dataclass
class Claims:
    iid: str


@dataclasses.dataclass
class Relay:
    unanswered_at: float = -math.inf


@dataclasses.dataclass
class Session:
    claims: Claims
    vm: str
    vcenter: str = "dc1"
    has_control: bool = True
    question: str = ""
    looked_at: float = -math.inf
    relay: Relay = dataclasses.field(default_factory=Relay)


class Node:
    """Its clock, its sessions, and a vCenter that counts what it is asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sessions: list[Session] = []
        self.asks: dict[str, str] = {}
        self.asked: list[tuple[str, set[str]]] = []
        self.told: list[tuple[str, str]] = []
        self.fails = False
        self.wheel = TimerWheel(gevent.get_hub().loop, resolution=0.01)
        self.watch = StandstillWatch(self, self.questions, wheel=self.wheel, clock=lambda: self.now)

    def __iter__(self):
        return iter(self.sessions)

    def tell_question(self, session: Session, text: str) -> None:
        if session.question != text:
            session.question = text
            self.told.append((session.claims.iid, text))

    def questions(self, vcenter: str, vms: Mapping[str, str]) -> dict[str, str]:
        self.asked.append((vcenter, set(vms)))
        if self.fails:
            raise VCenterUnreachable("no answer")
        return {iid: self.asks.get(iid, "") for iid in vms}

    def open(self, iid: str, **facts: object) -> Session:
        self.sessions.append(Session(Claims(iid), f"vm-{iid}", **facts))
        return self.sessions[-1]

    def look(self, after: float = LOOK_EVERY) -> None:
        self.now += after
        self.watch.look()


@pytest.fixture
def node() -> Node:
    return Node()


def test_as_long_as_machines_answer_nobody_is_asked(node):
    node.open("a")
    for _ in range(100):
        node.look()
    assert node.asked == []


def test_one_that_does_not_is_asked_about_and_its_user_told_once(node):
    session = node.open("a")
    node.asks = {"a": "Retry?"}
    session.relay.unanswered_at = node.now
    node.look()
    assert node.told == [("a", "Retry?")]
    for _ in range(3):
        node.look(AGAIN_ASKING)
    assert node.told == [("a", "Retry?")]
    node.asks = {}
    node.look(AGAIN_ASKING)
    assert node.told == [("a", "Retry?"), ("a", "")]
    assert len(node.asked) == 5


def test_one_whose_user_does_nothing_more_is_not_asked_about_again(node):
    session = node.open("a")
    session.relay.unanswered_at = node.now
    for _ in range(60):
        node.look()
    assert len(node.asked) == 1


def test_one_whose_user_goes_on_is_asked_about_twice_a_minute(node):
    session = node.open("a")
    began = node.now
    while node.now < began + 10 * AGAIN:
        session.relay.unanswered_at = node.now
        node.look()
    assert len(node.asked) == 10


def test_all_of_a_vcenter_are_asked_about_in_one_call_and_only_so_many(node):
    for number in range(MOST + 20):
        node.open(f"a{number}").relay.unanswered_at = node.now
    node.open("b", vcenter="dc2").relay.unanswered_at = node.now
    node.look()
    assert [(vcenter, len(vms)) for vcenter, vms in node.asked] == [("dc1", MOST), ("dc2", 1)]
    node.look()  # the others' turn
    assert [(vcenter, len(vms)) for vcenter, vms in node.asked[2:]] == [("dc1", 20)]


@pytest.mark.parametrize("facts", [{"has_control": False}, {"vm": ""}], ids=["client", "no VM"])
def test_one_whose_user_cannot_be_told_is_not_asked_about(node, facts):
    session = node.open("a")
    for name, value in facts.items():
        setattr(session, name, value)
    session.relay.unanswered_at = node.now
    node.look()
    assert node.asked == []


def test_a_vcenter_that_does_not_answer_changes_nothing(node):
    session = node.open("a")
    session.question = "Retry?"
    node.fails = True
    node.look()
    assert len(node.asked) == 1
    assert node.told == []


def test_a_look_comes_by_itself(node):
    session = node.open("a")
    session.question = "Retry?"
    node.now = 0.0
    node.watch.on_timer(0.0)
    node.watch.on_timer(0.0)  # one is on its way
    with gevent.Timeout(5):
        while not node.told:
            gevent.sleep(0.005)
    assert len(node.asked) == 1


def test_a_look_at_many_sessions_lets_others_have_their_turn(node):
    """A key press of one would wait for the look at all."""
    node.sessions = [Session(Claims(str(number)), f"vm-{number}") for number in range(1000)]
    looking = gevent.spawn(node.watch.look)
    turns = 0
    while not looking.ready():
        gevent.sleep(0)
        turns += 1
    assert turns >= 5
