"""The page speaks its reader's language: the catalogues by themselves, and in Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from playwright.sync_api import expect

from mksfilter.exceptions import ConsoleError
from tests.support.source import ROOT

from .fake_server import Plan

SOURCE = ROOT / "page" / "src"
MARKUP = ROOT / "mksfilter" / "proxy" / "web" / "templates" / "console.html"
OTHERS = sorted(path.stem for path in (SOURCE / "languages").glob("*.js") if path.stem != "en")

SCRIPT = """
const answer = {};
for (const language of JSON.parse(process.argv[1])) {
    const { default: texts } = await import(`./languages/${language}.js`);
    const plurals = new Intl.PluralRules(language).resolvedOptions().pluralCategories;
    answer[language] = { texts, plurals };
}
console.log(JSON.stringify(answer));
"""


@pytest.fixture(scope="module")
def catalogues():
    node = shutil.which("node") or pytest.fail("Node.js is missing; run tools/install-test-tools")
    done = subprocess.run(
        [node, "--input-type=module", "-e", SCRIPT, json.dumps(["en", *OTHERS])],
        cwd=SOURCE,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def forms(text):
    return [text] if isinstance(text, str) else [text[form] for form in text if form != "by"]


def facts(text):
    return set(re.findall(r"\{\w+\}", text))


def english_reasons(error=ConsoleError):
    """The words of each reason."""
    words = {error.reason: error.public}
    for special in error.__subclasses__():
        words = {**english_reasons(special), **words}
    return words


# --- the catalogues --------------------------------------------------------------------------


@pytest.mark.parametrize("language", OTHERS)
def test_each_language_has_exactly_english_s_texts_and_their_facts(catalogues, language):
    english, plurals = catalogues["en"]["texts"], catalogues[language]["plurals"]
    texts = catalogues[language]["texts"]
    assert {key for key in texts if not key.startswith("reason.")} == set(english)
    for key, text in english.items():
        other = texts[key]
        assert type(other) is type(text), key
        for form in forms(other):
            assert form, key
            assert facts(form) == facts(forms(text)[0]), key
        if not isinstance(text, str):
            assert set(other) == {"by", *plurals}, key
            assert other["by"] == text["by"]


def test_the_first_module_has_one_sentence_in_each_language():
    languages = re.findall(r"^    (\w\w): ", (SOURCE / "broken.js").read_text(), re.MULTILINE)
    assert sorted(languages) == sorted(["en", *OTHERS])


@pytest.mark.parametrize("language", OTHERS)
def test_each_reason_of_the_proxy_is_translated(catalogues, language):
    english = english_reasons()
    translated = {key.removeprefix("reason.") for key in catalogues[language]["texts"]}
    lacking = set(english.values()) - {english[reason] for reason in translated & set(english)}
    assert not lacking
    assert {f"reason.{reason}" for reason in translated & set(english)} == {
        key for key in catalogues[language]["texts"] if key.startswith("reason.")
    }


def test_every_text_is_used_and_no_other_is_asked_for(catalogues):
    sources = "\n".join(path.read_text() for path in SOURCE.glob("*.js")) + MARKUP.read_text()
    keys = set(catalogues["en"]["texts"])
    asked = set(re.findall(r'\bt\("([^"]+)"|data-t(?:-\w+)?="([^"]+)"', sources))
    assert {one or other for one, other in asked} <= keys
    quoted = set(re.findall(r"""["'`]([\w.-]+)["'`]""", sources))
    made = re.findall(r"`([\w.-]*)\$\{[^}]*\}([\w.-]*)`", sources)
    patterns = [re.escape(before) + r"[\w.-]+" + re.escape(after) for before, after in made]
    used = "|".join(pattern for pattern in patterns if pattern != r"[\w.-]+")
    assert not {key for key in keys - quoted - {"direction"} if not re.fullmatch(used, key)}


class Markup(HTMLParser):
    """Texts and attributes that people would read.

    A title stands in the tab until the page's script runs, and ``noscript`` where none does.
    """

    def __init__(self):
        super().__init__()
        self.strings = []
        self._inside = []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link", "input"):
            self._inside.append(tag)
        read = ("aria-label", "aria-description", "title", "placeholder", "alt", "label")
        self.strings += [value for name, value in attributes if name in read]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, text):
        if text.strip() and not {"title", "noscript"} & set(self._inside):
            self.strings.append(text.strip())


def test_no_text_stands_in_the_markup():
    markup = Markup()
    markup.feed(MARKUP.read_text())
    assert markup.strings == []


# --- in a browser ----------------------------------------------------------------------------


def document(screen):
    return screen.page.evaluate("[document.documentElement.lang, document.documentElement.dir]")


def test_the_browser_s_language_is_spoken(fake, new_screen):
    fake.plans.append(Plan(end=("certificate-mismatch", "Ask your cloud's operator.")))
    screen = new_screen(f"{fake.url}?token=token&title=web-1", locale="de-AT")
    screen.wait_for_words("Fragen Sie den Betreiber Ihrer Cloud.")
    assert document(screen) == ["de", "ltr"]
    assert screen.page.title() == "web-1 – Konsole"
    # A reason that the page does not know is told in the proxy's words.
    fake.plans.append(Plan(end=("eaten-by-a-grue", "The machine was eaten by a grue.")))
    screen.button("Noch einmal versuchen").click()
    screen.wait_for_words("Die Konsole konnte nicht geöffnet werden")
    screen.wait_for_words("The machine was eaten by a grue.")
    screen.button("Noch einmal versuchen").click()
    screen.wait_until("connected")
    screen.open_bar()
    expect(screen.find("#hint")).to_have_text("Pfeiltasten bewegen, Esc führt zurück zur Maschine")
    screen.button("Tasten").click()
    expect(screen.find("#combo-menu")).to_contain_text("Strg-Alt-F2")
    screen.page.keyboard.press("Escape")
    screen.button("Text eingeben").click()
    expect(screen.find("#layout option:checked")).to_have_text("Deutsch")
    screen.find("#paste-text").fill("a" * 1_234 + "☃")
    missing = "Nicht auf dieser Tastatur, wird ausgelassen"
    expect(screen.find("#paste-note")).to_have_text(f"{missing}: ☃")
    screen.find("#paste-mask").check()
    expect(screen.find("#paste-note")).to_have_text(f"{missing}: 1 der Zeichen")
    assert screen.violations() == []
    assert screen.complaints == []


@pytest.mark.parametrize(
    ("reason", "facts", "words"),
    [
        (
            "rate-limit",
            {"seconds": 7},
            "Zu viele Versuche. Wartezeit bis zum nächsten: 7 Sekunden.",
        ),
        ("idle-timeout", {"seconds": 1800}, "nicht benutzt wurde (Dauer: 30 Minuten)."),
        ("user-session-limit", {"limit": 1}, "Sie haben 1 Konsole offen, mehr sind nicht erlaubt."),
        ("user-session-limit", {"limit": 1000}, "Sie haben 1.000 Konsolen offen, mehr sind nicht"),
        ("node-session-limit", {"node": "<b>n1\u202e"}, "Der Konsolenserver <b>n1 ist voll."),
        # Without the fact, or with none that is one, the reason alone.
        ("rate-limit", {}, "Zu viele Versuche. Warten Sie einen Moment"),
        ("rate-limit", {"seconds": "<b>"}, "Zu viele Versuche. Warten Sie einen Moment"),
        ("user-session-limit", {"limit": -1}, "Sie haben zu viele Konsolen offen."),
        ("node-session-limit", {"node": 5}, "Dieser Konsolenserver ist voll."),
    ],
)
def test_facts_of_an_end_are_told_in_the_reader_s_language(fake, new_screen, reason, facts, words):
    fake.plans.append(Plan(end=(reason, "English"), more={"facts": facts}))
    screen = new_screen(f"{fake.url}?token=token", locale="de-DE")
    screen.wait_until("ended")
    screen.wait_for_words(words)
    assert screen.find("#card b").count() == 0
    assert screen.complaints == []


@pytest.mark.parametrize(
    ("asked", "spoken", "words"),
    [
        ("ja_JP", "ja", "コンソールを開けませんでした"),
        ("fr-CA", "fr", "La console n’a pas pu être ouverte"),
        ("ES", "es", "No se pudo abrir la consola"),
        # A language that there is none of leaves it to the browser, and so does what is no tag.
        ("zh-hans", "de", "Die Konsole konnte nicht geöffnet werden"),
        ("%22%3E%3Ci%3E", "de", "Die Konsole konnte nicht geöffnet werden"),
        ("ja-" + "x" * 5_000, "de", "Die Konsole konnte nicht geöffnet werden"),
        ("constructor", "de", "Die Konsole konnte nicht geöffnet werden"),
    ],
)
def test_the_dashboard_s_language_wins(fake, new_screen, asked, spoken, words):
    fake.plans.append(Plan(end=("denied", "")))
    screen = new_screen(f"{fake.url}?token=token&language={asked}", locale="de-DE")
    screen.wait_for_words(words)
    assert document(screen) == [spoken, "ltr"]
    assert "<i>" not in screen.page.url
    assert len(screen.page.url) < 100
    assert screen.complaints == []


def test_without_its_catalogue_the_page_is_in_english(fake, new_screen):
    fake.plans.append(Plan(end=("certificate-mismatch", "Ask your cloud's operator.")))
    screen = new_screen("about:blank", locale="de-DE")
    screen.page.route("**/novnc/de.js", lambda route: route.abort())
    screen.page.goto(f"{fake.url}?token=token")
    screen.wait_for_words("The console could not be opened")
    screen.wait_for_words("Ask your cloud's operator.")
    assert document(screen) == ["en", "ltr"]


VISIBLE = """() => {
    const texts = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const { parentElement: element, data } = walk.currentNode;
        if (data.trim() && element.checkVisibility() && !element.closest("noscript"))
            texts.push(data.trim());
    }
    for (const element of document.querySelectorAll("[aria-label], [title]"))
        texts.push(element.getAttribute("aria-label") ?? "", element.title);
    return [...texts, document.title].filter(Boolean);
}"""

OVERLAPS = """(selector) => {
    const boxes = [...document.querySelectorAll(selector)]
        .filter((element) => element.checkVisibility())
        .map((element) => [element.id || element.textContent, element.getBoundingClientRect()])
        .filter(([, box]) => box.width > 1 && box.height > 1);
    const wrong = [];
    for (const [name, box] of boxes)
        if (box.left < -0.5 || box.right > innerWidth + 0.5) wrong.push(`${name} is cut`);
    for (const [i, [one, a]] of boxes.entries())
        for (const [other, b] of boxes.slice(i + 1))
            if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5 &&
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5)
                wrong.push(`${one} over ${other}`);
    return wrong;
}"""


def test_every_word_comes_from_the_catalogue_and_stands_in_its_place_from_right_to_left(
    fake, new_screen, catalogues
):
    """With a language that was made for this, half as long again as English."""

    def strange(text):
        if isinstance(text, dict):
            return {form: text[form] if form == "by" else strange(text[form]) for form in text}
        return f"⟦{text}{'·' * (len(text) // 2)}⟧"

    texts = {key: strange(text) for key, text in catalogues["en"]["texts"].items()}
    texts["direction"] = "rtl"
    module = f"export default {json.dumps(texts)};"
    screen = new_screen("about:blank", locale="de-DE", viewport={"width": 1024, "height": 700})
    screen.page.route(
        "**/novnc/de.js",
        lambda route: route.fulfill(body=module, content_type="text/javascript"),
    )
    screen.page.goto(f"{fake.url}?token=token&title=web-1")
    screen.wait_until("connected")
    expect(screen.find("html")).to_have_attribute("dir", "rtl")

    def look(selector):
        for text in screen.page.evaluate(VISIBLE):
            assert re.fullmatch(r"⟦[^⟦]*⟧(-(⟦[^⟦]*⟧|F\d+))*|F\d+|web-1", text), text
        for width in (320, 640, 1024):
            screen.page.set_viewport_size({"width": width, "height": 700})
            assert screen.page.evaluate(OVERLAPS, selector) == [], width

    screen.open_bar()
    tools = "#title, #mode, #round-trip, #notice, .tool"
    look(tools)
    # The first stands at the right.
    first, last = screen.find("#cad").bounding_box(), screen.find("#disconnect").bounding_box()
    assert first["x"] > last["x"]
    screen.page.keyboard.press("ArrowLeft")
    assert screen.page.evaluate("document.activeElement.id") == "combos"
    screen.page.keyboard.press("Enter")
    look("#combo-menu")
    screen.page.keyboard.press("Escape")
    screen.find("#paste").click()
    look(".strip-choices > *, #paste-text")
    screen.page.keyboard.press("Escape")
    screen.page.keyboard.press("Control+Alt+Shift")
    screen.find("#disconnect").click()
    screen.wait_until("ended")
    look("#heading, #who, .choices button")
    assert screen.violations() == []
