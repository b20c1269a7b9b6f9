"""``python -m benchmarks.nova``: a console request with the filter beside Nova's own, in one run.

Both nova-api are the real one, on the same databases, one after the other in turn. Behind them run
RabbitMQ, nova-conductor and nova-compute with the fake driver, which answers webmks natively and at
once: a real one asks vSphere first. Needs Debian's ``rabbitmq-server``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mksfilter.auth.keys import KeyRepository
from mksfilter.exceptions import OperationError
from mksfilter.simulator.processes import Children
from tests.integration.nova import servers
from tests.integration.nova.stack import Environment, Service, Stack, with_filter
from tests.support.ports import free_port

__all__ = ["main"]

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_TIMEOUT = 120.0

SECTION = """\
[filter:mksfilter]
use = egg:mksfilter#mksfilter
webmks_proxy_base_url = https://console.example.com/
key_repository = {keys}
vsphere_hosts = *
"""

COMPUTE = """\
[DEFAULT]
compute_driver = fake.FakeDriver
sync_power_state_interval = -1
heal_instance_info_cache_interval = -1
update_resources_interval = -1
running_deleted_instance_poll_interval = 0
resume_guests_state_on_host_boot = false
[mks]
enabled = true
[oslo_messaging_rabbit]
rabbit_quorum_queue = false
heartbeat_in_pthread = false
"""

REQUESTS = {
    "console": ("POST", f"/v2.1/servers/{servers.ACTIVE}/remote-consoles"),
    "GET /servers": ("GET", "/v2.1/servers"),
}
BODY = json.dumps({"remote_console": {"protocol": "mks", "type": "webmks"}})


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nova", description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="of each kind to each API (400)")
    args = parser.parse_args()
    with running() as (native, filtered, token):
        print(f"{'request':<14} {'API':<10} {'p50 ms':>8} {'p99 ms':>8}")
        for name, (method, path) in REQUESTS.items():
            took = measure({"nova": native, "mksfilter": filtered}, method, path, token, args)
            for api, times in took.items():
                p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
                print(f"{name:<14} {api:<10} {p50 * 1000:8.1f} {p99 * 1000:8.1f}")
    return 0


def measure(
    apis: dict[str, Service], method: str, path: str, token: str, args: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of each request, the APIs taking turns so that both meet the same machine."""
    asks = {name: asker(api, method, path, token) for name, api in apis.items()}
    took: dict[str, list[float]] = {name: [] for name in apis}
    for number in range(-20, args.requests):  # the first ones warm up
        for name, ask in asks.items():
            started = time.perf_counter()
            ask()
            if number >= 0:
                took[name].append(time.perf_counter() - started)
    return took


def asker(api: Service, method: str, path: str, token: str) -> Callable[[], None]:
    """One request on a connection of its own, as clients make them."""
    where = urlsplit(api.url)
    headers = {
        "X-Auth-Token": token,
        "OpenStack-API-Version": "compute 2.8",
        "Content-Type": "application/json",
    }

    def ask() -> None:
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=90)
        with closing(connection):
            connection.request(method, path, BODY if method == "POST" else None, headers)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise OperationError(f"{path}: {answer.status} {body.decode()}")

    return ask


@contextmanager
def running() -> Iterator[tuple[Service, Service, str]]:
    """Nova's own API, the one with the filter, and a member's token."""
    if not RABBITMQ.exists():
        raise OperationError("install Debian's rabbitmq-server: Nova's own consoles need it")
    environment = Environment()
    environment.make()
    with tempfile.TemporaryDirectory(prefix="mksfilter-nova-") as name, Children() as children:
        state = Path(name)
        broker = RabbitMQ(state / "rabbit", children)
        stack = Stack(environment, state, children, transport=broker.url)
        try:
            with broker:
                stack.start(servers.SERVERS)
                start_compute(stack, children)
                keys = state / "keys"
                KeyRepository(str(keys)).setup()
                native = stack.nova_api(stack.stock_paste(), "native", options=COMPUTE)
                filtered = stack.nova_api(
                    with_filter(stack.stock_paste(), SECTION.format(keys=keys)), options=COMPUTE
                )
                yield native, filtered, stack.token("member")
        finally:
            stack.close()


def start_compute(stack: Stack, children: Children) -> None:
    """nova-conductor and nova-compute, for the servers that are in the database."""
    configuration = stack.state / "nova_cell1.conf"
    configuration.write_text(configuration.read_text() + COMPUTE)
    with closing(sqlite3.connect(stack.state / "nova_cell1.sqlite")) as database:
        # It registers itself, and has not yet heard of the servers: it would "repair" them.
        database.execute("delete from services where binary = 'nova-compute'")
        database.execute("delete from compute_nodes")
        database.execute("update instances set host = null, node = null")
        database.commit()
        for program in ("nova-conductor", "nova-compute"):
            log = (stack.state / f"{program}.log").open("w")
            with log:
                children.start(
                    [stack.environment.command(program), "--config-file", str(configuration)],
                    env={"OS_NOVA_DISABLE_EVENTLET_PATCHING": "1", "PYTHONWARNINGS": "ignore"},
                    stdout=log,
                    stderr=log,
                )
        deadline = time.monotonic() + START_TIMEOUT
        while not _is_up(database):
            if time.monotonic() > deadline or children.first_dead():
                tail = (stack.state / "nova-compute.log").read_text()[-2000:]
                raise OperationError(f"nova-compute did not start: {tail}")
            time.sleep(0.25)
        database.execute("update instances set host = 'compute1', node = 'compute1'")
        database.commit()


def _is_up(database: sqlite3.Connection) -> bool:
    up = database.execute(
        "select count(*) from services s, compute_nodes n "
        "where s.binary = 'nova-compute' and s.report_count > 0 and n.deleted = 0"
    ).fetchone()[0]
    return bool(up)


class RabbitMQ:
    """A broker of our own on loopback, with a port mapper of its own."""

    def __init__(self, directory: Path, children: Children) -> None:
        self._directory = directory
        self._children = children
        self._port, self._distribution, self._mapper = (free_port() for _ in range(3))
        self.url = f"rabbit://guest:guest@127.0.0.1:{self._port}/"

    def __enter__(self) -> RabbitMQ:
        directory = self._directory
        (directory / "home").mkdir(parents=True)
        (directory / "enabled_plugins").write_text("[].\n")
        (directory / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self._port}\n")
        env = {
            "HOME": str(directory / "home"),
            "ERL_EPMD_PORT": str(self._mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        mapper = shutil.which("epmd")
        if mapper is None:
            raise OperationError("epmd is missing: install Debian's rabbitmq-server")
        log = (directory / "server.out").open("w")
        with log:
            self._children.start(
                [mapper, "-address", "127.0.0.1", "-port", str(self._mapper)],
                env=env,
                stdout=log,
                stderr=log,
            )
            self._server = self._children.start([str(RABBITMQ)], env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return self
            except OSError:
                if time.monotonic() > deadline or self._children.first_dead():
                    said = (directory / "server.out").read_text()
                    raise OperationError(f"rabbitmq did not start: {said[-1000:]}") from None
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        # The server is a script; the virtual machine it starts is in its process group.
        os.killpg(self._server.pid, signal.SIGTERM)
        self._server.wait(30)


if __name__ == "__main__":
    raise SystemExit(main())
