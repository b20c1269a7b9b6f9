"""How long the page waits before it comes again; run by Node.js, from its sources."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.support.source import ROOT

SCRIPT = """
import { backOff } from "./endings.js";
const least = () => 0, most = () => 1;
const pauses = (reason, facts) =>
    [1, 2, 3, 20].map((one) =>
        [least, most].map((random) => backOff(one, { reason, facts }, random)));
console.log(JSON.stringify({
    lost: pauses(""),
    busy: pauses("opening-limit"),
    appointment: pauses("opening-limit", { seconds: 9 }),
    soon: pauses("opening-limit", { seconds: 1 }),
    limited: pauses("rate-limit", { seconds: 2 }),
    forever: [pauses("rate-limit", { seconds: 1e9 }), pauses("opening-limit", { seconds: 1e9 })],
}));
"""


@pytest.mark.page
def test_it_doubles_its_pause_but_not_before_a_server_that_is_busy():
    """That one has a few seconds' work: whoever doubled his pause is away when it is done. Where
    it names a time the page comes then."""
    node = shutil.which("node") or pytest.fail("Node.js is missing; run tools/install-test-tools")
    ran = subprocess.run(
        [node, "--input-type=module", "-e", SCRIPT],
        cwd=ROOT / "page" / "src",
        capture_output=True,
        text=True,
        check=True,
    )
    pauses = json.loads(ran.stdout)
    assert pauses["lost"] == [[250, 500], [500, 1000], [1000, 2000], [15000, 30000]]
    assert pauses["busy"] == [[2000, 5000]] * 4
    assert pauses["appointment"] == [[9000, 8000]] * 4
    assert pauses["soon"] == [[1000, 1000]] * 4
    assert pauses["limited"] == [[2000, 2000], [2000, 2000], [2000, 2000], [15000, 30000]]
    assert [pause for kind in pauses["forever"] for each in kind for pause in each] == [60000] * 16
