"""The page in front of VNC servers that others wrote: QEMU's and TigerVNC's."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading

import pytest
from websockets.sync.client import connect

from tests.support.keyboards import SCAN_CODES as KEYS
from tests.support.ports import free_port
from tests.support.qemu import SCAN_CODES, boot, running

EXTENDED_KEYS, UNKNOWN = struct.pack(">i", -258), struct.pack(">i", 0x6E6F6E65)


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
def xvnc(tmp_path):
    """The port of an X server that draws its root window's weave."""
    log = tmp_path / "xvnc.log"
    port = free_port()
    readable, writable = os.pipe()
    command = ["Xvnc", "-displayfd", str(writable), "-rfbport", str(port), "-localhost"]
    command += ["-SecurityTypes", "None", "-geometry", "800x600", "-depth", "24", "-retro"]
    with (
        log.open("wb") as said,
        running(*command, pass_fds=[writable], stdout=subprocess.DEVNULL, stderr=said),
    ):
        os.close(writable)
        with os.fdopen(readable) as display:
            assert display.readline().strip(), f"Xvnc did not start: {log.read_text()}"
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


def test_a_viewer_that_speaks_rfb_3_3_with_qemu_sees_its_screen_and_types_nothing(
    qemu, vsphere_factory, proxy_factory
):
    """In 3.3 QEMU chooses the security type, and the viewer says one byte less than in 3.8."""
    machine, port = qemu
    machine.wait_for_text("Booting from Floppy")
    vsphere = vsphere_factory("--rfb", f"127.0.0.1:{port}")
    proxy = proxy_factory(vcenters=[vsphere.vcenter_settings()])
    token = proxy.token(vsphere.vm("web-1")["uuid"], mode="view")
    key = b"".join(struct.pack("!BBxxI", 4, down, ord("x")) for down in (1, 0))
    ask = struct.pack("!BBHHHH", 3, 0, 0, 0, 8, 8)
    with connect(
        f"ws://127.0.0.1:{proxy.port}/websockify?token={token}", subprotocols=["binary"], proxy=None
    ) as viewer:
        heard = bytearray()

        def read(size):
            while len(heard) < size:
                heard.extend(viewer.recv(timeout=15))
            taken = bytes(heard[:size])
            del heard[:size]
            return taken

        assert read(12) == b"RFB 003.008\n"
        viewer.send(b"RFB 003.003\n")
        assert read(4) == b"\0\0\0\1"
        viewer.send(b"\0")
        name = struct.unpack("!20xI", read(24))[0]
        read(name)
        viewer.send(key + struct.pack("!BxHi", 2, 1, 0))
        for _ in range(2):
            viewer.send(key * 20 + ask)
            kind, rectangles = struct.unpack("!BxH", read(4))
            assert kind == 0
            for _ in range(rectangles):
                width, height, encoding = struct.unpack("!4xHHi", read(12))
                assert encoding == 0
                read(width * height * 4)
    assert "x" not in machine.text().partition("Booting from Floppy")[2]


@contextlib.contextmanager
def without_extended_keys(port):
    """A relay to a VNC server through which a client cannot ask for QEMU's extended key event."""

    def copy(source, target, change):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(change(data))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                upstream = socket.create_connection(("127.0.0.1", port))
                hide = lambda data: data.replace(EXTENDED_KEYS, UNKNOWN)  # noqa: E731
                for arguments in ((client, upstream, hide), (upstream, client, bytes)):
                    threading.Thread(target=copy, args=arguments, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("extended", [True, False], ids=["scan-codes", "us-map"])
def test_each_printing_key_is_that_key_to_qemu_whatever_character_it_has(
    tmp_path, open_vnc, extended
):
    """As a German keyboard gives them, with QEMU's key event and by its US map of keysyms."""
    with boot(tmp_path, SCAN_CODES) as machine, contextlib.ExitStack() as stack:
        machine.wait_for_text("Booting from Floppy")
        port = machine.port
        if not extended:
            port = stack.enter_context(without_extended_keys(port))
        screen = open_vnc(port)
        screen.wait_for_picture()
        screen.find("#stage canvas").evaluate(
            """(canvas, codes) => {
                for (const code of ["AltRight", ...codes]) {
                    canvas.dispatchEvent(new KeyboardEvent("keydown", { code, key: "ö" }));
                    canvas.dispatchEvent(new KeyboardEvent("keyup", { code, key: "ö" }));
                }
            }""",
            codes := [code for code in KEYS if extended or code not in ("IntlRo", "IntlYen")],
        )
        expected = "E038E0B8" + "".join(
            f"{KEYS[code]:02X}{KEYS[code] | 0x80:02X}" for code in codes
        )
        machine.wait_for_text(expected)
