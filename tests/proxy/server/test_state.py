"""One worker process and the applications it serves."""

from __future__ import annotations

import pytest

from mksfilter.proxy.server.state import ServerState


class Application:
    """Writes down what its worker asks of it."""

    def __init__(self, timeout: float, trusted: str = "", sessions: int = 0) -> None:
        self.handshake_timeout = timeout
        self.sessions = sessions
        self.did: list[object] = []
        self._trusted = trusted

    def expects_proxy_header(self, peer: str) -> bool:
        return peer == self._trusted

    def start(self, state: ServerState) -> None:
        self.did.append(state)

    kinds = (2, 1)
    drain_time = 7.0

    def drain(self, seconds: float | None, *, move_within: float) -> None:
        self.did.append(("drain", seconds, move_within))

    def close(self) -> None:
        self.did.append("close")

    def refused(self, reason: str) -> None:
        self.did.append(reason)


def test_each_application_is_started_told_and_ended():
    applications = [Application(5.0), Application(5.0)]
    state = ServerState(applications)
    state.start()
    state.refused("bad-request")
    assert not state.draining
    state.drain(None)
    assert state.draining
    assert state.refusing, "it goes on to listen"
    state.drain(3)
    state.close()
    for application in applications:
        assert application.did == [
            *(state, "bad-request"),
            *(("drain", None, 20.0), ("drain", 3, 3)),
            "close",
        ]


@pytest.mark.parametrize(
    ("pages", "seconds", "within"),
    [(16, 60, 4), (100, 60, 25), (1000, 60, 60), (16, None, 20), (1000, None, 250), (16, 3, 3)],
)
def test_many_pages_do_not_leave_a_worker_all_at_once(pages, seconds, within):
    """Ten a second do, in the time between a tenth and half of what they are given."""
    application = Application(5.0)
    application.kinds = (pages, 0)
    ServerState([application]).drain(seconds)
    assert application.did == [("drain", seconds, pytest.approx(within))]


def test_the_kinds_of_sessions_are_summed_and_the_longest_drain_time_counts():
    state = ServerState([Application(5.0), Application(5.0)])
    assert state.kinds == (4, 2)
    assert state.drain_time == 7.0


def test_who_connected_before_the_socket_was_closed_is_still_served():
    state = ServerState([Application(5.0)])
    state.drain(3)
    assert (state.draining, state.refusing) == (True, False)
    state.close()
    assert state.refusing


def test_a_connection_waits_as_the_applications_say():
    state = ServerState([Application(5.0, "10.0.0.1", 2), Application(3.0, "10.0.0.2", 1)])
    assert state.sessions == 3
    assert state.handshake_timeout == 3.0
    assert [state.expects_proxy_header(f"10.0.0.{n}") for n in (1, 2, 3)] == [True, True, False]


def test_a_worker_without_an_application_still_answers():
    state = ServerState()
    state.start()
    state.refused("x")
    state.drain(1)
    state.close()
    assert state.sessions == 0
    assert state.handshake_timeout > 0
    assert not state.expects_proxy_header("127.0.0.1")
