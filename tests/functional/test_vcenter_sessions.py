"""Sessions that a vCenter bounds, and an account that it locks: several workers of one node."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil

from mksfilter.simulator.client import WEB_1, SimulatedVSphere
from tests.support.gunicorn import gunicorn_proxy
from tests.support.proxy import RunningProxy

WORKERS = 3


def workers_of(proxy: RunningProxy) -> list[psutil.Process]:
    return psutil.Process(proxy.process.pid).children()


def log_in_everywhere(proxy: RunningProxy, vsphere: SimulatedVSphere, sessions: int) -> None:
    """Open consoles until each worker has had one."""
    deadline = time.monotonic() + 60
    while vsphere.calls()["sessions"] < sessions:
        assert time.monotonic() < deadline, vsphere.calls()
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101


def until_sessions(vsphere: SimulatedVSphere, number: int) -> None:
    deadline = time.monotonic() + 30
    while (seen := vsphere.calls()["sessions"]) != number:
        assert time.monotonic() < deadline, f"{seen} sessions are left, not {number}"
        time.sleep(0.02)


def test_workers_log_out_at_a_stop(proxy_factory, vsphere: SimulatedVSphere) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        proxy = proxy_factory()
        log_in_everywhere(proxy, vsphere, 1)
        proxy.stop(number)
        assert vsphere.calls()["sessions"] == 0, number.name


def test_workers_log_out_at_a_reload(proxy_factory, vsphere: SimulatedVSphere) -> None:
    proxy = proxy_factory("--workers", "2")
    log_in_everywhere(proxy, vsphere, 2)
    before = {worker.pid for worker in workers_of(proxy)}
    proxy.process.send_signal(signal.SIGHUP)
    until_sessions(vsphere, 0)
    deadline = time.monotonic() + 30
    while before & {worker.pid for worker in workers_of(proxy)}:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert proxy.upgrade(proxy.token(WEB_1)).status == 101


def test_a_worker_that_has_had_its_requests_logs_out(
    tmp_path: Path, vsphere: SimulatedVSphere
) -> None:
    with gunicorn_proxy(tmp_path, [vsphere.vcenter_settings()], "--max-requests", "1") as proxy:
        for _ in range(3):
            while proxy.upgrade(proxy.token(WEB_1)).status != 101:
                pass
        os.kill(proxy.process.pid, signal.SIGTERM)
        proxy.process.wait(20)
    assert vsphere.calls()["calls"]["Logout"] == vsphere.calls()["calls"]["Login"]
    assert vsphere.calls()["sessions"] == 0


def test_the_workers_of_a_node_have_one_wrong_password_refused_once(
    proxy_factory, vsphere: SimulatedVSphere
) -> None:
    proxy = proxy_factory(
        "--workers", str(WORKERS), vcenters=[vsphere.vcenter_settings(password="wr0ng")]
    )
    for _ in range(5 * WORKERS):
        assert proxy.upgrade(proxy.token(WEB_1)).status == 502
    assert vsphere.calls()["calls"]["Login"] == 1
    assert "wr0ng" not in proxy.log()
    (proxy.directory / "password-vc1").write_text(f"{vsphere.vcenter['password']}\n")
    for _ in range(5 * WORKERS):
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101


def test_a_heal_opens_the_vcenter_for_all_workers_of_a_node(
    proxy_factory, vsphere: SimulatedVSphere
) -> None:
    proxy = proxy_factory(
        "--workers", str(WORKERS), vcenters=[vsphere.vcenter_settings(timeout=0.5)]
    )
    vsphere.set_vcenter(silent=True)
    deadline = time.monotonic() + 60
    while proxy.log().count("event=vcenter-left-alone") < WORKERS:
        assert time.monotonic() < deadline
        assert proxy.upgrade(proxy.token(WEB_1)).status == 504
    vsphere.set_vcenter(silent=False)
    proxy.wait_for_log("event=vcenter-answers-again")
    for _ in range(5 * WORKERS):
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101
