"""The page in Firefox: what is shown, keys, text, a reload, on a simulated ESXi host."""

from __future__ import annotations

import json

import pytest

from mksfilter.simulator.screen.xkb import Guest
from tests.support.firefox import firefox
from tests.support.keyboards import LAYOUTS, levels

from .test_keys import PRESS

CONTROL, SHIFT, ALT = "\ue009", "\ue008", "\ue00a"


@pytest.fixture
def open_page(proxy, vsphere, tmp_path):
    """A console in Firefox, drawn."""
    with firefox(tmp_path) as browser:
        browser.open(proxy.page_url(proxy.token(vsphere.vm("web-1")["uuid"])))
        browser.wait_for("document.body.dataset.state === 'connected'")
        yield browser


@pytest.mark.timeout(240)
def test_keys_and_text_arrive_from_firefox_and_its_console_survives_a_reload(open_page, vsphere):
    browser = open_page
    for character in "it works":
        browser.press(character)
    browser.press(SHIFT, "A")
    assert vsphere.shows("web-1", "it worksA")

    seen = len(vsphere.keys("web-1"))
    for layout in ("de", "pl", "jp"):
        keys = list(levels(layout))
        browser.evaluate(f"({PRESS})({json.dumps(keys)})")
        events = sum(2 + 2 * shift + 2 * altgr for _, shift, altgr, _ in keys)
        strokes = vsphere.keys("web-1", count=seen + events, timeout=20)[seen:]
        seen += events
        guest = Guest(LAYOUTS[layout])
        guest.read(strokes)
        assert guest.text == "".join(character for *_, character in keys), layout

    vsphere.set_vm("web-1", layout="de")
    browser.press(CONTROL, ALT, SHIFT)
    browser.wait_for(
        "document.getElementById('tools').checkVisibility({ visibilityProperty: true })"
    )
    seen = len(vsphere.keys("web-1", count=seen + 4))
    text = "Zy!x-Q@7#kÖ|~\\€Ypz&(8)=ß"
    browser.evaluate(
        f"""(() => {{
            const byId = (id) => document.getElementById(id);
            byId("paste").click();
            byId("layout").value = "de";
            byId("layout").dispatchEvent(new Event("change"));
            byId("paste-text").value = {json.dumps(text)};
            byId("paste-text").dispatchEvent(new Event("input"));
            byId("paste-send").click();
        }})()"""
    )
    browser.wait_for("document.getElementById('paste-dialog').hidden")
    guest = Guest("de")
    guest.read(vsphere.keys("web-1")[seen:])
    assert guest.text == text

    # Its console survives a reload and a power cycle, here too: the key is kept by Firefox.
    is_open = "document.body.dataset.state === 'connected'"
    browser.reload()
    browser.wait_for(is_open)
    vsphere.power_off("web-1")
    browser.wait_for("document.body.textContent.includes('Powered off. I open it when it starts.')")
    vsphere.power_on("web-1")
    browser.wait_for(is_open)
    assert len(vsphere.connections("web-1", count=1)) == 1
    assert browser.complaints == []
