"""A node with many sessions dies, and all of its pages come to another one at once."""

from __future__ import annotations

import asyncio
import collections
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mksfilter.auth.proof import thumbprint
from mksfilter.simulator.client import start
from tests.support.gunicorn import gunicorn_proxy
from tests.support.page_client import KEY, offers
from tests.support.ports import free_port
from tests.support.proxy import fetch, start_proxy

CALLERS = int(os.environ.get("MKSFILTER_STORM", "500"))
BOUND = 8
TIME_LIMIT = 100.0


#: All come from one address, with tokens that name no user.
OPTIONS = {"log_level": "INFO", "max_openings_per_address": 0, "connection_rate": 0}


@pytest.fixture
def busy_vsphere():
    with start("--vms", "200", "--set", "vcenter.delay=0.01") as simulated:
        yield simulated


@pytest.fixture
def remaining(busy_vsphere):
    with start_proxy([busy_vsphere.vcenter_settings(pool_size=BOUND)], **OPTIONS) as proxy:
        yield proxy


async def come_back(proxy, token, go, arrived):
    """Answer's status line and RFB's first words, as soon as they are there; then stay."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await go.wait()
    offered = [name for name in offers(token) if name != "mks.v1"]
    writer.write(proxy.handshake(subprotocols=offered))
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split()[1])
    if status == 101:
        assert await reader.readexactly(14) == b"\x82\x0cRFB 003.008\n"
    arrived.append(time.monotonic())
    return status, writer


async def all_at_once(proxy, tokens):
    go, arrived = asyncio.Event(), []
    coming = [asyncio.ensure_future(come_back(proxy, token, go, arrived)) for token in tokens]
    await asyncio.sleep(0)
    started = time.monotonic()
    go.set()
    answers = await asyncio.wait_for(asyncio.gather(*coming), TIME_LIMIT)
    assert proxy.metric("mksfilter_sessions_active") == len(tokens)
    for _, writer in answers:
        writer.close()
    return collections.Counter(status for status, _ in answers), [t - started for t in arrived]


def test_all_are_served_and_vcenter_sees_the_bound(
    busy_vsphere, remaining, record_testsuite_property
):
    running = [vm["uuid"] for vm in busy_vsphere.vms if vm["power"] == "on"]
    tokens = []
    for number in range(CALLERS):
        claims = remaining.codec.verify(
            remaining.token(running[number % len(running)], user_id=f"user-{number % 50}")
        )
        tokens.append(remaining.codec.renew(claims, ttl=600, cnf=thumbprint(KEY.public)))
    with ThreadPoolExecutor(1) as apart:  # this thread may have the browser tests' event loop
        storm = apart.submit(lambda: asyncio.run(all_at_once(remaining, tokens)))
        statuses, seconds = storm.result()
    assert statuses == {101: CALLERS}
    calls = busy_vsphere.calls()
    assert calls["max_in_flight"] == BOUND
    assert calls["calls"]["Login"] == 1
    for name, value in {
        "callers": CALLERS,
        "last": f"{seconds[-1]:.1f} s",
        "median": f"{seconds[len(seconds) // 2]:.1f} s",
        "most_in_flight": calls["max_in_flight"],
        "calls_per_console": f"{calls['total'] / CALLERS:.2f}",
    }.items():
        record_testsuite_property(f"storm_{name}", value)


def test_more_than_a_worker_has_places_for_are_held_and_not_refused(tmp_path):
    """Six of eight places are at work, and each ticket takes a second."""
    with start("--set", "vcenter.delay=1") as slow_vsphere:
        management = free_port()
        options = {**OPTIONS, "management_bind": f"127.0.0.1:{management}"}
        settings, places = [slow_vsphere.vcenter_settings()], ("--worker-connections", "8")
        with gunicorn_proxy(tmp_path, settings, *places, **options) as proxy:
            (vm, *_) = slow_vsphere.vms
            assert proxy.upgrade(proxy.token(vm["uuid"])).status == 101, "vCenter knows us"
            with ThreadPoolExecutor(24) as callers:
                answers = callers.map(
                    lambda number: proxy.upgrade(proxy.token(vm["uuid"], user_id=f"user-{number}")),
                    range(24),
                )
                shown = b'mksfilter_limit_used{limit="openings_held"} 18.0'
                deadline = time.monotonic() + 20
                while shown not in fetch(management, "/metrics").body:
                    assert time.monotonic() < deadline, "nobody was held"
                assert [answer.status for answer in answers] == [101] * 24
