"""A console host whose name has an A and an AAAA record, one of which leads nowhere."""

from __future__ import annotations

import gevent.socket
import pytest

from mksfilter import exceptions
from tests.proxy.upstream.hosts import Console, connect, endpoint
from tests.support.black_hole import black_hole, resolves_to


@pytest.fixture
def two_addresses(monkeypatch):
    resolves_to(monkeypatch, gevent.socket, esx_test=["127.0.0.9", "127.0.0.1"])


def test_a_black_hole_costs_a_moment_and_no_time_out(serve, two_addresses):
    console = Console()
    port = serve(console)
    with black_hole("127.0.0.9", port):
        connect(endpoint(port, host="esx.test"), timeout=5).close()
    assert len(console.requests) == 1


def test_an_address_that_is_not_allowed_is_not_tried(serve, two_addresses):
    console = Console()
    port = serve(console)
    other = ("127.0.0.9/32",)
    with (
        black_hole("127.0.0.9", port),
        pytest.raises(exceptions.HostUnreachable, match=r"no console within 0\.5 s"),
    ):
        connect(endpoint(port, host="esx.test"), timeout=0.5, networks=other)
    assert console.requests == []


def test_addresses_of_which_none_is_allowed_are_refused_without_an_attempt(serve, two_addresses):
    console = Console()
    with pytest.raises(exceptions.EndpointForbidden):
        connect(endpoint(serve(console), host="esx.test"), networks=("192.0.2.0/24",))
    assert console.requests == []
