"""Limits that need no shared memory (OSSN-0008)."""

from __future__ import annotations

import tracemalloc

import pytest

from mksfilter.exceptions import (
    InstanceLimitReached,
    RateLimitReached,
    SessionLimitReached,
    UserLimitReached,
)
from mksfilter.proxy.console.limits import AddressRate, SessionLimits


def test_the_session_after_the_last_is_refused_and_a_place_given_back_is_free():
    limits = SessionLimits(2)
    first = limits.reserve("vm", "user")
    limits.reserve("other", "user")
    with pytest.raises(SessionLimitReached) as refused:
        limits.reserve("third", "user")
    assert refused.value.status == 503
    first.release()
    first.release()  # twice is once
    limits.reserve("third", "user")
    with pytest.raises(SessionLimitReached):
        limits.reserve("fourth", "user")


def test_one_instance_and_one_user_have_limits_of_their_own():
    limits = SessionLimits(100, per_instance=1, per_user=2)
    limits.reserve("a", "alice")
    with pytest.raises(InstanceLimitReached, match="instance a"):
        limits.reserve("a", "bob")
    limits.reserve("b", "alice")
    with pytest.raises(UserLimitReached, match="user alice"):
        limits.reserve("c", "alice")
    limits.reserve("c", "bob")


def test_a_refusal_takes_no_place():
    limits = SessionLimits(2, per_instance=1)
    limits.reserve("a", "")
    for _ in range(20):
        with pytest.raises(InstanceLimitReached):
            limits.reserve("a", "")
    limits.reserve("b", "")


def test_sessions_without_a_user_are_not_counted_as_one_users():
    limits = SessionLimits(10, per_user=1)
    limits.reserve("a", "")
    limits.reserve("b", "")


def test_an_address_may_burst_and_then_has_its_rate():
    rate = AddressRate(2.0, burst=3)
    for _ in range(3):
        rate.take("192.0.2.1", now=100.0)
    with pytest.raises(RateLimitReached) as refused:
        rate.take("192.0.2.1", now=100.0)
    assert refused.value.status == 429
    assert refused.value.facts == {"seconds": 0.5}
    rate.take("192.0.2.2", now=100.0)
    rate.take("192.0.2.1", now=100.5)
    with pytest.raises(RateLimitReached):
        rate.take("192.0.2.1", now=100.5)


def test_ten_seconds_worth_may_come_at_once():
    rate = AddressRate(0.5)
    for _ in range(5):
        rate.take("192.0.2.1", now=0.0)
    with pytest.raises(RateLimitReached):
        rate.take("192.0.2.1", now=0.0)


def test_one_ipv6_customer_is_one_address():
    rate = AddressRate(1.0, burst=1)
    rate.take("2001:db8:0:1::1", now=0.0)
    with pytest.raises(RateLimitReached):
        rate.take("2001:db8:0:1:ffff::2", now=0.0)
    rate.take("2001:db8:0:2::1", now=0.0)
    rate.take("::ffff:192.0.2.1", now=0.0)
    with pytest.raises(RateLimitReached):
        rate.take("192.0.2.1", now=0.0)


def test_many_addresses_cost_bounded_memory():
    rate = AddressRate(1.0, burst=1, capacity=100)
    rate.take("192.0.2.1", now=0.0)
    for number in range(100):
        rate.take(f"10.0.0.{number}", now=0.0)
    rate.take("192.0.2.1", now=0.0)  # it was forgotten


def test_whoever_keeps_coming_is_not_forgotten_for_the_sake_of_strangers():
    rate = AddressRate(0.001, burst=1, capacity=10)
    rate.take("192.0.2.1", now=0.0)
    for number in range(50):
        rate.take(f"10.0.0.{number}", now=0.0)
        with pytest.raises(RateLimitReached):
            rate.take("192.0.2.1", now=0.0)


def test_all_addresses_of_the_internet_cost_less_than_32_megabytes():
    rate = AddressRate(1.0, capacity=4096)
    addresses = [f"2001:db8:{number >> 8:x}:{number & 0xFF:x}::1" for number in range(3 * 4096)]
    tracemalloc.start()
    try:
        for number, address in enumerate(addresses):
            rate.take(address, now=float(number))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The proxy remembers sixteen times as many.
    assert held * 16 < 32 << 20


def test_an_address_that_is_seen_often_is_not_the_one_forgotten():
    rate = AddressRate(0.001, burst=1, capacity=10)
    rate.take("192.0.2.1", now=0.0)
    for number in range(100):
        rate.take(f"198.51.100.{number}", now=0.0)
        # Were it forgotten, it would be welcome again.
        with pytest.raises(RateLimitReached):
            rate.take("192.0.2.1", now=0.0)


def test_sessions_that_have_ended_or_were_refused_leave_nothing_behind():
    limits = SessionLimits(2, per_instance=1, per_user=1)
    for number in range(1000):
        first = limits.reserve(f"vm-{number}", f"user-{number}")
        second = limits.reserve(f"other-{number}", f"other-{number}")
        with pytest.raises(SessionLimitReached):
            limits.reserve(f"third-{number}", f"third-{number}")
        second.release()
        with pytest.raises(InstanceLimitReached):
            limits.reserve(f"vm-{number}", f"fourth-{number}")
        with pytest.raises(UserLimitReached):
            limits.reserve(f"fourth-{number}", f"user-{number}")
        first.release()
    assert not limits._instances
    assert not limits._users


def test_no_rate_is_no_limit():
    rate = AddressRate(0.0)
    for _ in range(1000):
        rate.take("192.0.2.1", now=0.0)


def test_a_refusal_names_the_option_and_its_value():
    limits = SessionLimits(1)
    limits.reserve("i", "u")
    with pytest.raises(SessionLimitReached, match=r"max_sessions \(1\)"):
        limits.reserve("i", "u")
    rate = AddressRate(0.5, burst=1)
    rate.take("192.0.2.1", 0.0)
    with pytest.raises(RateLimitReached, match=r"192\.0\.2\.1: connection_rate \(0\.5/s\)"):
        rate.take("192.0.2.1", 0.0)


def test_an_instance_is_counted_by_each_of_its_sessions():
    limits = SessionLimits(0, per_instance=2)
    for _ in range(2):
        limits.reserve("i", "")
    with pytest.raises(InstanceLimitReached):
        limits.reserve("i", "")


def test_bursts_of_ten_times_the_rate_pass_by_default():
    rate = AddressRate(2.0)
    for _ in range(20):
        rate.take("192.0.2.1", 0.0)
    with pytest.raises(RateLimitReached):
        rate.take("192.0.2.1", 0.0)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_an_ipv6_client_is_known_by_its_64(one, other, together):
    rate = AddressRate(1.0, burst=1)
    rate.take(one, 0.0)
    if together:
        with pytest.raises(RateLimitReached):
            rate.take(other, 0.0)
    else:
        rate.take(other, 0.0)


def test_how_much_is_used_is_told_with_its_limit():
    limits = SessionLimits(100, per_instance=3, per_user=0)
    for user in ("alice", "bob"):
        limits.reserve("vm-1", user)
    limits.reserve("vm-2", "bob")
    assert limits.use == {
        "max_sessions": (100, 3),
        "max_sessions_per_instance": (3, 2),
        "max_sessions_per_user": (0, 2),
    }


def test_whether_there_is_room_is_told_in_words():
    limits = SessionLimits(1)
    assert limits.full == ""
    place = limits.reserve("vm-1", "")
    assert limits.full == "max_sessions (1) is reached"
    place.release()
    assert limits.full == ""
