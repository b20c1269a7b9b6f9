"""What sessions have left behind goes back to the system."""

from __future__ import annotations

from mksfilter.proxy.server.memory import Reclaimer, give_back


class Asked:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def looks(*sessions: int) -> int:
    """How often memory is given back while a worker has so many sessions, second by second."""
    asked = Asked()
    reclaimer = Reclaimer(asked)
    for number in sessions:
        reclaimer.look(number)
    return asked.times


def test_memory_is_given_back_once_when_many_sessions_have_ended_and_it_is_quiet():
    assert looks(0, 1000, *[0] * 60) == 1
    assert looks(0, 1000, *[500] * 60, *[20] * 60) == 2


def test_memory_is_kept_while_sessions_end():
    assert looks(1000, *range(990, 0, -10)) == 0


def test_memory_of_a_few_sessions_is_kept():
    assert looks(0, 60, *[0] * 60) == 0
    assert looks(*[60, 0] * 60, *[0] * 60) == 0


def test_the_system_takes_it():
    give_back()
