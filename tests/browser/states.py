"""Every state of the console page, and how it comes to it: for tests of its looks and for the
pictures of ``docs/page-states.md`` (``tools/page-pictures``)."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from playwright.sync_api import expect

from .fake_server import Connection, FakeServer, Plan
from .screen import Screen

__all__ = ["ID", "STATES", "Stage"]

ID = "4c7a52f0-8d1e-4a0e-9a39-2f1f4f7f9a10"


class Stage:
    """A fake server and a browser in front of it.

    :param new_screen: opens a URL in a fresh window.
    """

    def __init__(
        self, fake: FakeServer, new_screen: Callable[..., Screen], picture: bytes = b""
    ) -> None:
        self.fake = fake
        self._new_screen = new_screen
        self._picture = picture

    def open(self, **plan: object) -> Screen:
        """The page in front of a console as *plan* has it."""
        self.fake.down = False
        self.fake.plans[:] = [Plan(picture=self._picture, **plan)]
        return self._new_screen(f"{self.fake.url}?token=token&title=web-1({ID})")

    def console(self, **plan: object) -> tuple[Screen, Connection]:
        """One that is open and drawn."""
        screen = self.open(**plan)
        connection = self.fake.next_connection()
        screen.wait_until("connected")
        screen.wait_for_picture()
        return screen, connection

    def bar(self, **plan: object) -> Screen:
        """One with its tool bar open."""
        screen, _ = self.console(**plan)
        screen.page.keyboard.press("Control+Alt+Shift")
        expect(screen.find("#tools")).to_be_visible()
        return screen


def _connecting(stage: Stage) -> Screen:
    screen = stage.open(greeting=b"")
    screen.wait_until("connecting")
    expect(screen.find("#heading")).not_to_be_empty()
    return screen


def _keys(stage: Stage) -> Screen:
    screen = stage.bar()
    screen.find("#combos").click()
    expect(screen.find("#combo-menu")).to_be_visible()
    return screen


def _about(stage: Stage) -> Screen:
    screen = stage.bar()
    screen.find("#about").click()
    expect(screen.find("#about-panel")).to_be_visible()
    return screen


def _text(stage: Stage) -> Screen:
    screen = stage.bar()
    screen.find("#paste").click()
    screen.find("#paste-text").fill("apt-get install \N{SNOWMAN} openssh-server\n")
    return screen


def _view_only(stage: Stage) -> Screen:
    screen, _ = stage.console(mode="view")
    expect(screen.find("#tools")).to_be_hidden(timeout=20_000)
    return screen


def _lifetime(stage: Stage) -> Screen:
    screen, connection = stage.console()
    connection.control(type="notice", notice="lifetime", **{"in": 290})
    screen.page.keyboard.press("Control+Alt+Shift")
    expect(screen.find("#notice")).to_be_visible()
    return screen


def _silent(stage: Stage) -> Screen:
    screen, connection = stage.console()
    screen.stop_clock()
    connection.control(type="hello", mode="full", resume="resume", beat=True)
    screen.page.wait_for_timeout(200)
    screen.pass_time(12)
    expect(screen.find("body")).to_have_attribute("data-silent", "")
    # It stays so: a page that nobody sees does not give up.
    screen.page.evaluate("Object.defineProperty(document, 'visibilityState', { value: 'hidden' })")
    screen.page.clock.resume()
    return screen


QUESTION = "There is no more space for virtual disk web-1.vmdk. Retry, or cancel?"


def _asks(stage: Stage) -> Screen:
    screen, connection = stage.console()
    connection.control(type="notice", notice="question", text=QUESTION)
    expect(screen.find("#question")).to_contain_text(QUESTION)
    expect(screen.find("#tools")).to_be_hidden(timeout=20_000)
    return screen


def _reconnecting(stage: Stage) -> Screen:
    screen, connection = stage.console()
    stage.fake.down = True
    connection.drop()
    screen.wait_until("waiting")
    return screen


def _disconnected(stage: Stage) -> Screen:
    screen = stage.bar()
    screen.find("#disconnect").click()
    screen.wait_until("ended")
    return screen


def _no_link(stage: Stage) -> Screen:
    screen = stage._new_screen(stage.fake.url)
    expect(screen.find("#heading")).not_to_be_empty()
    return screen


def _not_accepted(stage: Stage) -> Screen:
    screen = stage.open(refuse=HTTPStatus.FORBIDDEN)
    screen.wait_until("ended")
    return screen


def _end(reason: str, state: str = "ended", question: str = "") -> Callable[[Stage], Screen]:
    def show(stage: Stage) -> Screen:
        # It would ask again, and have a console, while somebody looks.
        more = {"after": 3600} if state == "waiting" else {}
        screen = stage.open(end=(reason, ""), question=question, more=more)
        screen.wait_until(state)
        return screen

    return show


#: By name; each brings a new page there.
STATES: dict[str, Callable[[Stage], Screen]] = {
    "connecting": _connecting,
    "connected": lambda stage: stage.bar(),
    "keys": _keys,
    "who-and-where": _about,
    "text": _text,
    "view-only": _view_only,
    "time-limit": _lifetime,
    "no-answer": _silent,
    "question": _asks,
    "reconnecting": _reconnecting,
    "powered-off": _end("powered-off", "waiting"),
    "question-pending": _end("question-pending", "waiting", QUESTION),
    "failing-over": _end("failing-over", "waiting"),
    "machine-locked": _end("machine-locked"),
    "machine-inaccessible": _end("machine-inaccessible"),
    "connection-limit": _end("connection-limit"),
    "host-disconnected": _end("host-disconnected"),
    "access-withdrawn": _end("revoked"),
    "not-accepted": _not_accepted,
    "disconnected": _disconnected,
    "no-link": _no_link,
}
