"""A name with several addresses of which some lead nowhere (RFC 8305)."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from mksfilter import happy_eyeballs
from mksfilter.happy_eyeballs import Address, order
from tests.support.black_hole import black_hole


def v4(address: str, port: int = 443) -> Address:
    return Address(socket.AF_INET, (address, port))


def v6(address: str, port: int = 443) -> Address:
    return Address(socket.AF_INET6, (address, port, 0, 0))


@contextlib.contextmanager
def listener(address: str) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        yield server.getsockname()[1]


def nobody(address: str) -> int:
    with listener(address) as port:
        return port


def connect(*addresses: Address, **options: float) -> str:
    """The address that a connection was made to."""
    sock = happy_eyeballs.connect(
        addresses, make_socket=socket.socket, poll=select.poll, **{"timeout": 20, **options}
    )
    with sock:
        peer: str = sock.getpeername()[0]
        return peer


class TestOrder:
    """RFC 8305 section 4."""

    def test_the_families_take_turns(self) -> None:
        found = [v6("fd00::1"), v6("fd00::2"), v6("fd00::3"), v4("10.0.0.1"), v4("10.0.0.2")]
        assert [a.sockaddr[0] for a in order(found)] == [
            "fd00::1",
            "10.0.0.1",
            "fd00::2",
            "10.0.0.2",
            "fd00::3",
        ]

    def test_the_resolvers_first_comes_first(self) -> None:
        assert order([v4("10.0.0.1"), v6("fd00::1")])[0] == v4("10.0.0.1")

    def test_an_address_is_tried_once(self) -> None:
        assert order([v4("10.0.0.1"), v4("10.0.0.1")]) == [v4("10.0.0.1")]


class TestRace:
    """RFC 8305 section 5. The black holes would take 20 s each."""

    @pytest.mark.parametrize(("dead", "alive"), [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
    def test_a_family_that_leads_nowhere_costs_a_moment(self, dead: str, alive: str) -> None:
        make = {dead: v6 if ":" in dead else v4, alive: v6 if ":" in alive else v4}
        with black_hole(dead) as nowhere, listener(alive) as port:
            assert connect(make[dead](dead, nowhere), make[alive](alive, port), timeout=5) == alive

    def test_two_dead_addresses_of_one_family_cost_two(self) -> None:
        with (
            black_hole("127.0.0.2") as first,
            black_hole("127.0.0.3") as second,
            listener("127.0.0.1") as port,
        ):
            dead = [v4("127.0.0.2", first), v4("127.0.0.3", second)]
            assert connect(*dead, v4("127.0.0.1", port), timeout=5) == "127.0.0.1"

    def test_a_refusal_is_not_waited_for(self) -> None:
        """With a stagger that no test would sit through."""
        with listener("127.0.0.1") as port:
            refused = v6("::1", nobody("::1"))
            assert connect(refused, v4("127.0.0.1", port), stagger=3600) == "127.0.0.1"

    def test_a_refusal_ends_the_stagger_of_another_attempt(self) -> None:
        with black_hole("127.0.0.2") as nowhere, listener("127.0.0.1") as port:
            addresses = [
                v4("127.0.0.2", nowhere),
                v6("::1", nobody("::1")),
                v4("127.0.0.1", port),
            ]
            assert connect(*addresses, stagger=0.05) == "127.0.0.1"

    def test_who_was_slow_and_first_wins_all_the_same(self) -> None:
        """An attempt goes on while others begin."""
        with black_hole("127.0.0.2") as nowhere, listener("127.0.0.1") as port:
            assert connect(v4("127.0.0.1", port), v4("127.0.0.2", nowhere)) == "127.0.0.1"

    def test_nobody_answering_is_a_time_out(self) -> None:
        with (
            black_hole("127.0.0.2") as first,
            black_hole("127.0.0.3") as second,
            pytest.raises(TimeoutError),
        ):
            connect(v4("127.0.0.2", first), v4("127.0.0.3", second), timeout=0.3)

    def test_all_refusing_is_told_as_that(self) -> None:
        with pytest.raises(ConnectionRefusedError):
            connect(v6("::1", nobody("::1")), v4("127.0.0.1", nobody("127.0.0.1")))

    def test_no_attempt_is_left_open(self) -> None:
        made: list[socket.socket] = []

        def make(family: int, kind: int) -> socket.socket:
            made.append(socket.socket(family, kind))
            return made[-1]

        with black_hole("127.0.0.2") as nowhere, listener("127.0.0.1") as port:
            won = happy_eyeballs.connect(
                [v4("127.0.0.2", nowhere), v4("127.0.0.1", port)],
                make_socket=make,
                poll=select.poll,
                timeout=20,
            )
        assert [sock.fileno() for sock in made] == [-1, won.fileno()]
        assert won.gettimeout() == 20
        won.close()
