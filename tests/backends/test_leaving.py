"""A process that ends leaves no session behind: vCenter bounds how many an account may have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.simulator.client import WEB_1, SimulatedVSphere

PROGRAM = """
import os, sys
from mksfilter import config, filter
from mksfilter.config import VCenterSettings
consoles = filter._ConsolesAtFirstUse([VCenterSettings(**eval(sys.argv[1]))], (), "")
assert consoles.connect(sys.argv[2])
if not os.fork():
    sys.exit()
os.wait()
print("connected")
"""


def test_the_filters_process_logs_out_when_it_ends_and_its_children_do_not(
    vsphere: SimulatedVSphere,
) -> None:
    settings = vsphere.vcenter_settings()
    arguments = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, repr(arguments), WEB_1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "connected\n"), done.stderr
    calls = vsphere.calls()
    assert (calls["calls"]["Login"], calls["calls"]["Logout"], calls["sessions"]) == (1, 1, 0)


@pytest.mark.parametrize("silent", [False, True])
def test_a_log_out_takes_no_longer_than_a_moment(
    vsphere: SimulatedVSphere, consoles_of: Callable[..., Consoles], silent: bool
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings(timeout=3600))
    consoles.connect(WEB_1)
    vsphere.set_vcenter(silent=silent)
    consoles.leave()
    assert vsphere.calls()["sessions"] == int(silent)
    vsphere.set_vcenter(silent=False)
