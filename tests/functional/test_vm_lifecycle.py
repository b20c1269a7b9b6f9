"""What happens to machines and hosts under open consoles."""

from __future__ import annotations

import json
import time

import psutil
import pytest

from mksfilter.exceptions import UpstreamLost
from mksfilter.simulator.client import WEB_1
from tests.support.deployment import KINDS
from tests.support.page_client import open_page, until_closed, view_page

QUESTION = "There is no more space for virtual disk web-1.vmdk."
LIMIT = 1.0
"""Seconds within which both sides are closed."""
ATTEMPTS = 3
"""A busy machine may be late for other reasons; a proxy that is slow is slow each time."""

HAPPENINGS = {
    "power-off": lambda deployment, machine: deployment.vsphere.power_off(machine),
    "suspension": lambda deployment, machine: deployment.vsphere.suspend(machine),
    "vmotion": lambda deployment, machine: deployment.vsphere.vmotion(machine),
}


def page(deployment, token):
    """A viewer that understands the control channel, as our page does."""
    return view_page(deployment.proxy, token)


def said(viewer):
    """What the control channel has said since ``hello``."""
    return [json.loads(note) for note in viewer.notes[1:]]


def connections_to(proxy, address):
    """The proxy's TCP connections to a console."""
    return [
        connection
        for process in psutil.Process(proxy.process.pid).children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.raddr and "{}:{}".format(*connection.raddr) == address
    ]


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_are_closed_within_a_second_with_the_reason(
    deployment, kind, happening, record_testsuite_property
):
    taken = []
    for _ in range(ATTEMPTS):
        deployment.vsphere.reset()
        token = deployment.token(kind)
        with page(deployment, token) as viewer:
            viewer.framebuffer()
            console = deployment.console_of(token)
            assert connections_to(deployment.proxy, console)
            started = time.monotonic()
            HAPPENINGS[happening](deployment, deployment.machine(kind))
            code = viewer.until_closed()
            taken.append(time.monotonic() - started)
        assert said(viewer) == [
            {
                "type": "end",
                "reason": "upstream-lost",
                "message": UpstreamLost.public,
                "retry": "automatic",
            }
        ]
        assert code == UpstreamLost.close_code == 1011
        # The line is written when both connections are closed.
        jti = deployment.proxy.codec.verify(token).jti
        ended = deployment.proxy.wait_for_log(
            f'jti={jti} instance={viewed(deployment, kind)} request="" reason='
        )
        assert "session-ended" in ended
        assert "reason=upstream-lost" in ended
        assert connections_to(deployment.proxy, console) == []
        if taken[-1] < LIMIT:
            record_testsuite_property(f"closed after {happening} of {kind}", f"{taken[-1]:.3f} s")
            return
    pytest.fail(f"took {taken} seconds")


def viewed(deployment, kind):
    return deployment.vsphere.vm(deployment.machine(kind))["uuid"]


@pytest.mark.parametrize(("kind", "port"), [("webmks", "port"), ("mks", "authd_port")])
def test_a_machine_that_moved_is_found_on_its_new_host(deployment, kind, port):
    with page(deployment, deployment.token(kind)) as viewer:
        resume = json.loads(viewer.notes[0])["resume"]
        deployment.vsphere.vmotion(deployment.machine(kind))
        viewer.until_closed()
    host = deployment.vsphere.host_of(deployment.machine(kind))
    with page(deployment, resume) as viewer:
        assert viewer.framebuffer().getextrema() != ((0, 0), (0, 0), (0, 0))
    assert deployment.console_of(resume) == f"{host['address']}:{host[port]}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_that_was_switched_off_is_said_to_be_and_comes_back(deployment, kind):
    machine = deployment.machine(kind)
    with page(deployment, deployment.token(kind)) as viewer:
        resume = json.loads(viewer.notes[0])["resume"]
        deployment.vsphere.power_off(machine)
        viewer.until_closed()
    with open_page(deployment.proxy, resume) as socket:
        messages, code = until_closed(socket)
    assert [message["reason"] for message in messages] == ["powered-off"]
    assert code == 4409
    deployment.vsphere.power_on(machine)
    with page(deployment, resume) as viewer:
        assert viewer.name == machine


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_without_control_channel_is_told_by_the_close_code(deployment, kind):
    with deployment.proxy.viewer(deployment.token(kind)) as viewer:
        deployment.vsphere.power_off(deployment.machine(kind))
        assert viewer.until_closed() == UpstreamLost.close_code
        assert viewer.notes == []


def _told(viewer, *questions):
    """Wait until the control channel has said *questions*; whoever sits there presses keys."""
    wanted = [{"type": "notice", "notice": "question", "text": text} for text in questions]
    deadline = time.monotonic() + 30
    while said(viewer) != wanted:
        assert time.monotonic() < deadline, viewer.notes
        viewer.type("x")
        viewer.listen(1.2)


def test_a_machine_that_freezes_tells_its_user_what_it_waits_for(proxy, vsphere):
    with view_page(proxy, proxy.token(WEB_1)) as viewer:
        viewer.framebuffer()
        vsphere.set_vm("web-1", question=QUESTION)
        _told(viewer, QUESTION)
        vsphere.set_vm("web-1", question="")
        _told(viewer, QUESTION, "")
