"""A PC under QEMU in Chromium, through every kind of console that vSphere has."""

from __future__ import annotations

import pytest

from tests.support.deployment import KINDS, start_deployment
from tests.support.qemu import boot


@pytest.fixture(scope="module")
def qemu(tmp_path_factory):
    with boot(tmp_path_factory.mktemp("qemu")) as machine:
        machine.wait_for_text("Booting from Floppy")
        yield machine


@pytest.fixture(scope="module")
def _running_deployment(qemu):
    with start_deployment("--rfb", f"127.0.0.1:{qemu.port}", every_version=False) as running:
        yield running


@pytest.fixture
def deployment(_running_deployment):
    """A vCenter for each kind of console; every machine's screen is the PC's."""
    _running_deployment.vsphere.reset()
    return _running_deployment


@pytest.mark.parametrize(
    ("kind", "handshake"),
    [("webmks", "full")] + [(k, h) for k in KINDS if k != "webmks" for h in ("missing", "full")],
)
def test_the_pc_is_seen_and_typed_on(deployment, qemu, new_screen, kind, handshake):
    if kind == "mks":
        deployment.set_host(kind, handshake=handshake)
    elif kind != "webmks":
        deployment.set_vcenter(kind, handshake=handshake)
    token = deployment.token(kind)
    screen = new_screen(deployment.proxy.page_url(token))
    screen.wait_until("connected")
    picture = screen.wait_for_picture()
    dark = picture.convert("L").histogram()[0] / (picture.width * picture.height)
    assert 0.8 < dark < 1, "light text on black is expected"
    words = f"{kind} {handshake} "
    screen.page.keyboard.type(words)
    qemu.wait_for_text(words)
    screen.keep(f"qemu-{kind}-{handshake}")
    assert screen.complaints == []
    assert screen.violations() == []
    assert len(deployment.vsphere.connections(deployment.machine(kind))) == 1
    screen.page.close()
    assert deployment.vsphere.connections(deployment.machine(kind), count=0) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "webmks"])
def test_the_page_follows_a_machine_that_moves(deployment, qemu, new_screen, kind):
    screen = new_screen(deployment.proxy.page_url(deployment.token(kind)))
    screen.wait_until("connected")
    screen.wait_for_picture()
    deployment.vsphere.vmotion(deployment.machine(kind))
    screen.wait_until("waiting")
    screen.wait_until("connected")
    words = f"{kind} moved "
    screen.page.keyboard.type(words)
    qemu.wait_for_text(words)
    assert screen.complaints == []
