"""``docs/security.md`` says which test shows which fault absent; here, that it says so truly."""

import fnmatch
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parents[1] / "docs" / "security.md"
ROW = re.compile(r"^\| (CVE-\S+|OSSN-\S+|Launchpad \d+) \| .* \| `(test_\S+)` \|$", re.MULTILINE)
ID = re.compile(r"(cve_\d+_\d+|ossn_\d+|launchpad_\d+)")


def existing() -> list[str]:
    text = "\n".join(path.read_text() for path in TESTS.glob("test_*.py"))
    return re.findall(r"^\s*def (test_\w+)", text, re.MULTILINE)


def test_every_fault_in_the_table_has_a_test():
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len(rows) >= 15
    missing = [row for row in rows if not fnmatch.filter(existing(), row[1])]
    assert not missing


def test_every_fault_that_is_tested_is_in_the_table():
    listed = {
        name.lower().replace("-", "_").replace(" ", "_")
        for name, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))
    }
    tested = {name for test in existing() for name in ID.findall(test)}
    assert tested <= listed
