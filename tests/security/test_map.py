"""``docs/security.md`` says which test shows which fault absent; here, that it says so truly."""

import fnmatch
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parents[1] / "docs" / "security.md"
ROW = re.compile(
    r"^\| ((?:CVE|OSSN|GHSA|GO)-\S+|(?:Launchpad|ManageIQ|CloudStack|Harvester) \d+)"
    r" \| .+ \| `(test_\S+)` \|$",
    re.MULTILINE,
)
ID = re.compile(
    r"(cve_\d+_\d+|ossn_\d+|ghsa(?:_\w{4}){3}|go_\d+_\d+|"
    r"(?:launchpad|manageiq|cloudstack|harvester)_\d+)"
)
#: What the page claims in sentences, and the test that shows it.
CLAIM = re.compile(r"^\| ([^|]+?) \| `(test_\S+)` \|$", re.MULTILINE)


def existing() -> list[str]:
    text = "\n".join(path.read_text() for path in TESTS.parent.rglob("test_*.py"))
    return re.findall(r"^\s*def (test_\w+)", text, re.MULTILINE)


def test_every_fault_in_the_table_has_a_test():
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len(rows) >= 45
    tests = existing()
    assert not [row for row in rows if not fnmatch.filter(tests, row[1])]


def test_every_claim_of_the_page_has_a_test():
    claims = CLAIM.findall(PAGE.read_text(encoding="utf-8"))
    assert len(claims) >= 12
    tests = existing()
    assert not [claim for claim in claims if not fnmatch.filter(tests, claim[1])]


def test_every_fault_that_is_tested_is_in_the_table():
    listed = {
        name.lower().replace("-", "_").replace(" ", "_")
        for name, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))
    }
    tested = {name for test in existing() for name in ID.findall(test)}
    assert tested <= listed
