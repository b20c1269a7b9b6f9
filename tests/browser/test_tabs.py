"""One console, one tab: reloads, second tabs, other browsers, and a node that is replaced."""

from __future__ import annotations

import pytest

from mksfilter.simulator.client import WEB_1
from tests.support.wire import Wire

from .screen import Screen

ELSEWHERE = "This console is open elsewhere"
_STORED = "Object.values(sessionStorage).map((text) => JSON.parse(text))"
_KEYS = """() => new Promise((done) => {
    indexedDB.open("mksfilter").onsuccess = ({target}) => {
        target.result.transaction("keys").objectStore("keys").getAll().onsuccess = (found) => {
            target.result.close();
            done(found.target.result.map(({pair}) => pair.privateKey.extractable));
        };
    };
})"""
_NO_STORAGE = """
for (const name of ["sessionStorage", "localStorage", "indexedDB"]) {
    Object.defineProperty(window, name, {get() { throw new DOMException("denied"); }});
}
"""


def another_tab(screen, url):
    """In the same browser."""
    tab = Screen(screen.page.context.new_page())
    tab.page.goto(url)
    return tab


def reload(screen):
    screen.page.reload()
    screen._states_seen = 0
    screen.wait_until("connected")
    screen.wait_for_picture()


def test_a_reload_does_not_lose_the_console(proxy_factory, vsphere, new_screen):
    proxy = proxy_factory(replay_cache="local", max_sessions_per_user=1)
    screen = new_screen(proxy.page_url(proxy.token(WEB_1, user_id="u")))
    dialogs = []
    screen.page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.accept()))
    screen.wait_until("connected")
    screen.page.wait_for_function(f"({_STORED})[0]?.resumes")
    screen.page.keyboard.type("1")
    assert vsphere.shows("web-1", "1")
    for number in ("2", "3"):
        reload(screen)
        screen.page.keyboard.type(number)
        assert vsphere.shows("web-1", number)
    assert len(vsphere.connections("web-1", count=1)) == 1
    # What is kept is a token that is bound to the key, and a key that no script can read.
    (kept,) = screen.page.evaluate(_STORED)
    claims = proxy.codec.verify(kept["token"], uses=("resume",))
    assert claims.cnf
    assert set(screen.page.evaluate(_KEYS)) == {False}
    assert "token" not in screen.page.url
    # A machine that is off when the page is loaded anew is waited for.
    vsphere.power_off("web-1")
    screen.wait_for_words("Powered off.")
    screen.page.reload()
    screen._states_seen = 0
    screen.wait_for_words("Powered off.")
    vsphere.power_on("web-1")
    screen.wait_until("connected")
    # What is over is forgotten.
    vsphere.delete("web-1")
    vsphere.drop("web-1")
    screen.wait_until("ended")
    screen.page.reload()
    screen.wait_for_words("This console link has been used up")
    assert screen.page.evaluate(_STORED) == []
    assert dialogs == []


def test_where_nothing_may_be_kept_a_question_comes_before_the_tab_closes(
    proxy, vsphere, new_screen
):
    screen = new_screen("about:blank")
    screen.page.add_init_script(_NO_STORAGE)
    screen.page.goto(proxy.page_url(proxy.token(WEB_1)))
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.page.keyboard.type("x")
    assert vsphere.shows("web-1", "x")
    with screen.page.expect_event("dialog") as asked:
        screen.page.close(run_before_unload=True)
    assert asked.value.type == "beforeunload"
    asked.value.dismiss()
    screen.page.keyboard.type("y")
    assert vsphere.shows("web-1", "xy")
    # A cut costs nothing: what is in the page's memory is enough for that.
    vsphere.drop("web-1")
    screen.wait_until("waiting")
    screen.wait_until("connected")


def test_two_tabs_settle_which_has_the_console_of_a_machine_that_allows_one(
    proxy, vsphere, new_screen
):
    vsphere.set_vm("web-1", max_connections=1)
    first = new_screen(proxy.page_url(proxy.token(WEB_1)))
    first.wait_until("connected")
    second = another_tab(first, proxy.page_url(proxy.token(WEB_1)))
    second.wait_until("connected")
    first.wait_until("ended")
    first.wait_for_words(ELSEWHERE)
    first.wait_for_words("another tab")
    for has, wants in ((second, first), (first, second)):
        wants.button("Take it back here").click()
        wants.wait_until("connected")
        has.wait_until("ended")
        has.wait_for_words(ELSEWHERE)
    # It stays so: nobody takes it back unasked.
    second.page.wait_for_timeout(3_000)
    assert second.find("body").get_attribute("data-state") == "connected"
    assert first.find("body").get_attribute("data-state") == "ended"
    assert len(vsphere.connections("web-1", count=1)) == 1
    # Another machine is another matter, and so is another user.
    third = another_tab(first, proxy.page_url(proxy.token(vsphere.vm("db-1")["uuid"])))
    third.wait_until("connected")
    assert second.find("body").get_attribute("data-state") == "connected"
    second.page.close()
    first.button("Take it back here").click()
    first.wait_until("connected")


@pytest.mark.timeout(240)
def test_two_browsers_settle_it_by_what_the_proxy_says(proxy_factory, vsphere, new_screen):
    proxy = proxy_factory(take_over="drop")
    vsphere.set_vm("web-1", max_connections=1)
    first = new_screen(proxy.page_url(proxy.token(WEB_1)))
    first.wait_until("connected")
    second = new_screen(proxy.page_url(proxy.token(WEB_1)))
    second.wait_until("connected")
    first.wait_for_words(ELSEWHERE)
    first.wait_for_words("Another console of this machine is open")
    assert second.page.evaluate("document.body.dataset.state") == "connected"
    first.button("Take it back here").click()
    first.wait_until("connected")
    second.wait_for_words(ELSEWHERE)
    assert first.page.evaluate("document.body.dataset.state") == "connected"
    assert len(vsphere.connections("web-1", count=1)) == 1


def test_a_node_that_is_replaced_is_followed_and_so_is_a_newer_page(
    proxy_factory, vsphere, new_screen
):
    node = proxy_factory()
    wire = Wire(node.port)
    try:
        screen = new_screen(f"http://127.0.0.1:{wire.port}/?token={node.token(WEB_1)}")
        screen.wait_until("connected")
        screen.wait_for_picture()
        another = proxy_factory(key_repository=node.directory / "keys")
        wire.target = another.port
        node.stop()
        screen.wait_until("waiting")
        screen.wait_until("connected")
        screen.page.keyboard.type("here")
        assert vsphere.shows("web-1", "here")
        reload(screen)
        assert len(vsphere.connections("web-1", count=1)) == 1
    finally:
        wire.stop()
