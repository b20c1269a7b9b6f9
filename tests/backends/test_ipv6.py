"""A vSphere that has IPv6 addresses alone, written as operators write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mksfilter import config
from mksfilter.backends.resolver import Consoles
from mksfilter.simulator.client import WEB_1, start
from tests.support.proxy import configuration


def test_brackets_around_the_vcenters_address_are_not_part_of_it(
    tmp_path: Path, consoles_of: Callable[..., Consoles]
) -> None:
    with start("--host", "[::1]") as vsphere:
        assert vsphere.vcenter["host"] == "::1"
        written = vsphere.vcenter_settings(host="[::1]", console_host="[::1]")
        path = configuration(tmp_path, [written])
        endpoint = consoles_of(*config.vcenter_settings(config.load([str(path)]))).connect(WEB_1)
    assert endpoint.address == f"[::1]:{endpoint.port}"
