"""Who may show the console page in a frame, as a value. No I/O."""

from __future__ import annotations

import re

from mksfilter.exceptions import ConfigurationError

__all__ = ["parse_ancestor"]

_ANCESTOR = re.compile(
    r"self|https?://(\*\.)?[A-Za-z0-9.\-_]+(:\d+)?|https?://\[[0-9A-Fa-f:]+\](:\d+)?"
)


def parse_ancestor(text: str) -> str:
    """An entry of ``frame_ancestors`` as Content-Security-Policy has it (CSP 3, section 6.4.2).

    :raises ConfigurationError: it is none.
    """
    if not _ANCESTOR.fullmatch(text):
        raise ConfigurationError(
            f"frame_ancestors: {text!r} is neither self nor of the form scheme://host[:port]"
        )
    return "'self'" if text == "self" else text
