"""What the service manager hears, by the protocol of sd_notify(3)."""

from __future__ import annotations

import contextlib
import itertools
import socket

import pytest

from mksfilter.proxy.server.service_manager import EXTENSION, ServiceManager
from tests.support.clock import Clock


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request, tmp_path):
    """The socket of a service manager, and its address in the environment."""
    address = str(tmp_path / "notify") if request.param == "a path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1))
        sock.settimeout(5)
        yield sock, address


def heard(sock):
    return sock.recv(1000).decode().split("\n")


def test_a_worker_that_can_serve_makes_the_service_ready(systemd):
    sock, address = systemd
    ServiceManager.of_environment({"NOTIFY_SOCKET": address}).ready()
    assert heard(sock) == ["READY=1", "STATUS=serving"]


def test_gunicorn_does_not_find_the_socket_and_the_workers_do(systemd):
    sock, address = systemd
    environ = {"NOTIFY_SOCKET": address}
    ServiceManager.of_environment(environ)
    assert "NOTIFY_SOCKET" not in environ
    ServiceManager.of_environment(environ).ready()
    assert heard(sock)[0] == "READY=1"


def test_the_watchdog_is_fed_three_times_in_its_time_and_not_more_often(systemd):
    sock, address = systemd
    clock = Clock(100.0)
    manager = ServiceManager(address, 60.0, clock)
    sock.setblocking(False)
    fed = []
    for _ in range(60):
        manager.alive(draining=False)
        with contextlib.suppress(BlockingIOError):
            fed.append((clock.now, heard(sock)))
        clock.now += 1
    assert fed == [(at, ["WATCHDOG=1"]) for at in (100.0, 120.0, 140.0)]


def test_without_a_watchdog_nothing_is_said_until_it_drains(systemd):
    sock, address = systemd
    sock.setblocking(False)
    manager = ServiceManager(address)
    manager.alive(draining=False)
    with pytest.raises(BlockingIOError):
        heard(sock)


def test_a_stop_may_take_as_long_as_consoles_need(systemd):
    sock, address = systemd
    clock = Clock(100.0)
    manager = ServiceManager(address, 0.0, clock)
    manager.alive(draining=True)
    assert heard(sock) == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000", "STATUS=draining"]
    clock.now += 11
    manager.alive(draining=True)
    assert "EXTEND_TIMEOUT_USEC=30000000" in heard(sock)


@pytest.mark.parametrize("watchdog", [0.0, 20.0, 60.0, 600.0])
def test_a_stop_is_extended_before_the_last_extension_is_over_whatever_the_watchdog(
    systemd, watchdog
):
    sock, address = systemd
    clock = Clock(100.0)
    manager = ServiceManager(address, watchdog, clock)
    manager.alive(draining=False)
    if watchdog:
        heard(sock)
    sock.setblocking(False)
    asked = [clock.now]
    while clock.now < 400.0:
        manager.alive(draining=True)
        with contextlib.suppress(BlockingIOError):
            assert "EXTEND_TIMEOUT_USEC=30000000" in heard(sock)
            asked.append(clock.now)
        clock.now += 1
    assert max(after - before for before, after in itertools.pairwise(asked)) < EXTENSION


@pytest.mark.parametrize(
    "environ",
    [{}, {"NOTIFY_SOCKET": "/nonexistent/notify"}, {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "soon"}],
    ids=["nobody", "gone", "nonsense"],
)
def test_nobody_who_listens_is_no_reason_to_stop(environ):
    manager = ServiceManager.of_environment(environ)
    manager.ready()
    manager.alive(draining=True)


def test_a_service_manager_that_does_not_read_holds_nobody_up(systemd):
    _, address = systemd
    clock = Clock(100.0)
    manager = ServiceManager(address, 3.0, clock)
    for _ in range(1000):
        manager.alive(draining=True)
        clock.now += 1
