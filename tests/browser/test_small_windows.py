"""Nothing is cut, covered or out of reach where the window is small or the page is zoomed.

Zoom is a window of fewer CSS pixels, each of which is more of the screen: 1280 by 800 at 200 % are
640 by 400, and 1280 by 1024 at 400 % are 320 by 256 (WCAG 1.4.4, 1.4.10). French words are the
longest.
"""

from __future__ import annotations

import functools

import pytest

from .states import STATES, Stage

ZOOMED = ((640, 400), (320, 640), (320, 480), (320, 256))
PHONE = ((320, 568), (568, 320))
CUT = """async () => {
    const tools = document.getElementById("tools");
    for (let moves; (moves = tools?.getAnimations() ?? []).length; ) {
        await Promise.allSettled(moves.map(({ finished }) => finished));
    }
    const found = [];
    const scroller = (element) => {
        for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) {
            const { overflowX, overflowY } = getComputedStyle(up);
            if (/auto|scroll/.test(overflowX + overflowY)) return up;
        }
        return null;
    };
    const isOut = ({ left, top, right, bottom }) =>
        left < -0.5 || top < -0.5 || right > innerWidth + 0.5 || bottom > innerHeight + 0.5;
    const controls = "button, select, textarea, input";
    const texts = "p, dd, dt, h1, label, .title, .badge, .notice, .round-trip";
    for (const element of document.querySelectorAll(`${controls}, ${texts}`)) {
        const tell = (what) =>
            found.push(`${element.id || element.className || element.textContent}: ${what}`);
        const visible = { visibilityProperty: true, opacityProperty: true };
        if (!element.checkVisibility(visible)) continue;
        let box = element.getBoundingClientRect();
        if (box.width <= 1) continue; // for screen readers
        const holder = scroller(element);
        if (holder) {
            if (isOut(holder.getBoundingClientRect())) tell("in what scrolls, out of the window");
            if (holder.scrollWidth > holder.clientWidth + 1) tell("in what scrolls sideways");
            element.scrollIntoView({ block: "nearest", inline: "nearest" });
            box = element.getBoundingClientRect();
        }
        if (isOut(box)) tell("out of the window");
        const { overflowX, overflowY } = getComputedStyle(element);
        // A name that is too long has its whole text as its title; what is typed is typed on.
        const isWhole = element.title || element.ariaHidden;
        if (!isWhole && element.scrollWidth > element.clientWidth + 1 && overflowX !== "visible") {
            tell("cut sideways");
        }
        const isTall = element.scrollHeight > element.clientHeight + 1;
        if (!isWhole && isTall && /hid|clip/.test(overflowY)) tell("cut below");
        if (!element.matches(controls)) continue;
        if (element.localName === "button" && element.scrollWidth > element.clientWidth + 1) {
            tell("wider than itself");
        }
        const at = document.elementFromPoint(
            (box.left + box.right) / 2, (box.top + box.bottom) / 2,
        );
        const isHit = element.contains(at) || at?.contains(element);
        if (!isHit && !element.labels?.[0]?.contains(at)) tell(`under ${at?.id || at?.className}`);
    }
    return found;
}"""


def cut(screen, width, height):
    screen.page.set_viewport_size({"width": width, "height": height})
    # What a change of size brings comes with the next frames.
    screen.page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    return screen.page.evaluate(CUT)


@pytest.mark.parametrize("locale", ["en-US", "fr-FR"])
@pytest.mark.parametrize("state", STATES)
def test_a_page_that_is_zoomed_is_whole(fake, new_screen, state, locale):
    zoomed = functools.partial(new_screen, locale=locale, device_scale_factor=2)
    screen = STATES[state](Stage(fake, zoomed))
    screen.find("#who").evaluate("(who) => who.append(' a name of many words')")
    told = {size: cut(screen, *size) for size in ZOOMED}
    assert told == {size: [] for size in ZOOMED}


@pytest.mark.parametrize("state", STATES)
def test_so_it_is_on_a_phone_held_either_way(fake, new_screen, state):
    phone = functools.partial(
        new_screen,
        locale="fr-FR",
        viewport={"width": 320, "height": 568},
        has_touch=True,
        is_mobile=True,
    )
    screen = STATES[state](Stage(fake, phone))
    told = {size: cut(screen, *size) for size in PHONE}
    assert told == {size: [] for size in PHONE}


def test_the_check_sees_what_is_cut(fake, new_screen):
    screen = STATES["keys"](Stage(fake, new_screen))
    assert cut(screen, 320, 256) == []
    screen.find("#combo-menu").evaluate("(menu) => (menu.style.maxHeight = 'none')")
    assert cut(screen, 320, 256) != []
