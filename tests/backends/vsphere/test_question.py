"""What a VM asks in vCenter, as its user reads it."""

from __future__ import annotations

import pytest

from mksfilter.backends.vsphere.question import MAX_QUESTION, question_for_user


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("", ""),
        ("Did you move it, or copy it?", "Did you move it, or copy it?"),
        (
            "msg.hbacommon.outofspace:There is no more space for virtual disk "
            "/vmfs/volumes/5f1c7e20-1/web-1/web-1_1.vmdk. Click Retry.",
            "There is no more space for virtual disk web-1_1.vmdk. Click Retry.",
        ),
        ("Locked: [datastore1] web-1/web-1.vmx", "Locked: web-1.vmx"),
        ("Cancel/Retry and 5/6 stay", "Cancel/Retry and 5/6 stay"),
        ("a\r\n\tb\x1b\u202ec", "a b c"),
    ],
)
def test_is_one_line_without_numbers_and_places(asked: str, shown: str) -> None:
    assert question_for_user(asked) == shown


def test_has_an_end() -> None:
    shown = question_for_user("why " * 10_000)
    assert len(shown) == MAX_QUESTION
    assert shown.endswith("\N{HORIZONTAL ELLIPSIS}")
