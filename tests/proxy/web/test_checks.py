"""What a node must have to be ready."""

from __future__ import annotations

from types import SimpleNamespace

from mksfilter.auth.keys import KeyRepository
from mksfilter.proxy.web import checks


def vcenter(name: str, state: str, last_error: str = "") -> SimpleNamespace:
    return SimpleNamespace(name=name, state=state, healthy=state == "up", last_error=last_error)


def test_keys_that_can_be_read_are_good(tmp_path):
    keys = KeyRepository(str(tmp_path / "keys"))
    assert "no such file" in checks.keys_readable(keys)
    keys = KeyRepository(str(tmp_path / "keys"))
    keys.setup()
    assert checks.keys_readable(keys) == ""


def test_one_vcenter_is_enough():
    assert checks.vcenter_reachable([vcenter("a", "down"), vcenter("b", "up")]) == ""


def test_none_that_is_reachable_is_told_with_what_each_lacks():
    words = checks.vcenter_reachable([vcenter("a", "down", "a: timed out"), vcenter("b", "down")])
    assert words == "a: timed out; vcenter b: down"


def test_one_that_was_never_asked_is_not_known_to_be_reachable():
    assert checks.vcenter_reachable([vcenter("a", "new")]) == "vcenter a: new"


def test_a_proxy_that_asks_no_vcenter_needs_none():
    assert checks.vcenter_reachable([]) == ""
