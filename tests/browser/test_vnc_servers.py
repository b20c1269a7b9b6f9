"""The page in front of VNC servers that others wrote: QEMU's and TigerVNC's."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.qemu import boot, free_port, running


@pytest.fixture
def open_vnc(vsphere_factory, proxy_factory, new_screen):
    """Opens the console of a machine whose screen a VNC server at a port draws."""

    def open_port(port):
        vsphere = vsphere_factory("--rfb", f"127.0.0.1:{port}")
        proxy = proxy_factory(vcenters=[vsphere.vcenter_settings()])
        screen = new_screen(proxy.page_url(proxy.token(vsphere.vm("web-1")["uuid"])))
        screen.wait_until("connected")
        return screen

    return open_port


@pytest.fixture
def qemu(tmp_path):
    """The PC and the port of its VNC server."""
    with boot(tmp_path) as machine:
        yield machine, machine.port


@pytest.fixture
def xvnc():
    """The port of an X server that draws its root window's weave."""
    port = free_port()
    readable, writable = os.pipe()
    command = ["Xvnc", "-displayfd", str(writable), "-rfbport", str(port), "-localhost"]
    command += ["-SecurityTypes", "None", "-geometry", "800x600", "-depth", "24", "-retro"]
    with running(*command, pass_fds=[writable], stdout=subprocess.DEVNULL):
        os.close(writable)
        with os.fdopen(readable) as display:
            assert display.readline().strip(), "Xvnc did not start"
        yield port


def test_qemu_shows_its_firmware_and_reads_what_is_typed_and_pasted(qemu, open_vnc):
    machine, port = qemu
    machine.wait_for_text("Booting from Floppy")
    screen = open_vnc(port)
    picture = screen.wait_for_picture()
    dark = picture.convert("L").histogram()[0] / (picture.width * picture.height)
    assert 0.8 < dark < 1, "light text on black is expected"
    screen.page.keyboard.type("typed ")
    machine.wait_for_text("typed ")
    screen.open_bar()
    screen.button("Type text").click()
    pasted = "Pa$$w0rd {[(<~`\"'|\\/?:;!@#%^&*-_=+,.>)]}"
    screen.find("#paste-text").fill(pasted)
    screen.button("Type it").click()
    machine.wait_for_text(pasted)
    screen.keep("qemu")
    assert screen.complaints == []
    assert screen.violations() == []


def test_tigervnc_shows_its_root_window_and_its_size(xvnc, open_vnc):
    screen = open_vnc(xvnc)
    picture = screen.wait_for_picture()
    assert picture.size == (800, 600)
    # The weave is black and white all over.
    # Under the pointer there is a cursor, which noVNC makes a data: URL of.
    screen.find("#stage").hover()
    assert picture.crop((300, 300, 316, 316)).getextrema() == ((0, 255),) * 3
    screen.keep("xvnc")
    assert screen.complaints == []
    assert screen.violations() == []
