"""From claims to a console's host, once more where the first one refuses."""

from __future__ import annotations

import pytest

from mksfilter.auth.token import Claims
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import (
    BackendError,
    ConnectionLimitReached,
    HostUnreachable,
    TicketRefused,
    UpstreamRefused,
)
from mksfilter.proxy.console.connector import Connector

CLAIMS = Claims(jti="j", aud="tests", iid="vm-1", iat=0, exp=60, use="connect", mode="full")
FIRST, SECOND = (Endpoint("websocket", f"esxi-{number}", 443) for number in (1, 2))


class Site:
    """Endpoints, and hosts that connect or raise."""

    def __init__(self, **answers: BackendError) -> None:
        self.answers = answers
        self.dialled: list[Endpoint] = []
        self.room: BackendError | None = None
        #: Whether the console was to be taken from whoever has it, as often as that was asked.
        self.taken: list[bool] = []

    def endpoint(self, claims: Claims, *, takes: bool = False) -> Endpoint:
        assert claims is CLAIMS
        self.taken.append(takes)
        return FIRST

    def require_running(self, claims: Claims) -> None:
        pass

    def after_refusal(
        self, claims: Claims, refusal: BackendError, *, takes: bool = False
    ) -> Endpoint:
        assert claims is CLAIMS
        self.taken.append(takes)
        if self.room is not None:
            raise self.room
        return SECOND

    def dial(self, endpoint: Endpoint):
        self.dialled.append(endpoint)
        if endpoint.host in self.answers:
            raise self.answers[endpoint.host]
        return f"connected to {endpoint.host}"

    def connect(self, endpoint: Endpoint | None = None, **options: bool):
        return Connector(self, self.dial).connect(CLAIMS, endpoint, **options)


def test_a_console_is_taken_from_who_has_it_only_where_its_user_asks_for_that():
    site = Site(**{"esxi-1": UpstreamRefused("its consoles are used up")})
    site.connect()
    assert site.taken == [False, False]
    site.connect(takes=True)
    assert site.taken[2:] == [True, True]


def test_the_console_is_looked_up_unless_the_token_told_where_it_is():
    site = Site()
    assert site.connect() == (FIRST, "connected to esxi-1")
    assert site.connect(SECOND) == (SECOND, "connected to esxi-2")
    assert site.dialled == [FIRST, SECOND]


def test_each_step_is_timed_with_the_vcenter_of_the_console():
    took = []
    site = Site(**{"esxi-1": TicketRefused("no")})
    connector = Connector(site, site.dial, took=lambda step, _, vcenter: took.append(step))
    connector.connect(CLAIMS)
    connector.connect(CLAIMS, SECOND)
    assert took == ["ticket", "dial", "dial"]


@pytest.mark.parametrize("refusal", [TicketRefused, UpstreamRefused])
def test_a_host_that_refuses_is_tried_once_more_where_there_is_room(refusal):
    site = Site(**{"esxi-1": refusal("no")})
    assert site.connect() == (SECOND, "connected to esxi-2")


def test_the_second_refusal_is_the_last():
    site = Site(**{"esxi-1": TicketRefused("first"), "esxi-2": TicketRefused("second")})
    with pytest.raises(TicketRefused, match="second"):
        site.connect()
    assert site.dialled == [FIRST, SECOND]


def test_the_reason_of_a_refusal_is_told():
    site = Site(**{"esxi-1": TicketRefused("no")})
    site.room = ConnectionLimitReached("one is open")
    with pytest.raises(ConnectionLimitReached):
        site.connect()


def test_a_host_that_cannot_be_reached_is_not_tried_again():
    site = Site(**{"esxi-1": HostUnreachable("no route")})
    with pytest.raises(HostUnreachable):
        site.connect()
    assert site.dialled == [FIRST]
