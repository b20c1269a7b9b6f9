"""VNC servers that others wrote, in processes of their own: a PC under QEMU."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port

__all__ = ["SCAN_CODES", "Qemu", "boot", "running"]

# Reads keys and prints them, as a machine without an operating system would:
#   again: mov ah, 0 / int 0x16 / mov ah, 0x0e / int 0x10 / jmp again
ECHO = bytes.fromhex("b400 cd16 b40e cd10 ebf6")
# Prints the scan codes that the keyboard controller has, in hexadecimal:
#   cli / again: in al, 0x64 / test al, 1 / jz again / in al, 0x60 / mov bl, al / shr al, 4
#   call digit / mov al, bl / call digit / jmp again
#   digit: and al, 15 / add al, 0x90 / daa / adc al, 0x40 / daa / mov ah, 0x0e / int 0x10 / ret
SCAN_CODES = bytes.fromhex(
    "fa e464 a801 74fa e460 88c3 c0e804 e80700 88d8 e80200 ebe9240f 0490 27 1440 27 b40e cd10 c3"
)
VGA_TEXT, VGA_BYTES = 0xB8000, 80 * 25 * 2


@contextlib.contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program for as long as the context lasts."""
    program = shutil.which(command[0]) or pytest.fail(
        f"{command[0]} is missing; run tools/install-test-tools"
    )
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    process = subprocess.Popen([program, *command[1:]], **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


class Qemu:
    """A PC that boots into a loop which prints what is typed.

    :ivar port: of its VNC server, on 127.0.0.1.
    """

    def __init__(self, monitor: Path, port: int) -> None:
        self.port = port
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        # The socket is there a moment before QEMU listens on it.
        deadline = time.monotonic() + 20
        while self._socket.connect_ex(str(monitor)):
            assert time.monotonic() < deadline, "QEMU does not answer at its monitor"
            time.sleep(0.02)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self._ask("qmp_capabilities")

    def _ask(self, command: str, **arguments: Any) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "return" in answer:
                return answer["return"]

    def text(self) -> str:
        """What is on its screen, read from the video memory."""
        command = f"xp /{VGA_BYTES}xb {VGA_TEXT:#x}"
        dump = self._ask("human-monitor-command", **{"command-line": command})
        values = [int(word, 16) for line in dump.splitlines() for word in line.split()[1:]]
        return bytes(values[::2]).decode("cp437")

    def wait_for_text(self, wanted: str) -> None:
        deadline = time.monotonic() + 30
        while wanted not in (text := self.text()):
            assert time.monotonic() < deadline, f"{wanted!r} is not on the screen: {text.split()}"
            time.sleep(0.1)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@contextlib.contextmanager
def boot(directory: Path, program: bytes = ECHO) -> Iterator[Qemu]:
    """The PC, with its floppy disk and its monitor's socket in *directory*."""
    sector = program.ljust(510, b"\0") + b"\x55\xaa"
    (directory / "boot.img").write_bytes(sector.ljust(1474560, b"\0"))
    port = free_port()
    command = ["qemu-system-x86_64", "-display", "none", "-vnc", f"127.0.0.1:{port - 5900}"]
    command += ["-m", "64", "-accel", "tcg", "-nodefaults", "-vga", "std", "-no-reboot"]
    command += ["-drive", f"file={directory / 'boot.img'},format=raw,if=floppy", "-boot", "a"]
    command += ["-qmp", f"unix:{directory / 'qmp'},server=on,wait=off"]
    with running(*command):
        deadline = time.monotonic() + 20
        while not (directory / "qmp").exists():
            assert time.monotonic() < deadline, "QEMU did not start"
            time.sleep(0.02)
        machine = Qemu(directory / "qmp", port)
        yield machine
        machine.close()
