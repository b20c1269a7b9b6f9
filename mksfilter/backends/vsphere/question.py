"""What a VM asks in vCenter (``runtime.question``), as its user may read it. No I/O.

vSphere writes such a text as ``msg.hbacommon.outofspace:There is no more space for virtual disk
/vmfs/volumes/5f1c.../web-1/web-1.vmdk. You might be able to ...``. Where the cloud's files are is
no business of the machine's user: of a path the last name is left.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_QUESTION", "question_for_user"]

#: Characters of a question that are shown.
MAX_QUESTION: Final = 300

_NUMBER: Final = re.compile(r"^\s*(?:msg|vob|vpx|com)\.[\w.-]+\s*:\s*")
_PATH: Final = re.compile(r"(?:\[[^\]/]{1,80}\] ?|/)(?:[^\s/'\"]+/)+")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def question_for_user(text: str) -> str:
    """*text* on one line, without the number of the message and the places of files; with an
    ellipsis where it is too long. Any vCenter's text may be given."""
    line = _PATH.sub("", _NUMBER.sub("", text[: 8 * MAX_QUESTION]))
    line = " ".join(_CONTROLS.sub(" ", line).split())
    if len(line) <= MAX_QUESTION:
        return line
    return line[: MAX_QUESTION - 1] + "\N{HORIZONTAL ELLIPSIS}"
