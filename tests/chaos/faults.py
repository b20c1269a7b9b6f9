"""The faults: what is done to a fleet, and what mends it, if not by itself.

Each is a function of the fleet that injects the fault and returns what heals it, to be called after
*lasts* seconds; whatever blocks runs in a thread of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mksfilter.auth.keys import KeyRepository
from tests.chaos.fleet import Disk, Fleet, Node

__all__ = ["FAULTS", "Fault"]

Heal = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault.

    :param inject: does it, and returns what heals it.
    :param lasts: seconds until it is healed.
    :param keeps: kinds of browsers none of whose consoles may end by it.
    :param prepare: what has to be so before the consoles are opened.
    :param said: whether the fleet has told its operator of it, once it is healed.
    """

    name: str
    inject: Callable[[Fleet], Heal]
    lasts: float = 0.0
    keeps: tuple[str, ...] = ("page", "stock")
    prepare: Callable[[Fleet], None] = lambda _fleet: None
    said: Callable[[Fleet], bool] = lambda _fleet: True


def _nothing() -> None:
    """It heals by itself."""


def _restarted(node: Node) -> None:
    node.wait_until_ended(float(str(node.options.get("drain_time", 30))) + 30)
    node.start()


def _worker_killed(fleet: Fleet) -> Heal:
    fleet.nodes[0].workers[0].kill()
    return _nothing


def _node_killed(fleet: Fleet) -> Heal:
    node = fleet.nodes[1]
    node.kill()
    return node.start


def _master_killed(fleet: Fleet) -> Heal:
    node = fleet.nodes[2]
    node.process.kill()

    def heal() -> None:
        node.kill()
        node.start()

    return heal


def _node_stopped(fleet: Fleet) -> Heal:
    """An upgrade: SIGTERM, and the service manager starts it again when it has ended."""
    node = fleet.nodes[0]
    node.signal(signal.SIGTERM)
    return lambda: _restarted(node)


def _reloaded(fleet: Fleet) -> Heal:
    before = {worker.pid for node in fleet.nodes for worker in node.workers}
    for node in fleet.nodes:
        node.signal(signal.SIGHUP)

    def heal() -> None:
        """It takes as long as new workers take to start."""
        _until(
            lambda: before.isdisjoint(one.pid for node in fleet.nodes for one in node.workers), 120
        )

    return heal


def _reloaded_wrongly(fleet: Fleet) -> Heal:
    for node in fleet.nodes:
        node.configure(token_ttl="soon")
        node.signal(signal.SIGHUP)

    def heal() -> None:
        for node in fleet.nodes:
            node.configure()

    return heal


def _vcenter_hangs(fleet: Fleet) -> Heal:
    fleet.vsphere.set_vcenter(0, silent=True)
    return lambda: fleet.vsphere.set_vcenter(0, silent=False)


def _vcenter_hangs_and_a_node_dies(fleet: Fleet) -> Heal:
    fleet.vsphere.set_vcenter(0, silent=True)
    node = fleet.nodes[1]
    node.kill()

    def heal() -> None:
        fleet.vsphere.set_vcenter(0, silent=False)
        node.start()

    return heal


def _vcenter_forgets_us(fleet: Fleet) -> Heal:
    for index in range(len(fleet.vsphere.vcenters)):
        fleet.vsphere.expire_sessions(index)
    fleet.nodes[2].workers[0].kill()  # somebody has to ask it for something
    return _nothing


def _host_resets(fleet: Fleet) -> Heal:
    """vSphere HA, or somebody's ``DropConnections``: each console of a host is reset."""
    host = fleet.vsphere.hosts[0]["name"]
    for vm in fleet.vsphere.state()["vms"]:
        if vm["host"] == host and vm["power"] == "on":
            fleet.vsphere.drop(vm["name"])
    return _nothing


def _cache_down_in_a_drain(fleet: Fleet) -> Heal:
    fleet.stop_memcached()
    node = fleet.nodes[0]
    node.signal(signal.SIGTERM)

    def heal() -> None:
        fleet.start_memcached()
        _restarted(node)

    return heal


def _keys_rotated_one_node_late(fleet: Fleet) -> Heal:
    """Two rotations as documented; the third node gets each copy only before the next."""
    repository = KeyRepository(str(fleet.keys))
    for _ in range(2):
        fleet.copy_keys(fleet.nodes[2])
        repository.rotate()
        fleet.copy_keys(*fleet.nodes[:2])
        time.sleep(3)
    fleet.nodes[0].workers[0].kill()
    return fleet.copy_keys


def _log_unread(fleet: Fleet) -> Heal:
    """What reads the log of a node has stopped, and the node has much to say."""
    node = fleet.nodes[0]
    assert node.reader is not None
    node.reader.suspend()
    _ask_badly(node, 3000)  # more than a pipe takes
    return node.reader.resume


def _ask_badly(node: Node, times: int) -> None:
    """Requests without a good token: each is a line of the log, and an event of the audit trail."""
    for _ in range(times):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", node.port), 5) as sock,
        ):
            sock.sendall(b"GET /?token=none HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.recv(1)


def _log_gone(fleet: Fleet) -> Heal:
    node = fleet.nodes[1]
    assert node.reader is not None
    node.reader.kill()

    def heal() -> None:
        node.signal(signal.SIGTERM)
        _restarted(node)

    return heal


def _temporary_files_full(fleet: Fleet) -> Heal:
    """The file system of a node's temporary files is full."""
    node = fleet.nodes[1]
    place = str(node.temporary)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    with (node.temporary / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    node.workers[0].kill()  # the next worker starts on it
    return lambda: subprocess.run(["umount", "--lazy", place], check=True) and None


def _disk_full(name: str) -> Callable[[Fleet], Heal]:
    """A node's disk of that *name* is full, while others' consoles come to it."""

    def inject(fleet: Fleet) -> Heal:
        disk: Disk | None = getattr(fleet.nodes[2], name)
        assert disk is not None
        disk.fill()
        _ask_badly(fleet.nodes[2], 100)  # more than the rest of a page
        fleet.nodes[0].workers[0].kill()
        return disk.clear

    return inject


def _log_disk_told(fleet: Fleet) -> bool:
    return fleet.nodes[2].metric("mksfilter_log_lines_dropped_total") > 0


def _audit_disk_told(fleet: Fleet) -> bool:
    node = fleet.nodes[2]
    lost = node.metric("mksfilter_audit_events_lost_total")
    return not lost and all(map(node.has_said, ("event=audit-failing", "event=audit-restored")))


def _clock_jumps(seconds: int) -> Callable[[Fleet], Heal]:
    """The clock of a node is set, and consoles of another node come back, some to that node."""

    def inject(fleet: Fleet) -> Heal:
        node = fleet.nodes[0]
        told = f"event=clock-jumped seconds={seconds}"
        before = node.times_said(told)
        node.set_clock(seconds)
        _until(lambda: node.times_said(told) > before)
        fleet.nodes[1].workers[0].kill()
        return lambda: node.set_clock(0)

    return inject


def _clock_prepared(fleet: Fleet) -> None:
    fleet.nodes[0].start_with_own_clock()


def _clock_told(fleet: Fleet) -> bool:
    return fleet.nodes[0].metric("mksfilter_clock_jumps_total") > 0


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)


def _vcenter_renewed(fleet: Fleet) -> Heal:
    """A vCenter is restarted with another certificate of the same CA."""
    fleet.vsphere.set_vcenter(0, certificate="renewed")
    fleet.nodes[1].workers[0].kill()
    return _nothing


def _vcenter_of_another_ca(fleet: Fleet) -> Heal:
    """It has one of a CA that nobody trusts, until an operator writes that one into ca_file."""
    fleet.vsphere.set_vcenter(0, certificate="foreign")
    fleet.nodes[1].workers[0].kill()

    def heal() -> None:
        other = Path(fleet.vsphere.vcenter["other_ca_file"]).read_text()
        for node in fleet.nodes:
            text = node.ca_file.read_text()
            new = node.ca_file.with_suffix(".new")
            new.write_text(text + other)
            new.replace(node.ca_file)

    return heal


def _new_ca_told(fleet: Fleet) -> bool:
    return any(node.has_said("certificate-mismatch") for node in fleet.nodes)


def _slow_network(fleet: Fleet) -> Heal:
    fleet.wire.delay = 0.3

    def heal() -> None:
        fleet.wire.delay = 0.0

    return heal


def _silent_network(fleet: Fleet) -> Heal:
    """A cable is cut between the balancer and a node, and nobody is told."""
    fleet.wire.silent = True

    def heal() -> None:
        fleet.wire.silent = False

    return heal


def _rolling_restart(fleet: Fleet) -> Heal:
    for node in fleet.nodes:
        node.signal(signal.SIGTERM)
        _restarted(node)
        time.sleep(5)
    return _nothing


FAULTS = (
    Fault("a worker is killed", _worker_killed, keeps=()),
    Fault("a node is killed", _node_killed, lasts=10, keeps=()),
    Fault("a master is killed", _master_killed, lasts=5, keeps=()),
    Fault("a node is stopped and started", _node_stopped),
    Fault("all nodes reload", _reloaded, lasts=20),
    Fault("all nodes reload what does not load", _reloaded_wrongly, lasts=20),
    Fault("a vCenter hangs", _vcenter_hangs, lasts=30),
    Fault("a vCenter hangs, a node is killed", _vcenter_hangs_and_a_node_dies, lasts=20, keeps=()),
    Fault("the vCenters forget our sessions", _vcenter_forgets_us, keeps=()),
    Fault("a vCenter has a renewed certificate", _vcenter_renewed, keeps=()),
    Fault(
        "a vCenter has another CA's certificate",
        _vcenter_of_another_ca,
        lasts=10,
        keeps=(),
        said=_new_ca_told,
    ),
    Fault("a console host resets its connections", _host_resets, keeps=()),
    Fault("the cache is down in a drain", _cache_down_in_a_drain, lasts=5),
    Fault("nobody reads a node's log", _log_unread, lasts=10),
    Fault("what reads a node's log is gone", _log_gone, lasts=5),
    Fault("a node's temporary files are full", _temporary_files_full, lasts=10, keeps=()),
    Fault(
        "a node's disk is full: log",
        _disk_full("log_disk"),
        lasts=10,
        keeps=(),
        said=_log_disk_told,
    ),
    Fault(
        "a node's disk is full: audit file",
        _disk_full("audit_disk"),
        lasts=10,
        keeps=(),
        said=_audit_disk_told,
    ),
    Fault("a network takes 300 ms", _slow_network, lasts=10),
    Fault("a network is silent for 10 s", _silent_network, lasts=10),
    Fault("all nodes in turn stop and start", _rolling_restart),
    Fault("keys rotate, one node is late", _keys_rotated_one_node_late, lasts=5, keeps=()),
    Fault(
        "a node's clock jumps: +1 h",
        _clock_jumps(3600),
        lasts=10,
        keeps=(),
        prepare=_clock_prepared,
        said=_clock_told,
    ),
    Fault(
        "a node's clock jumps: -1 h",
        _clock_jumps(-3600),
        lasts=10,
        keeps=(),
        prepare=_clock_prepared,
        said=_clock_told,
    ),
)
