"""What stops a node waits for longer than the node keeps its consoles, however it is deployed."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from mksfilter import config
from mksfilter.proxy.server.arbiter import LAST_SECONDS
from mksfilter.proxy.server.service_manager import EXTENSION
from tests.etc.test_kubernetes import KUBERNETES, Object, render
from tests.support.source import ROOT

ETC = ROOT / "etc"


def drain_time(*files: object) -> float:
    """What a node takes from these files, or has without any."""
    return float(config.load([str(file) for file in files])[config.GROUP].drain_time)


@pytest.fixture(params=["base", "example"])
def kubernetes(request, tmp_path) -> tuple[Object, float]:
    """A pod, and the drain_time that it reads from the directory that is mounted into it."""
    objects = {
        each["kind"]: each for each in yaml.safe_load_all(render(KUBERNETES / request.param))
    }
    for name, text in objects["ConfigMap"]["data"].items():
        (tmp_path / name).write_text(text)
    pod: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return pod, drain_time(tmp_path)


def test_a_pod_is_given_the_time_that_its_consoles_are_kept(kubernetes):
    pod, seconds = kubernetes
    (container,) = pod["containers"]
    (command, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert pod["terminationGracePeriodSeconds"] > float(pause) + seconds + LAST_SECONDS
    assert not [each for each in container["args"] if "graceful" in each]


def test_systemd_waits_and_the_workers_extend_it_for_a_longer_drain():
    unit = (ETC / "systemd" / "mksproxy.service").read_text()
    assert "graceful" not in unit
    assert {"Type=notify", "NotifyAccess=all"} <= set(unit.splitlines())
    (timeout,) = map(float, re.findall(r"(?m)^TimeoutStopSec=(\d+)$", unit))
    assert timeout > drain_time() + LAST_SECONDS
    assert timeout > EXTENSION


def test_a_container_is_given_the_time_and_its_command_leaves_it_to_the_configuration():
    file = (ETC / "container" / "Containerfile").read_text()
    assert "graceful" not in file
    (line,) = re.findall(r"(?m)^# +(podman run .*)$", file)
    words = shlex.split(line)
    timeout = float(words[words.index("--stop-timeout") + 1])
    assert timeout > drain_time() + LAST_SECONDS
