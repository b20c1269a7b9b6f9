"""``mksfilter demo`` does what the README says, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import time

import psutil
import pytest
from PIL import Image

from tests.support.demo import DEMO, running_demo


def test_once_writes_the_picture_that_came_through_the_proxy(tmp_path):
    picture = tmp_path / "demo.png"
    done = subprocess.run(
        [*DEMO, "--once", "--output", str(picture)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    image = Image.open(picture).convert("RGB")
    assert f"{image.width}x{image.height} pixels of " in done.stdout
    assert len(image.getcolors(maxcolors=1 << 24)) > 1, "the picture is one flat colour"


@pytest.fixture
def demo(tmp_path):
    with running_demo(TMPDIR=str(tmp_path)) as (process, lines):
        assert any("token=" in line for line in lines), "\n".join(lines)
        yield process, lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_last_line_is_a_console_url_and_a_signal_leaves_nothing(demo, number, tmp_path):
    process, lines = demo
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=mks1\.\S+", lines[-1])
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 5, "simulator, API with a worker, proxy with two workers"
    assert list(tmp_path.glob("mksfilter-*")), "the demo's directory with its keys"
    process.send_signal(number)
    assert process.wait(timeout=30) == 0
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_it_is_ready_leaves_nothing_either(number, tmp_path):
    with subprocess.Popen(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *DEMO, "--port", "0", "--api-port", "0"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("mksfilter-*/keys")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        family = psutil.Process(process.pid).children(recursive=True)
        assert family, "the simulator"
        process.send_signal(number)
        assert process.wait(timeout=30) == 130
        assert process.stdout.read() == ""
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert list(tmp_path.iterdir()) == []


def test_the_printed_curl_line_gives_another_console_url(demo):
    _, lines = demo
    curl = next(line for line in lines if line.strip().startswith("curl "))
    answer = subprocess.run(
        curl, shell=True, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert re.search(r'"url": ?"http://127\.0\.0\.1:\d+/\?token=mks1\.', answer)


def test_a_killed_demo_takes_its_programs_with_it(demo):
    process, _ = demo
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert psutil.wait_procs(family, timeout=20)[1] == []
