"""A page meets a console server of another release: it goes on, or says to reload, and no console
is lost. Two builds of the page, whose parts do not fit each other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.source import ROOT

RELOAD = "Reload it."
BROKEN = "The console page could not be loaded"


@pytest.fixture(scope="module")
def next_release(tmp_path_factory) -> Path:
    """What ``mksfilter/proxy/web`` is in a release that calls everything otherwise."""
    tree = tmp_path_factory.mktemp("next")
    for folder in ("tools", "page/src"):
        shutil.copytree(ROOT / folder, tree / folder)
    for path in [*(ROOT / "page").glob("*.js"), *(ROOT / "page").glob("*.json")]:
        shutil.copy2(path, tree / "page")
    (tree / "page" / "node_modules").symlink_to(ROOT / "page" / "node_modules")
    package = tree / "mksfilter"
    web = package / "proxy" / "web"
    web.mkdir(parents=True)
    for name in ("__init__.py", "exceptions.py"):
        shutil.copy2(ROOT / "mksfilter" / name, package / name)
    shutil.copytree(ROOT / "mksfilter/proxy/web/templates", web / "templates")
    built = shutil.ignore_patterns("novnc", "v1")
    shutil.copytree(ROOT / "mksfilter/proxy/web/static", web / "static", ignore=built)
    source = tree / "page" / "src"
    for before, after in (("textStrip", "stripForText"), ("opening", "firstOpening")):
        for path in source.glob("*.js"):
            path.write_text(path.read_text().replace(before, after))
    subprocess.run([tree / "tools" / "build-page"], check=True, timeout=60)
    return web


@pytest.fixture
def console(fake, new_screen):
    """A console before the fake server, whose page could not load the strip for text yet."""
    fake.others = {"strip.js": None}
    screen = new_screen(f"{fake.url}?token=token")
    connection = fake.next_connection()
    screen.wait_until("connected")
    screen.wait_for_picture()
    fake.others = {}
    return screen, connection


def open_strip(screen):
    screen.open_bar()
    screen.find("#paste").click()


@pytest.mark.parametrize("old_files", ["answered by the new ones", "gone"])
def test_a_page_that_is_open_goes_on_and_says_when_it_has_to_be_reloaded(
    console, fake, next_release, old_files
):
    screen, connection = console
    fake.root = next_release
    if old_files == "gone":
        fake.others = {"strip.js": None}
    connection.drop()
    again = fake.next_connection()
    assert again.token == "resume-1"
    screen.wait_until("connected")
    screen.page.keyboard.press("a")
    again.next_keys(2)

    open_strip(screen)
    expect(screen.find("#hint")).to_contain_text(RELOAD)
    expect(screen.find("#paste-dialog")).to_be_hidden()
    screen.page.keyboard.press("Escape")
    screen.page.keyboard.press("b")
    again.next_keys(2)
    assert again.closed.is_set() is False

    fake.others = {}
    screen.page.reload()
    assert fake.next_connection().token.startswith("resume-")
    screen.wait_until("connected")
    open_strip(screen)
    expect(screen.find("#paste-text")).to_be_focused()


def test_what_was_loaded_before_the_upgrade_works_after_it(fake, new_screen, next_release):
    screen = new_screen(f"{fake.url}?token=token")
    connection = fake.next_connection()
    screen.wait_until("connected")
    open_strip(screen)
    expect(screen.find("#paste-text")).to_be_focused()
    screen.page.keyboard.press("Escape")
    fake.root = next_release
    connection.drop()
    again = fake.next_connection()
    screen.wait_until("connected")
    open_strip(screen)
    screen.find("#paste-text").fill("ab")
    screen.find("#paste-send").click()
    again.next_keys(4)
    assert screen.complaints == []


def test_a_page_of_two_releases_loads_itself_anew_once_and_has_its_console(
    fake, new_screen, next_release
):
    """Nodes of both answer while they are upgraded one by one."""

    class ForTheFirstPage(dict):
        def get(self, name, default):
            return super().get(name, default) if fake.pages < 2 else default

    fake.root, fake.others = next_release, ForTheFirstPage({"first.js": fake.root})
    screen = new_screen(f"{fake.url}?token=token")
    assert fake.next_connection().token == "token"
    assert fake.next_connection().token == "resume-1"
    screen.wait_until("connected")
    screen.wait_for_picture()
    assert fake.pages == 2


def test_where_the_releases_stay_mixed_it_says_so_and_offers_to_reload(
    fake, new_screen, next_release
):
    fake.root, fake.others = next_release, {"first.js": fake.root}
    screen = new_screen(f"{fake.url}?token=token")
    screen.wait_for_words(BROKEN)
    screen.page.wait_for_timeout(1_000)
    assert fake.pages == 2, "a loop"
    fake.others = {}
    screen.button("Reload").click()
    screen.wait_until("connected")
    screen.wait_for_picture()
    assert fake.pages == 3
    tokens = [fake.next_connection().token for _ in range(3)]
    assert tokens == ["token", "resume-1", "resume-2"]
