"""The policy rule of our own."""

from __future__ import annotations

from mksfilter.policies import list_rules


def test_nobody_may_watch_by_default():
    (rule,) = list_rules()

    assert rule.name == "mksfilter:view-console"
    assert str(rule.check) == "!"
    assert rule.scope_types == ["project"]
