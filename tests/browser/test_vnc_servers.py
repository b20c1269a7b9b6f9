"""The page in front of VNC servers that others wrote: QEMU's and TigerVNC's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time

import pytest

# Reads keys and prints them, as a machine without an operating system would:
#   again: mov ah, 0 / int 0x16 / mov ah, 0x0e / int 0x10 / jmp again
ECHO = bytes.fromhex("b400 cd16 b40e cd10 ebf6")
BOOT_SECTOR = ECHO.ljust(510, b"\0") + b"\x55\xaa"
VGA_TEXT, VGA_BYTES = 0xB8000, 80 * 25 * 2


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


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def running(*command, **options):
    program = shutil.which(command[0]) or pytest.fail(
        f"{command[0]} is missing; run tools/install-test-tools"
    )
    process = subprocess.Popen(
        [program, *command[1:]], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


class Qemu:
    """A PC that boots into a loop which prints what is typed."""

    def __init__(self, monitor):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(monitor))
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self._ask("qmp_capabilities")

    def _ask(self, command, **arguments):
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "return" in answer:
                return answer["return"]

    def text(self):
        """What is on its screen, read from the video memory."""
        command = f"xp /{VGA_BYTES}xb {VGA_TEXT:#x}"
        dump = self._ask("human-monitor-command", **{"command-line": command})
        values = [int(word, 16) for line in dump.splitlines() for word in line.split()[1:]]
        return bytes(values[::2]).decode("cp437")

    def wait_for_text(self, wanted):
        deadline = time.monotonic() + 30
        while wanted not in (text := self.text()):
            assert time.monotonic() < deadline, f"{wanted!r} is not on the screen: {text.split()}"
            time.sleep(0.1)

    def close(self):
        self._file.close()
        self._socket.close()


@pytest.fixture
def qemu(tmp_path):
    """The PC and the port of its VNC server."""
    (tmp_path / "boot.img").write_bytes(BOOT_SECTOR.ljust(1474560, b"\0"))
    port = free_port()
    command = ["qemu-system-x86_64", "-display", "none", "-vnc", f"127.0.0.1:{port - 5900}"]
    command += ["-m", "64", "-accel", "tcg", "-nodefaults", "-vga", "std", "-no-reboot"]
    command += ["-drive", f"file={tmp_path / 'boot.img'},format=raw,if=floppy", "-boot", "a"]
    command += ["-qmp", f"unix:{tmp_path / 'qmp'},server=on,wait=off"]
    with running(*command):
        deadline = time.monotonic() + 20
        while not (tmp_path / "qmp").exists():
            assert time.monotonic() < deadline, "QEMU did not start"
            time.sleep(0.02)
        machine = Qemu(tmp_path / "qmp")
        yield machine, port
        machine.close()


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


def keep(screen, name):
    """For the eye: the window as a file, where ``MKSFILTER_SCREENSHOTS`` names a directory."""
    directory = os.environ.get("MKSFILTER_SCREENSHOTS")
    if directory:
        screen.page.screenshot(path=os.path.join(directory, f"{name}.png"))


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
    keep(screen, "qemu")
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
    keep(screen, "xvnc")
    assert screen.complaints == []
    assert screen.violations() == []
