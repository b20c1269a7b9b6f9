"""Whether a node takes one more session."""

from __future__ import annotations

import pytest

from mksfilter.auth.token import Claims
from mksfilter.exceptions import DrainingError, InstanceLimitReached, RateLimitReached
from mksfilter.proxy.console.admission import Admission
from mksfilter.proxy.console.limits import AddressRate, SessionLimits
from tests.auth.keyring import Clock

CLAIMS = Claims(
    jti="j", aud="tests", iid="vm-1", uid="alice", iat=0, exp=60, use="connect", mode="full"
)


def test_an_instance_may_have_so_many_sessions_until_one_ends() -> None:
    admission = Admission(AddressRate(0), SessionLimits(10, per_instance=1))
    place = admission.admit(CLAIMS, "192.0.2.1")
    with pytest.raises(InstanceLimitReached):
        admission.admit(CLAIMS, "192.0.2.2")
    place.release()
    admission.admit(CLAIMS, "192.0.2.2")


def test_an_address_that_comes_too_often_takes_no_place() -> None:
    clock = Clock()
    admission = Admission(AddressRate(0.1, burst=1), SessionLimits(2), clock=clock)
    admission.admit(CLAIMS, "192.0.2.1")
    with pytest.raises(RateLimitReached):
        admission.admit(CLAIMS, "192.0.2.1")
    clock.advance(10)
    admission.admit(CLAIMS, "192.0.2.1")


def test_a_node_that_is_taken_out_of_service_takes_nobody() -> None:
    draining = False
    admission = Admission(AddressRate(0), SessionLimits(1), draining=lambda: draining)
    admission.require_service()
    draining = True
    with pytest.raises(DrainingError):
        admission.require_service()
