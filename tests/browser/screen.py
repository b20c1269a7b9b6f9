"""The console page as the person in front of it meets it."""

from __future__ import annotations

import base64
import io
import os
import re
import time

from PIL import Image
from playwright.sync_api import ConsoleMessage, Frame, Locator, Page, expect

__all__ = ["Screen"]

_WATCH = """
window.states = [];
new MutationObserver(() => window.states.push(document.body.dataset.state))
    .observe(document, {subtree: true, attributeFilter: ["data-state"]});
window.policyViolations = [];
document.addEventListener("securitypolicyviolation", (event) =>
    window.policyViolations.push(`${event.violatedDirective}: ${event.blockedURI}`));
window.keys = [];
const generate = SubtleCrypto.prototype.generateKey;
SubtleCrypto.prototype.generateKey = async function (...args) {
    const pair = await generate.apply(this, args);
    window.keys.push(pair.privateKey);
    return pair;
};
"""
# The live picture; `.still` is the last one, kept while the page reconnects.
_CANVAS = "#stage canvas:not(.still)"
_TIMEOUT = 20_000


class Screen:
    """A page and what it complained about.

    :ivar complaints: errors and warnings of the browser's console, and uncaught exceptions.
    :ivar view: where the console is: the page itself, or a frame in it.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.view: Page | Frame = page
        self.complaints: list[str] = []
        self._states_seen = 0
        self._has_clock = False
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.add_init_script(_WATCH)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def find(self, selector: str) -> Locator:
        return self.view.locator(selector)

    def button(self, name: str) -> Locator:
        return self.view.get_by_role("button", name=name, exact=True)

    def wait_until(self, state: str) -> None:
        """Wait for ``connecting``, ``connected``, ``waiting`` or ``ended``.

        A state that has come and gone since the last call counts, however short it was.
        """
        seen = self.view.wait_for_function(
            """([state, seen]) => {
                const at = window.states.indexOf(state, seen);
                if (at >= 0) return at + 1;
                return document.body?.dataset.state === state && Math.max(seen, 1);
            }""",
            arg=[state, self._states_seen],
            timeout=_TIMEOUT,
        )
        self._states_seen = seen.json_value()

    def wait_for_words(self, words: str | re.Pattern[str]) -> None:
        """Wait until the card in the middle says *words*."""
        expect(self.find("#card")).to_contain_text(words, timeout=_TIMEOUT)

    def wait_for_picture(self) -> Image.Image:
        """The framebuffer, as soon as it is not one plain colour."""
        deadline = time.monotonic() + _TIMEOUT / 1000
        while time.monotonic() < deadline:
            picture = self.picture()
            if picture is not None and any(low != high for low, high in picture.getextrema()):
                return picture
        raise AssertionError("the canvas stayed blank")

    def picture(self) -> Image.Image | None:
        """What is drawn, pixel for pixel and unscaled; None without a canvas."""
        url = self.view.evaluate(
            """(selector) => {
                const canvas = document.querySelector(selector);
                return canvas?.width && canvas.height ? canvas.toDataURL() : null;
            }""",
            _CANVAS,
        )
        if url is None:
            return None
        return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")

    def keep(self, name: str) -> None:
        """For the eye: the window as a file, where ``MKSFILTER_SCREENSHOTS`` names a directory."""
        directory = os.environ.get("MKSFILTER_SCREENSHOTS")
        if directory:
            self.page.screenshot(path=os.path.join(directory, f"{name}.png"))

    def size(self) -> tuple[int, int]:
        """The picture's size in the window, in CSS pixels."""
        box = self.find(_CANVAS).bounding_box()
        return round(box["width"]), round(box["height"])

    def take_clock(self) -> None:
        """Before the page is opened: all its timers keep to the clock that can be stopped."""
        self.page.clock.install(time=0)
        self._has_clock = True

    def stop_clock(self) -> None:
        """From now on the page's timers go off only in :meth:`pass_time`.

        Without :meth:`take_clock` before, those that it has made by now go on.
        """
        if self._has_clock:
            # Some of the page's own time may pass until it stops.
            self.page.clock.pause_at(self.page.evaluate("Date.now()") / 1000 + 1)
        else:
            self.page.clock.install(time=0)
            self.page.clock.pause_at(1)

    def pass_time(self, seconds: float) -> None:
        self.page.clock.run_for(round(seconds * 1000))

    def enter_frame(self) -> None:
        """Look at the page inside the dashboard from now on."""
        self.view = self.page.locator("iframe").element_handle().content_frame()

    def wait_for_complaint(self, words: str) -> None:
        deadline = time.monotonic() + _TIMEOUT / 1000
        while not any(words in complaint for complaint in self.complaints):
            assert time.monotonic() < deadline, f"no complaint of {words!r}: {self.complaints}"
            # Playwright hears of events while it waits for something.
            self.page.wait_for_timeout(20)

    def violations(self) -> list[str]:
        """What the Content-Security-Policy stopped."""
        return self.view.evaluate("window.policyViolations")

    def type(self, text: str) -> None:
        """Press the keys of *text* on a US keyboard, Shift too where it takes that."""
        for character in text:
            shift = character.isupper() or character in '~!@#$%^&*()_+{}|:"<>?'
            self.page.keyboard.press(f"Shift+{character}" if shift else character)

    def open_strip(self) -> None:
        """The strip for text, by the tool bar."""
        self.open_bar()
        self.find("#paste").click()
        expect(self.find("#paste-text")).to_be_focused()

    def open_bar(self) -> None:
        """By keyboard, as the page's own hint says."""
        self.page.keyboard.press("Control+Alt+Shift")
        expect(self.find("#tools")).to_be_visible()

    def focused(self) -> str:
        """The text of the focused element, else its tag name."""
        return self.view.evaluate(
            "document.activeElement.innerText?.trim() || document.activeElement.localName"
        )
