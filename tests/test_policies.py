"""The policy rule of our own."""

from __future__ import annotations

import subprocess
import sys

from mksfilter.policies import list_rules


def test_nobody_may_watch_by_default():
    (rule,) = list_rules()

    assert rule.name == "mksfilter:view-console"
    assert str(rule.check) == "!"
    assert rule.scope_types == ["project"]


POLICIES = """\
"os_compute_api:os-remote-consoles": "rule:project_member_or_admin"
"mksfilter:view-console": "role:reader"
"""


def oslopolicy(tmp_path, program, policies):
    """Run one of oslo.policy's own programs on a policy file of ours."""
    file, conf = tmp_path / "policy.yaml", tmp_path / "mksfilter.conf"
    file.write_text(policies)
    conf.write_text(f"[mksfilter]\npolicy_file = {file}\n")
    return subprocess.run(
        [
            *(
                sys.executable,
                "-c",
                f"import sys, oslo_policy.generator as g; sys.exit(g.{program}())",
            ),
            *("--config-file", str(conf), "--namespace", "mksfilter"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_oslo_policys_validator_knows_our_rules(tmp_path):
    done = oslopolicy(tmp_path, "validate_policy", POLICIES)
    assert (done.returncode, done.stdout) == (0, "")


def test_oslo_policys_validator_finds_a_rule_that_there_is_not(tmp_path):
    done = oslopolicy(tmp_path, "validate_policy", POLICIES.replace("view-console", "wiev-console"))
    assert done.returncode == 1
    assert "Unknown rule found in policy file: mksfilter:wiev-console" in done.stdout


def test_oslo_policys_list_of_redundant_rules_has_the_one_that_says_nothing_new(tmp_path):
    done = oslopolicy(tmp_path, "list_redundant", POLICIES)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ['"os_compute_api']


def test_oslo_policys_generator_merges_file_and_defaults(tmp_path):
    done = oslopolicy(tmp_path, "generate_policy", POLICIES)
    assert '"mksfilter:view-console": "role:reader"' in done.stdout
    assert '"context_is_admin": "role:admin"' in done.stdout
