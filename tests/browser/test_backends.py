"""A PC under QEMU in Chromium, through every kind of console that vSphere has."""

from __future__ import annotations

import pytest

from tests.support.estate import KINDS, start_estate
from tests.support.qemu import boot


@pytest.fixture(scope="module")
def qemu(tmp_path_factory):
    with boot(tmp_path_factory.mktemp("qemu")) as machine:
        machine.wait_for_text("Booting from Floppy")
        yield machine


@pytest.fixture(scope="module")
def _estate(qemu):
    with start_estate("--rfb", f"127.0.0.1:{qemu.port}", every_version=False) as running:
        yield running


@pytest.fixture
def estate(_estate):
    """A vCenter for each kind of console; every machine's screen is the PC's."""
    _estate.vsphere.reset()
    return _estate


@pytest.mark.parametrize(
    ("kind", "handshake"),
    [("webmks", "full")] + [(k, h) for k in KINDS if k != "webmks" for h in ("missing", "full")],
)
def test_the_pc_is_seen_and_typed_on(estate, qemu, new_screen, kind, handshake):
    if kind == "mks":
        estate.set_host(kind, handshake=handshake)
    elif kind != "webmks":
        estate.set_vcenter(kind, handshake=handshake)
    token = estate.token(kind)
    screen = new_screen(estate.proxy.page_url(token))
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
    assert len(estate.vsphere.connections(estate.machine(kind))) == 1
    screen.page.close()
    assert estate.vsphere.connections(estate.machine(kind), count=0) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "webmks"])
def test_the_page_follows_a_machine_that_moves(estate, qemu, new_screen, kind):
    screen = new_screen(estate.proxy.page_url(estate.token(kind)))
    screen.wait_until("connected")
    screen.wait_for_picture()
    estate.vsphere.vmotion(estate.machine(kind))
    screen.wait_until("waiting")
    screen.wait_until("connected")
    words = f"{kind} moved "
    screen.page.keyboard.type(words)
    qemu.wait_for_text(words)
    assert screen.complaints == []
