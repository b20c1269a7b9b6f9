"""axe-core finds nothing, in no state of the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.source import ROOT

from .states import ID, STATES, Stage

AXE = ROOT / "page" / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = (
    {"color_scheme": "light", "forced_colors": "none"},
    {"color_scheme": "dark", "forced_colors": "none"},
    {"color_scheme": "dark", "forced_colors": "active"},
)


@pytest.fixture
def stage(fake, new_screen):
    return Stage(fake, new_screen)


@pytest.mark.parametrize("state", STATES)
def test_nothing_keeps_anybody_from_using_the_page(stage, state):
    screen = STATES[state](stage)
    screen.page.evaluate(AXE.read_text())
    for look in LOOKS:
        screen.page.emulate_media(**look)
        found = screen.page.evaluate("axe.run({ resultTypes: ['violations'] })")
        told = [
            (violation["id"], [node["html"][:200] for node in violation["nodes"]])
            for violation in found["violations"]
        ]
        assert told == [], look
    assert screen.violations() == []


def test_who_and_where_is_copied_for_whoever_is_asked(fake, new_screen):
    url = f"{fake.url}?token=token&title=web-1({ID})"
    screen = new_screen(url, permissions=["clipboard-read", "clipboard-write"])
    screen.wait_until("connected")
    screen.open_bar()
    screen.button("Who and where").click()
    screen.button("Copy").click()
    expect(screen.find("#about-copy")).to_have_text("Copied")
    assert screen.page.evaluate("navigator.clipboard.readText()").splitlines() == [
        "Name: web-1",
        f"ID: {ID}",
        "Request: req-9f1c7d9e-4f06-4a2b-8a63-3f0c5a2f1b11",
        "Session: c2Vzc2lvbiBvZiBhIHRlc3Q",
        "Node: console-1",
    ]
    screen.page.keyboard.press("Escape")
    assert screen.page.evaluate("document.activeElement.id") == "about"
    expect(screen.find("#about-panel")).to_be_hidden()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("connection-limit", "full"),
        ("host-disconnected", "host"),
        ("revoked", "lock"),
        ("machine-locked", "lock"),
        ("machine-inaccessible", "host"),
        ("denied", "link"),
        ("idle-timeout", "time"),
        ("certificate-mismatch", "broken"),
    ],
)
def test_each_kind_of_end_has_its_sign(stage, reason, kind):
    screen = stage.open(end=(reason, ""))
    screen.wait_until("ended")
    expect(screen.find("#sign")).to_have_attribute("data-kind", kind)
    expect(screen.find("#spinner")).to_be_hidden()
    expect(screen.find("#who")).to_have_text("web-1")
    expect(screen.find("#who-id")).to_have_text(ID)
