"""Whose console is opened next."""

from __future__ import annotations

import pytest

from mksfilter.exceptions import OpeningLimitReached
from mksfilter.proxy.console.openings import Opening, Openings


class Asked:
    """Openings, and in which order they were woken."""

    def __init__(self, *arguments: int, **limits: int) -> None:
        self.openings = Openings(*arguments, **limits)
        self.woken: list[str] = []
        self._numbers: dict[str, int] = {}

    def ask(self, user: str = "", address: str = "192.0.2.1") -> Opening:
        self._numbers[user] = number = self._numbers.get(user, 0) + 1
        name = f"{user or address} {number}"
        return self.openings.ask(user, address, lambda: self.woken.append(name))


def test_a_user_has_so_many_places_and_then_waits_for_one_of_their_own() -> None:
    asked = Asked(10, per_user=2)
    first, second, third = (asked.ask("alice") for _ in range(3))
    assert (first.admitted, second.admitted, third.admitted) == (True, True, False)
    assert asked.ask("bob").admitted
    asked.openings.leave(second)
    assert third.admitted
    assert (len(asked.openings), asked.openings.waiting) == (3, 0)


def test_an_address_too_and_ipv6_by_its_64() -> None:
    asked = Asked(10, per_address=1)
    assert asked.ask("alice", "2001:db8::1").admitted
    assert not asked.ask("bob", "2001:db8::ffff:2").admitted
    assert asked.ask("carol", "2001:db8:0:1::1").admitted


def test_a_user_who_opens_a_hundred_delays_another_by_one_turn() -> None:
    asked = Asked(1, per_line=200)
    current = asked.ask("alice")
    for _ in range(100):
        asked.ask("alice")
    bob = asked.ask("bob")
    asked.openings.leave(current)
    asked.openings.leave(next_of(asked, "alice 2"))
    assert bob.admitted
    assert asked.woken == ["alice 1", "alice 2", "bob 1"]


def next_of(asked: Asked, woken: str) -> Opening:
    """The opening that was admitted last, which is *woken*."""
    assert asked.woken[-1] == woken
    opening = Opening("alice", "192.0.2.1", "alice", lambda: None)
    opening.admitted = True
    return opening


def test_a_line_has_an_end() -> None:
    asked = Asked(1, per_line=2)
    for _ in range(3):
        asked.ask("alice")
    with pytest.raises(OpeningLimitReached, match=r"user alice: 1 consoles .* and 2 wait"):
        asked.ask("alice")
    assert not asked.ask("bob").admitted, "bob has a line of his own"


def test_without_a_user_the_line_is_the_addresss_and_longer() -> None:
    asked = Asked(1, per_line=2)
    for _ in range(9):
        asked.ask()
    with pytest.raises(OpeningLimitReached, match="address"):
        asked.ask()
    asked.ask(address="192.0.2.2")


def test_when_all_lines_are_full_the_longest_gives_way() -> None:
    asked = Asked(1, per_line=9, waiting=3)
    asked.ask("alice")
    waiting = [asked.ask("alice") for _ in range(3)]
    bob = asked.ask("bob")
    assert isinstance(waiting[-1].refused, OpeningLimitReached)
    assert asked.woken == ["alice 1", "alice 4"]
    assert bob.refused is None
    assert asked.openings.waiting == 3
    with pytest.raises(OpeningLimitReached):
        asked.ask("alice")


def test_who_gives_up_waiting_leaves_the_line() -> None:
    asked = Asked(1)
    first, second, third = (asked.ask("alice") for _ in range(3))
    asked.openings.leave(second)
    asked.openings.leave(first)
    assert third.admitted
    asked.openings.leave(third)
    assert (len(asked.openings), asked.openings.waiting) == (0, 0)


def test_who_was_refused_gives_no_place_back() -> None:
    asked = Asked(1, waiting=1)
    asked.ask("alice")
    waiting = [asked.ask("alice")]
    with pytest.raises(OpeningLimitReached):
        asked.ask("alice")
    asked.openings.leave(waiting[0])
    assert (len(asked.openings), asked.openings.waiting) == (1, 0)


def test_after_a_thousand_nothing_is_remembered() -> None:
    asked = Asked(10, per_user=2, per_address=5)
    for number in range(1000):
        asked.openings.leave(asked.ask(f"user {number}", f"192.0.2.{number % 256}"))
    assert not asked.openings._users
    assert not asked.openings._addresses
    assert not asked.openings._lines
