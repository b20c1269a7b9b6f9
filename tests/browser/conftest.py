"""A real Chromium, and pages that tell what went wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright import sync_api as playwright_api

import mksfilter.proxy.web

from .fake_server import Dashboard, FakeServer
from .screen import Screen

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[playwright_api.Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.fail("Chromium is missing; run tools/install-test-tools")
    if not (Path(mksfilter.proxy.web.__file__).parent / "static/novnc/console.js").exists():
        pytest.fail("the page is not built; run tools/build-page")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def new_screen(
    chromium: playwright_api.Browser, new_fake: object
) -> Iterator[Callable[..., Screen]]:
    """Opens a URL in a fresh browser profile; keyword arguments go to the browser context.

    ``has_clock``: with a clock that its test stops.

    Depends on ``new_fake`` so that browsers leave before servers do.
    """
    contexts = []

    def open_screen(url: str, *, has_clock: bool = False, **options: object) -> Screen:
        options.setdefault("ignore_https_errors", True)
        context = chromium.new_context(**options)
        contexts.append(context)
        screen = Screen(context.new_page())
        if has_clock:
            screen.take_clock()
        screen.page.goto(url)
        return screen

    yield open_screen
    for context in contexts:
        context.close()


@pytest.fixture
def new_fake() -> Iterator[Callable[..., FakeServer]]:
    """Starts a fake server for the proxy; keyword arguments are :class:`.FakeServer`'s."""
    servers = []

    def start(**options: str) -> FakeServer:
        servers.append(FakeServer(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def fake(new_fake: Callable[..., FakeServer]) -> FakeServer:
    return new_fake()


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    """Another site, which shows the page in a frame."""
    site = Dashboard()
    yield site
    site.close()
