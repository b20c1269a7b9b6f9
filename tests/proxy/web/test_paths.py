"""Paths with and without a load balancer's prefix."""

from __future__ import annotations

import pytest

from mksfilter.proxy.web.paths import PathPrefix

ROOTS = ["", "https://c.example.com", "https://c.example.com/", "https://c.example.com/vnc.html"]
BELOW = [
    "https://c.example.com/cell1/mks/",
    "https://c.example.com/cell1/mks",
    "https://c.example.com/cell1/mks/vnc_auto.html?path=cell1/mks/websockify",
]


@pytest.mark.parametrize("base_url", ROOTS)
def test_without_a_prefix_paths_stay_as_they_are(base_url):
    prefix = PathPrefix(base_url)
    assert prefix.without("/") == "/"
    assert prefix.without("/static/icon.svg") == "/static/icon.svg"
    assert prefix.without("//") == "//"
    assert prefix.directory("/") == ""


@pytest.mark.parametrize("base_url", BELOW)
@pytest.mark.parametrize(
    ("path", "stripped"),
    [
        ("/cell1/mks", "/"),
        ("/cell1/mks/", "/"),
        ("/cell1/mks/websockify", "/websockify"),
        ("/cell1/mks/vnc_auto.html", "/vnc_auto.html"),
        # A load balancer stripped it, or asks for our health.
        ("/", "/"),
        ("/websockify", "/websockify"),
        ("/healthz", "/healthz"),
        # Not ours.
        ("/cell1/mksx", "/cell1/mksx"),
        ("/cell1", "/cell1"),
        ("/cell1/mks/cell1/mks/", "/cell1/mks/"),
    ],
)
def test_a_prefix_is_taken_off_where_the_load_balancer_left_it(base_url, path, stripped):
    assert PathPrefix(base_url).without(path) == stripped


def test_a_page_asked_for_without_its_last_slash_names_its_directory():
    prefix = PathPrefix("https://c.example.com/cell1/mks/")
    assert prefix.directory("/cell1/mks") == "/cell1/mks/"
    assert prefix.directory("/cell1/mks/") == ""
    assert prefix.directory("/") == ""


def test_where_links_lack_the_slash_the_directory_is_always_named():
    """A load balancer that strips the prefix asks for ``/`` in both cases."""
    assert PathPrefix("https://c.example.com/cell1/mks").directory("/") == "/cell1/mks/"


def test_an_application_mounted_below_a_path_names_it():
    assert PathPrefix().directory("", "/a b/mks") == "/a%20b/mks/"
    assert PathPrefix().directory("/", "/mks") == ""
    assert PathPrefix().without("") == "/"


def test_a_prefix_may_hold_any_character_of_a_url():
    prefix = PathPrefix("https://c.example.com/caf%C3%A9%20x/")
    assert prefix.without("/caf\xc3\xa9 x/websockify") == "/websockify"
    assert prefix.directory("/caf\xc3\xa9 x") == "/caf%C3%A9%20x/"
