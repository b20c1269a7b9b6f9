"""Which language a reader gets."""

from __future__ import annotations

import pytest

from mksfilter.proxy.web.languages import choose

HAVE = {"de", "es", "fr", "ja"}


@pytest.mark.parametrize(
    ("wanted", "accept", "language"),
    [
        ("", "", "en"),
        ("", "de", "de"),
        ("", "de-AT,de;q=0.9,en;q=0.8", "de"),
        ("", "DE_at", "de"),
        ("", "it,fr;q=0.9,en;q=0.1", "fr"),
        ("", "en-GB,de;q=0.9", "en"),
        ("", "fr;q=0.2,ja;q=0.7", "ja"),
        ("", "fr;q=0,ja;q=0.7", "ja"),
        ("", "fr;q=0.0", "en"),
        ("", "fr;q=2,fr;q=x,fr;v=1,ja", "ja"),
        ("", "*", "en"),
        ("", "de, fr", "de"),
        ("", "fr; q=0.5 , de", "de"),
        ("ja_JP", "de", "ja"),
        ("xx", "de", "de"),
        ("en", "de", "en"),
        ("de<script>", "fr", "fr"),
        ("", "\x00,;;q=,=,de", "de"),
        ("", "xx," * 32 + "de", "en"),
        ("", "x" * 8000, "en"),
    ],
)
def test_the_link_s_language_comes_first_then_the_browser_s_by_weight(wanted, accept, language):
    assert choose(HAVE, wanted=wanted, accept=accept) == language
