"""The clients that OpenStack has, as they are: what each asks for opens a console.

The table of ``docs/nova.md``. None of them is told anything of mksfilter.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("options", "answered"),
    [
        ("console url show", ("vnc", "novnc")),
        ("console url show --novnc", ("vnc", "novnc")),
        ("console url show --mks", ("mks", "webmks")),
        ("--os-compute-api-version 2.1 console url show", (None, "novnc")),
        ("--os-compute-api-version 2.6 console url show", ("vnc", "novnc")),
    ],
)
def test_openstackclient(cloud, options, answered):
    done = cloud.stack.openstack("member", *options.split(), "-f", "json", "web-1")

    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown.get("protocol"), shown["type"]) == answered
    assert cloud.is_console(shown["url"])


@pytest.mark.parametrize(
    ("console_type", "shown_as"), [("AUTO", "VNC"), ("VNC", "VNC"), ("MKS", "MKS")]
)
def test_horizon(cloud, horizon, console_type, shown_as):
    out = horizon.run(
        HERE / "horizon_console.py", cloud.vm, console_type, **cloud.stack.credentials("member")
    )

    kind, url = json.loads(out.splitlines()[-1])
    assert kind == shown_as
    assert parse_qs(urlsplit(url).query)["title"] == [f"web-1({cloud.vm})"]
    assert cloud.is_console(url)


@pytest.mark.parametrize("language", ["en", "zh-hans", "ko-kr"])
def test_skyline(cloud, language):
    """Its request, header by header; it is a program for browsers."""
    answer = requests.post(
        f"{cloud.api.url}/v2.1/servers/{cloud.vm}/remote-consoles",
        data=json.dumps({"remote_console": {"type": "novnc", "protocol": "vnc"}}),
        headers={
            "Content-Type": "application/json;charset=utf-8",
            "Cache-Control": "no-cache",
            "Pragma": "no-cache",
            "X-Openstack-Request-Id": "req-5f1c7e20-0000-4000-8000-0000000000aa",
            "X-Auth-Token": cloud.stack.token("member"),
            "Openstack-Api-Version": "compute 2.79",
        },
        timeout=60,
    )

    assert answer.status_code == 200, answer.text
    url = answer.json()["remote_console"]["url"]
    assert cloud.is_console(f"{url}&language={language}")


@pytest.mark.parametrize("protocol", [("vnc", "novnc"), ("mks", "webmks")], ids="-".join)
def test_tempest(cloud, tempest, protocol):
    answer = requests.post(
        f"{cloud.api.url}/v2.1/servers/{cloud.vm}/remote-consoles",
        json={"remote_console": dict(zip(("protocol", "type"), protocol, strict=True))},
        headers={
            "X-Auth-Token": cloud.stack.token("member"),
            "OpenStack-API-Version": "compute 2.8",
        },
        timeout=60,
    )

    assert answer.status_code == 200, answer.text
    url = answer.json()["remote_console"]["url"]
    assert tempest.run(HERE / "tempest_console.py", url) == "ok\n"
