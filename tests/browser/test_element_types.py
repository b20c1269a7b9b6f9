"""The types of ``<mks-console>`` compile, hold for the element, and catch mistakes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.source import ROOT

TSC = ROOT / "page" / "node_modules" / "typescript" / "bin" / "tsc"
SOURCE = ROOT / "page" / "src"
TYPES = SOURCE / "mks-console.d.ts"
DOCUMENT = ROOT / "docs" / "embedding.md"
STRICT = ("--strict", "--noEmit", "--target", "es2022", "--module", "esnext")
STRICT += ("--moduleResolution", "bundler", "--lib", "es2022,dom,dom.iterable")
ALL_OF_IT = """
import type { ConsoleState, KeyboardLayout, MksConsole } from "./mks-console.js";
import type { PowerState, TypingResult } from "./mks-console.js";

async function all(element: MksConsole): Promise<void> {
    const found: MksConsole | null = document.querySelector("mks-console");
    found?.focus();
    const state: ConsoleState = element.state;
    const power: PowerState = element.powerState;
    const layout: KeyboardLayout = element.layout;
    element.system = "windows";
    element.fit = element.viewOnly;
    element.sendKeys("ControlLeft", "AltLeft", "Delete");
    const stop = new AbortController();
    const typed: TypingResult = await element.sendText("text", { slow: true, signal: stop.signal });
    const picture: Blob = await element.screenshot();
    element.addEventListener("question", ({ detail }) => console.log(detail.text.length));
    element.addEventListener("lifetime", (event) => console.log(event.detail.seconds.toFixed()));
    element.addEventListener("click", (event) => console.log(event.type), { once: true });
    console.log(state, power, layout, typed.why === "silent", picture.size, element.name.trim());
    element.reconnect();
    element.disconnect();
}
void all;
"""
MISTAKES = """
import type { MksConsole } from "./mks-console.js";

declare const element: MksConsole;
element.state = "ended";
element.layout = "dvorak";
element.connect();
element.sendKeys(46);
void element.sendText(["a"]);
element.addEventListener("state", ({ detail }) => detail.status);
if (element.state === "open") element.disconnect();
"""
# What the declaration promises, held against what the source has.
REAL = """
import { MksConsole as Real } from "./real/mks-console.js";
import type { MksConsole } from "./mks-console.js";

declare const real: InstanceType<typeof Real>;
type Promised = Omit<MksConsole, keyof HTMLElement>;
export const all: { [name in keyof Promised]: unknown } = real;
"""


def compiled(directory: Path, source: str, *options: str) -> list[str]:
    """What tsc says of *source* beside the element's types."""
    node = shutil.which("node") or pytest.fail("Node.js is missing; run tools/install-test-tools")
    shutil.copy(TYPES, directory)
    (directory / "user.ts").write_text(source)
    done = subprocess.run(
        [node, TSC, *STRICT, *options, "user.ts"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.splitlines()


def test_the_ten_lines_of_the_documentation_compile(tmp_path):
    example = re.search(r"```ts\n(.*?)```", DOCUMENT.read_text(), re.S)[1]
    assert len(example.splitlines()) <= 10
    assert compiled(tmp_path, example) == []


def test_everything_that_is_promised_can_be_used(tmp_path):
    assert compiled(tmp_path, ALL_OF_IT) == []


def test_each_mistake_is_one(tmp_path):
    found = compiled(tmp_path, MISTAKES)
    wrong = {int(line) for line in re.findall(r"^user\.ts\((\d+),", "\n".join(found), re.M)}
    assert wrong == {5, 6, 7, 8, 9, 10, 11}


def test_the_element_has_all_that_its_types_promise(tmp_path):
    (tmp_path / "real").mkdir()
    shutil.copy(SOURCE / "mks-console.js", tmp_path / "real")
    options = ("--allowJs", "--skipLibCheck", "--noImplicitAny", "false")
    found = [line for line in compiled(tmp_path, REAL, *options) if line.startswith("user.ts")]
    assert found == []
    broken = (tmp_path / "real" / "mks-console.js").read_text().replace("screenshot()", "picture()")
    (tmp_path / "real" / "mks-console.js").write_text(broken)
    found = compiled(tmp_path, REAL, *options)
    assert any("screenshot" in line for line in found)


def test_every_event_has_a_type_and_every_type_an_event():
    emitted = set(re.findall(r'#emit\("(\w+)"', (SOURCE / "mks-console.js").read_text()))
    described = re.search(
        r"interface MksConsoleEventMap \{(.*?)^\}", TYPES.read_text(), re.S | re.M
    )
    assert set(re.findall(r"^    (\w+): CustomEvent", described[1], re.M)) == emitted
