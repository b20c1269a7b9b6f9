"""``mksfilter simulator``, as a user starts and ends it; and the fixture made of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from pyVmomi import vim

from mksfilter.simulator import client as simulator
from mksfilter.simulator.client import WEB_1, SimulatorError
from tests.simulator.viewing import Viewer

COMMAND = [sys.executable, "-m", "mksfilter.cli", "simulator"]


@contextlib.contextmanager
def started(*arguments, **options):
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def failing(*arguments):
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_says_in_words_what_to_connect_to():
    with started() as process:
        lines = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
    text = "".join(lines)
    assert "https://127.0.0.1:" in text
    assert f"web-1      {WEB_1}" in text
    assert "control API http://127.0.0.1:" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_cleanly_with_consoles_open(number, client_of):
    with started("--json") as process:
        ready = json.loads(process.stdout.readline())
        client_of(simulator.SimulatedVSphere(ready)).console()
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")
    assert not os.path.exists(ready["vcenter"]["ca_file"])


def test_busy_port_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        code, out, err = failing("--port", str(port))
    assert (code, out) == (1, "")
    assert len(err) == 1
    assert f"127.0.0.1 port {port}" in err[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "nonsense"], "ITEM.FIELD=VALUE"),
        (["--set", "vm.colour=red"], "no field 'colour'"),
        (["--set", "vm.power=maybe"], "'on', 'off', 'suspended'"),
        (["--set", "vm.host=7"], "an index below 2"),
        (["--set", "vcenter.delay=soon"], "it is a float"),
        (["--set", "no-such.power=off"], "there is no vm called no-such"),
        (["--vcenters", "0"], "1 or more"),
        (["--config-file", "any"], "drop --config-file"),
        (["--rfb", "nowhere"], "screen cannot be 'nowhere'"),
        (["--api-version", "new"], "api_version cannot be 'new'"),
    ],
)
def test_wrong_setting_is_one_line(arguments, words):
    code, out, err = failing(*arguments)
    assert (code, out) == (2, "")
    assert len(err) == 1
    assert words in err[0]


def test_settings_hold_from_the_start_and_after_a_reset(vsphere_factory, client_of):
    vsphere = vsphere_factory("--api-version", "7.0", "--set", "web-1.power=off", "--vms", "2")
    for _ in range(2):
        client = client_of(vsphere)
        about = client.login(version="vim.version.v7_0").content.about
        assert about.apiVersion == "7.0.0.0"
        with pytest.raises(vim.fault.InvalidPowerState):
            client.ticket(version="vim.version.v7_0")
        vsphere.power_on(WEB_1)
        vsphere.reset()
    assert [vm["name"] for vm in vsphere.vms][-2:] == ["vm-0001", "vm-0002"]


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "::1"])
def test_other_addresses_than_the_usual_one(vsphere_factory, client_of, host):
    if host == "::1" and not vsphere_factory().hosts[0]["address6"]:
        pytest.skip("no IPv6 on this system")
    client = client_of(vsphere_factory("--host", host))
    assert Viewer.of(client.console()).name == "web-1"


def test_several_vcenters_are_several_worlds(vsphere_factory, client_of):
    vsphere = vsphere_factory("--vcenters", "3", "--vms", "3")
    assert len({vcenter["port"] for vcenter in vsphere.vcenters}) == 3
    assert len(vsphere.hosts) == 6

    here = [client_of(vsphere, number).vm(WEB_1) is not None for number in range(3)]
    assert here == [True, False, False]
    clients = [client_of(vsphere, number) for number in range(3)]
    for name, number in (("vm-0001", 1), ("vm-0002", 2), ("vm-0003", 0)):
        assert clients[number].vm(vsphere.vm(name)["uuid"]).name == name
    # The same id is another VM in another vCenter, as in real ones.
    assert vsphere.vm("web-1")["moid"] == vsphere.vm("vm-0001")["moid"]
    assert vsphere.calls("vc2")["total"] < vsphere.calls("vc1")["total"] + 10

    vsphere.move(WEB_1, 2)
    assert clients[0].vm(WEB_1) is None
    assert clients[2].vm(WEB_1).runtime.host.name == "esxi-5.vsphere.test"
    vsphere.reset()
    assert clients[0].vm(WEB_1).name == "web-1"


def test_clone_ticket_of_one_vcenter_is_no_good_at_another(vsphere_factory, client_of):
    vsphere = vsphere_factory("--vcenters", "2", "--vms", "2", "--api-version", "5.5")
    other = client_of(vsphere, 0).login(version="vim.version.version9")
    ready, vm = vsphere.vcenters[1], vsphere.vm("vm-0001")
    url = (
        f"ws://{ready['host']}:{ready['console_ports']['ws']}/console/authd?vmId={vm['moid']}"
        f"&vmName={vm['name']}&host={ready['fqdn']}&thumbprint={ready['digests']['sha1']}"
        f"&sessionTicket={other.content.sessionManager.AcquireCloneTicket()}"
    )
    with pytest.raises(Exception, match="403"):
        client_of(vsphere, 1).dial(url)


def test_ends_with_its_parent():
    """The fixture's simulator notices that the test run was killed."""
    script = (
        "import subprocess, sys, time\n"
        "from mksfilter.simulator.client import start\n"
        "with start() as vsphere:\n"
        "    print(vsphere.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    orphan.wait(timeout=10)


def test_simulator_that_cannot_start_is_an_error():
    with (
        pytest.raises(SimulatorError, match="ended with code 2"),
        simulator.start("--set", "nonsense"),
    ):
        pass


def test_test_process_needs_no_gevent():
    script = (
        "import sys\n"
        "from mksfilter.simulator.client import start\n"
        "import mksfilter.simulator.pytest_plugin\n"
        "assert not any(m.startswith(('gevent', 'pyVmomi', 'PIL')) for m in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


class TestControl:
    def test_fixture_is_as_new_for_every_test(self, vsphere):
        vsphere.power_off(WEB_1)
        vsphere.set_vcenter(refuse_logins=True)
        vsphere.set_host("esxi-2.vsphere.test", silent=True)
        vsphere.reset()
        state = vsphere.state()
        assert state["vms"][0]["power"] == "on"
        assert state["vcenter"]["state"]["refuse_logins"] is False
        assert state["hosts"][1]["state"]["silent"] is False

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/nowhere", b"{}", 404),
            ("/vms/nobody", b"{}", 404),
            ("/vms/web-1", b"[]", 400),
            ("/vms/web-1", b"{", 400),
            ("/vms/web-1", b'{"power": "maybe"}', 400),
            ("/vms/web-1", b'{"permitted": "perhaps"}', 400),
            ("/faults", b'{"planet": {}}', 404),
        ],
    )
    def test_what_cannot_be_set_is_said(self, vsphere, path, body, status):
        request = urllib.request.Request(vsphere.control + path, data=body)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code == status
        assert json.load(caught.value)["error"]

    def test_wrong_change_changes_nothing(self, vsphere):
        with pytest.raises(SimulatorError, match="no field 'colour'"):
            vsphere.set_vm(WEB_1, power="off", colour="red")
        assert vsphere.state()["vms"][0]["power"] == "on"

    def test_waits_for_a_console(self, vsphere, client):
        url = client.ticket().url
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(vsphere.connections, WEB_1, count=1)
            client.dial(url)
            assert len(waiting.result()) == 1

    def test_screen_as_a_picture(self, vsphere):
        with urllib.request.urlopen(f"{vsphere.control}/vms/web-1/screen.png") as answer:
            assert answer.read(8) == b"\x89PNG\r\n\x1a\n"

    def test_settings_for_a_client(self, vsphere):
        settings = vsphere.vcenter_settings(insecure=True)
        assert (settings.port, settings.insecure) == (vsphere.vcenter["port"], True)
        assert vsphere.vcenter["password"] not in repr(settings)
