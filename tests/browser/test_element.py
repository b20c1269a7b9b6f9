"""``<mks-console>`` in a page of another origin: the one that the documentation shows."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from mksfilter.simulator.client import WEB_1

from .fake_server import Dashboard

DOCUMENT = Path(__file__).parents[2] / "docs" / "embedding.md"
_WATCH = """
  window.seen = [];
for (const type of ["state", "power", "name", "typed", "leave"]) {
    element.addEventListener(type, ({ detail }) => window.seen.push([type, detail]));
}
"""


@pytest.fixture
def element(proxy_factory, vsphere, dashboard: Dashboard, new_screen):
    """The page of the documentation, at the dashboard, with web-1's console open."""
    proxy = proxy_factory(allowed_origins=dashboard.origin)
    page = re.search(r"```html\n(.*?)```", DOCUMENT.read_text(), re.S)[1]
    assert len(page.splitlines()) <= 10
    origin = f"http://127.0.0.1:{proxy.port}"
    page = page.replace("https://console.example.com", origin)
    page = page.replace("CONSOLE-LINK", proxy.page_url(proxy.token(WEB_1)))
    # All that the documentation says a policy needs, and the page's own inline script.
    policy = (
        "default-src 'none'; img-src data:; "
        f"script-src 'unsafe-inline' {origin}; connect-src {origin} ws://127.0.0.1:{proxy.port}"
    )
    page = page.replace("<title>", "<link rel=icon href=data:,><title>")
    page = page.replace("  element.connect", f"{_WATCH}  element.connect")
    screen = new_screen(dashboard.show(page, policy))
    screen.page.wait_for_function("() => document.title === 'connected'", timeout=20_000)
    return screen


def test_ten_lines_show_a_console_in_a_dashboard(element, vsphere):
    screen, page = element, element.page

    def call(script, *args):
        element = "document.querySelector('mks-console')"
        return page.evaluate(f"async (args) => {{ const element = {element}; {script} }}", args)

    assert call("return [element.state, element.powerState, element.viewOnly]") == [
        "connected",
        "on",
        False,
    ]
    page.wait_for_function("() => document.querySelector('mks-console').name === 'web-1'")
    # By keyboard, as text, and as chords.
    page.locator("mks-console").click()
    screen.type("Typed.")
    assert any("Typed." in line for line in vsphere.screen("web-1", text="Typed."))
    call("element.layout = 'us'")
    done = call("return element.sendText('Text: ~#')")
    assert done == {"typed": 8, "total": 8, "why": "done"}
    assert any("Text: ~#" in line for line in vsphere.screen("web-1", text="Text: ~#"))
    refused = call(
        "return element.sendText('x\\u20ac').catch((error) => [error.name, error.message])"
    )
    assert refused == ["RangeError", "not on the keyboard us: €"]
    before = len(vsphere.keys("web-1"))
    call("element.sendKeys('ControlLeft', 'AltLeft', 'Delete')")
    keys = [(key, down) for key, down in vsphere.keys("web-1", count=before + 6)[before:]]
    assert [down for _, down in keys] == [True] * 3 + [False] * 3
    assert [key for key, _ in keys[:3]] == [key for key, _ in reversed(keys[3:])]
    named = call("try { element.sendKeys('Nothing') } catch (error) { return error.message }")
    assert named == "no key Nothing"
    png = call(
        """const bytes = new Uint8Array(await (await element.screenshot()).arrayBuffer());
        return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))"""
    )
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    assert picture.format == "PNG"
    assert any(low != high for low, high in picture.convert("RGB").getextrema())
    page.keyboard.press("Control+Alt+Shift")
    page.wait_for_function("() => window.seen.some(([type]) => type === 'leave')")
    assert call("return element.shadowRoot.activeElement === null") is True
    assert screen.complaints == []
    assert screen.violations() == []


def test_its_page_hears_of_power_and_of_the_end(element, vsphere):
    page = element.page
    vsphere.power_off("web-1")
    page.wait_for_function(
        "() => document.querySelector('mks-console').powerState === 'off'", timeout=20_000
    )
    state = page.evaluate("window.seen.filter(([type]) => type === 'state').at(-1)[1]")
    assert state["reason"] == "powered-off"
    assert "powered off" in state["message"]
    page.evaluate("document.querySelector('mks-console').remove()")
    page.wait_for_function("() => document.title === 'ended'")


def test_a_site_that_is_not_allowed_cannot_load_it(proxy_factory, dashboard, new_screen):
    proxy = proxy_factory()
    script = f"http://127.0.0.1:{proxy.port}/static/v1/mks-console.js"
    screen = new_screen(
        dashboard.show(f"<link rel=icon href=data:,><script type=module src={script}></script>")
    )
    screen.wait_for_complaint("CORS policy")
    assert screen.page.evaluate("customElements.get('mks-console') === undefined")
