"""``etc/container/Containerfile``: built by buildah, and started as a pod starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mksfilter.auth.keys import KeyRepository
from tests.support.machine import base
from tests.support.source import ROOT, copy_source

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

FILE = ROOT / "etc" / "container" / "Containerfile"
IMAGE = "localhost/mksfilter-test"


def run(*command: object, **options: object) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """buildah with images of its own, without a daemon and without namespaces."""
    directory = tmp_path_factory.mktemp("images")
    options = ["--root", directory / "root", "--runroot", directory / "run"]
    return ["buildah", *map(str, options), "--storage-driver", "vfs"]


@pytest.fixture(scope="module")
def mounted(store: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's file system. Its base is a Debian with Python, since no registry is asked."""
    debian = run(*store, "from", "scratch").strip()
    root = Path(run(*store, "mount", debian).strip())
    run("cp", "-a", f"{base()}/.", root)
    # Where pip finds packages on this machine.
    for name in ("/etc/pip.conf", "/etc/resolv.conf", "/etc/hosts"):
        if Path(name).exists():
            shutil.copy(name, root / name[1:])
    run("cp", "-L", "/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs")
    run(*store, "commit", "--quiet", debian, "localhost/debian")

    context = copy_source(tmp_path_factory.mktemp("context") / "source")
    run(
        *("python3", "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"),
        *("-w", context / "dist", context),
        env={**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"},
    )
    (context / "dist" / "mksfilter-0.1.0.cdx.json").write_text("{}")
    run(
        *(*store, "bud", "--isolation", "chroot", "--quiet", "--pull-never"),
        *("--build-arg", "BASE=localhost/debian", "-f", FILE, "-t", IMAGE, context),
    )
    container = run(*store, "from", "--pull-never", IMAGE).strip()
    yield Path(run(*store, "mount", container).strip())
    run(*store, "umount", "--all")


@pytest.fixture(scope="module")
def settings(store: list[str], mounted: Path) -> dict[str, object]:
    described = json.loads(run(*store, "inspect", "--type", "image", IMAGE))
    config: dict[str, object] = described["OCIv1"]["config"]
    return config


def test_the_image_runs_as_nobody_in_particular_and_by_number(settings):
    assert settings["User"] == "65532:65532"
    assert settings["Entrypoint"] == ["mksfilter"]


def test_it_holds_the_page_the_lock_and_its_bill_of_materials_and_no_pip(mounted):
    site = mounted / "opt" / "mksfilter"
    assert list(
        site.glob("lib/python3.*/site-packages/mksfilter/proxy/web/static/novnc/console.js")
    )
    assert (site / "etc" / "mksfilter" / "lock.txt").exists()
    assert list((site / "share" / "sbom").glob("mksfilter-*.cdx.json"))
    assert not list(site.glob("bin/pip*"))


def test_nothing_in_it_can_be_written_by_its_user(mounted):
    writable = run("find", mounted / "opt", "-perm", "/022", "-not", "-type", "l").split()
    assert writable == []


def test_it_serves_with_a_root_that_cannot_be_written(mounted, settings, tmp_path):
    """The image's own command, as its own user; what differs is the port."""
    keys = tmp_path / "keys"
    KeyRepository(str(keys)).setup()
    (tmp_path / "mksfilter.conf").write_text(
        "[mksfilter]\nkey_repository = /etc/mksfilter/keys\nticket_at = issue\n"
        "management_bind = 127.0.0.1:0\n"
    )
    run("chown", "-R", "65532:65532", tmp_path)
    tmp_path.chmod(0o755)
    command = " ".join([*settings["Entrypoint"], *settings["Cmd"]])
    assert "0.0.0.0:6090" in command
    command = command.replace("0.0.0.0:6090", "127.0.0.1:0")
    environment = " ".join(f"'{each}'" for each in settings["Env"])
    script = f"""
        set -e
        mount --bind "$0" "$0"
        mkdir -p "$0/etc/mksfilter"
        mount --bind "$1" "$0/etc/mksfilter"
        mount -t proc proc "$0/proc"
        mount --rbind /dev "$0/dev"
        mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"
        mount -o remount,bind,ro "$0"
        exec chroot "$0" setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs \\
            --bounding-set=-all env -i {environment} {command}
    """
    log = tmp_path.parent / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, mounted, tmp_path],
            stdout=stream,
            stderr=stream,
        )
    try:
        deadline = time.monotonic() + 60
        while not (listening := re.search(r"listening on (http\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        with urllib.request.urlopen(listening[1], timeout=30) as page:
            assert b"noVNC" in page.read()
    finally:
        process.terminate()
        assert process.wait(70) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
