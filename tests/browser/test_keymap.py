"""The page's keyboard layouts, each key of them, judged by X.org's (libxkbcommon)."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from mksfilter.simulator.screen.xkb import Guest
from tests.support.keyboards import LAYOUTS, SCAN_CODES, SHIFT, levels
from tests.support.source import ROOT

# Latin letters with and without accents, and what else stands in passwords and prices.
LETTERS = "".join(map(chr, range(0xA1, 0x180))).replace("\xad", "") + "ȘșȚțẞ€„“”’–…"
SCANS = {**SCAN_CODES, "ShiftLeft": SHIFT, "AltRight": 0x138}

SCRIPT = """
import { LAYOUTS, layoutFor } from "./layouts.js";
import { Keymap } from "./keymap.js";
const { letters, languages } = JSON.parse(process.argv[1]);
const answer = { keymaps: {}, chosen: languages.map((tags) => layoutFor(tags).id) };
const kinds = [["linux", true], ["windows", true], ["linux", false]];
for (const layout of LAYOUTS) for (const [system, everyKey] of kinds) {
    const keymap = new Keymap(layout, system, everyKey);
    const characters = [...new Set([...keymap.characters(), ...letters])];
    answer.keymaps[`${layout.id} ${everyKey ? system : "us-map"}`] =
        Object.fromEntries(characters.map((one) => [one, keymap.chords(one)]));
}
console.log(JSON.stringify(answer));
"""
CHOSEN = {
    "de": "de",
    "de-CH": "ch-de",
    "fr-CH": "ch-fr",
    "fr-BE": "be",
    "en": "us",
    "en-GB": "uk",
    "nb-NO": "no",
    "sv-SE": "se",
    "ja": "jp",
    "zh,de": "de",
    "zh": "us",
}


@pytest.fixture(scope="module")
def page():
    """The keymaps of the page, and the layouts that it chooses."""
    node = shutil.which("node") or pytest.fail("Node.js is missing; run tools/install-test-tools")
    asked = {"letters": list(LETTERS), "languages": [tags.split(",") for tags in CHOSEN]}
    done = subprocess.run(
        [node, "--input-type=module", "-e", SCRIPT, json.dumps(asked)],
        cwd=ROOT / "page" / "src",
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def typed(guest, chords):
    return "".join(guest.chord(*(SCANS[code] for code in codes)) for codes in chords)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_character_of_each_key_is_typed_by_the_keys_that_print_it(page, layout):
    keymap = page["keymaps"][f"{layout} linux"]
    printed = {character for *_, character in levels(layout)}
    wrong = {
        character: keymap.get(character)
        for character in printed
        if not keymap.get(character)
        or typed(Guest(LAYOUTS[layout]), keymap[character]) != character
    }
    assert wrong == {}
    assert len(printed) > 90


@pytest.mark.parametrize("layout", LAYOUTS)
def test_for_a_host_with_a_us_map_keys_of_a_us_keyboard_are_taken_where_they_do(page, layout):
    keymap = page["keymaps"][f"{layout} us-map"]
    foreign = ("IntlBackslash", "IntlRo", "IntlYen")
    with_us_keys = {c for code, *_, c in levels(layout) if code not in foreign}
    wrong = {
        character: keymap[character]
        for character in with_us_keys
        if typed(Guest(LAYOUTS[layout]), keymap[character]) != character
        or any(code in foreign for codes in keymap[character] for code in codes)
    }
    assert wrong == {}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_takes_a_dead_key_is_typed_with_it_and_nothing_else_comes_out(page, layout):
    keymap = page["keymaps"][f"{layout} linux"]
    keymap = {c: chords for c, chords in keymap.items() if chords and c.isprintable() and c != " "}
    wrong = {
        character: typed(Guest(LAYOUTS[layout]), chords)
        for character, chords in keymap.items()
        if typed(Guest(LAYOUTS[layout]), chords) != character
    }
    assert wrong == {}
    # An accent that has no key of its own.
    assert layout in ("us", "jp") or any(len(chords) == 2 for chords in keymap.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_differs_only_in_altgr_and_dead_keys(page, layout):
    linux, windows = (page["keymaps"][f"{layout} {system}"] for system in ("linux", "windows"))
    plain = {
        character
        for character, chords in linux.items()
        if chords and len(chords) == 1 and "AltRight" not in chords[0]
    }
    differs = {c for c in plain if windows.get(c) != linux[c]}
    # Polish has a dead tilde there, and French nothing on Shift and the key above Tab.
    assert differs == {"pl": {"~"}, "fr": {"~"}}.get(layout, set())


def test_the_browsers_language_chooses_the_layout_until_somebody_does(page):
    assert dict(zip(CHOSEN, page["chosen"], strict=True)) == CHOSEN
