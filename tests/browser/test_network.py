"""A network that stops carrying, behind a page that would look connected for minutes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from mksfilter.simulator.client import WEB_1
from tests.support.wire import Wire


@pytest.fixture
def wire(proxy):
    """Between the browser and the proxy."""
    wire = Wire(proxy.port)
    yield wire
    wire.stop()


def test_silence_is_told_and_the_console_comes_back(proxy, vsphere, wire, new_screen):
    screen = new_screen(f"http://127.0.0.1:{wire.port}/?token={proxy.token(WEB_1)}")
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.open_bar()
    expect(screen.find("#round-trip")).to_have_text(re.compile(r"^\d+ ms$"))
    wire.silent = True
    screen.wait_for_words(re.compile(r"No answer for 1\d s"))
    expect(screen.find("body")).to_have_attribute("data-state", "connected")
    screen.wait_until("waiting")
    screen.wait_for_words("did not answer any more")
    wire.silent = False
    screen.wait_until("connected")
    screen.wait_for_picture()
    assert screen.complaints == []


def test_a_slow_network_is_told_by_its_round_trip(proxy, vsphere, wire, new_screen):
    wire.delay = 0.2
    screen = new_screen(f"http://127.0.0.1:{wire.port}/?token={proxy.token(WEB_1)}")
    screen.wait_until("connected")
    screen.open_bar()
    expect(screen.find("#round-trip")).to_have_attribute("data-quality", "poor", timeout=20_000)


def test_an_answer_that_comes_late_takes_the_words_away(proxy, vsphere, wire, new_screen):
    screen = new_screen(f"http://127.0.0.1:{wire.port}/?token={proxy.token(WEB_1)}")
    screen.wait_until("connected")
    screen.wait_for_picture()
    wire.silent = True
    screen.wait_for_words(re.compile(r"No answer for 1\d s"))
    wire.silent = False
    expect(screen.find("body")).not_to_have_attribute("data-silent", "")
    assert screen.page.evaluate("window.states.filter(s => s !== 'connected').length") <= 2
