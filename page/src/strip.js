// The strip for text: typed on the machine key by key, where no clipboard reaches. It stands beside
// the screen, not over it.
//
// A file of its own, keyboard layouts and all, which the page loads when its console is there. What
// it needs of the page it is given: the two may be of different releases.

import { Keymap, SYSTEMS, isOnUSKeyboard } from "./keymap.js";
import { LAYOUTS, layout, layoutFor } from "./layouts.js";
import { load, save } from "./memory.js";
import { CUT, DONE, STOPPED, typeText } from "./typing.js";

const KEYBOARD = "mksfilter.keyboard";
// Characters of the preview around the one that is typed next.
const BEFORE = 30;
const AFTER = 200;
const SYMBOLS = { "\n": "↵", "\t": "⇥", " ": "␣" };
const HIDDEN = "•";

export const build = BUILD;

/**
 * @param {{byId: (id: string) => HTMLElement, session: Session, toConsole: () => void,
 *     say: (text: string) => void, words: {about, t, translate, typingEnded}}} parts `say` shows a
 *     line for a moment; `words`: as in words.js
 * @returns {{open: () => void, type: (character: string) => void}} `type` types a character
 *     that came without a key
 */
export function textStrip({ byId, session, toConsole, say, words }) {
    const { about, t, typingEnded } = words;
    const strip = byId("paste-dialog");
    const text = byId("paste-text");
    const slow = byId("paste-slow");
    const mask = byId("paste-mask");
    const send = byId("paste-send");
    const cancel = byId("paste-cancel");
    const preview = byId("paste-preview");
    const note = byId("paste-note");
    const progress = byId("paste-progress");
    const layouts = byId("layout");
    const systems = byId("system");
    let keymap = null;
    let typing = null;
    // How much of the text the machine has, after typing that was cut short.
    let done = 0;

    for (const { id } of LAYOUTS) layouts.append(choice(`layout.${id}`, id));
    for (const id of SYSTEMS) systems.append(choice(`system.${id}`, id));
    const [savedLayout, savedSystem] = load(KEYBOARD).split("/");
    layouts.value = (layout(savedLayout) ?? layoutFor(navigator.languages)).id;
    systems.value = SYSTEMS.includes(savedSystem) ? savedSystem : SYSTEMS[0];
    chooseKeymap();

    // VMware's own client types text by itself, for a machine with a US keyboard.
    function typesText() {
        return Boolean(session.rfb?.sendText);
    }

    function keymapOf(system) {
        return new Keymap(layout(typesText() ? "us" : layouts.value), system, session.rfb?.takesScanCodes ?? true);
    }

    function chooseKeymap() {
        keymap = keymapOf(systems.value);
    }

    const characters = () => Array.from(text.value.normalize("NFC").replaceAll("\r\n", "\n"));

    /** What becomes of each character: `chords` is null for one that the keyboard has not. */
    function plan() {
        return characters().map((character) => ({ character, chords: keymap.chords(character) }));
    }

    function show() {
        const all = plan();
        showPreview(all);
        for (const choice of [layouts, systems]) choice.closest("label").hidden = typesText();
        note.textContent = warnings(all).join("\n");
        send.disabled =
            Boolean(typing) || !session.rfb || !all.slice(done).some(({ chords }) => chords);
        const lacks = all.slice(done).some(({ chords }) => !chords);
        send.textContent = t(done ? "type-rest" : lacks ? "type-without" : "type");
        cancel.textContent = t(typing ? "stop" : "cancel");
        text.readOnly = layouts.disabled = systems.disabled = Boolean(typing);
    }

    function showPreview(all) {
        const from = Math.max(0, done - BEFORE);
        const cells = all.slice(from, done + AFTER).map(({ character, chords }, at) => {
            const cell = document.createElement("span");
            const symbol = SYMBOLS[character] ?? character;
            cell.textContent = mask.checked ? HIDDEN : symbol;
            if (!chords) cell.className = "missing";
            else if (from + at < done) cell.className = "typed";
            return cell;
        });
        preview.replaceChildren(...cells);
    }

    function warnings(all) {
        const rest = all.slice(done);
        const lines = [];
        const tell = (what, filter) => {
            const found = [...new Set(rest.filter(filter).map(({ character }) => character))];
            if (!found.length) return;
            lines.push(about(what, mask.checked ? [] : found.map(nameOf), found.length));
        };
        tell("missing", ({ chords }) => !chords);
        if (session.rfb && !session.rfb.takesScanCodes) {
            tell("untaken", ({ chords }) => chords && !chords.flat().every(isOnUSKeyboard));
        }
        if (systems.value === SYSTEMS[0]) {
            const windows = keymapOf(SYSTEMS[1]);
            tell(
                "windows",
                ({ character, chords }) => chords && !same(chords, windows.chords(character)),
            );
        }
        return lines;
    }

    async function type() {
        if (typing || !session.rfb) return;
        const start = done;
        const all = plan();
        const strokes = [];
        // The place in the text after each character that is typed.
        const places = [];
        for (let at = start; at < all.length; at += 1) {
            if (!all[at].chords) continue;
            strokes.push(typesText() ? [all[at].character] : all[at].chords);
            places.push(at + 1);
        }
        if (!strokes.length) return;
        const mine = new AbortController();
        typing = mine;
        progress.textContent = t("typed", { done: 0, total: strokes.length });
        show();
        const { typed, sent, why } = await typeText(session.rfb, strokes, {
            slow: slow.checked,
            signal: mine.signal,
            progress: (count) => {
                done = places[count - 1];
                progress.textContent = t("typed", { done: count, total: strokes.length });
                showPreview(all);
            },
        });
        typing = null;
        if (why === DONE) {
            say(t("typed", { done: typed, total: strokes.length }));
            close();
            return;
        }
        // What was on its way when the connection went may have arrived, or not.
        done = sent ? places[sent - 1] : start;
        progress.textContent = typingEnded(why, typed, strokes.length, sent > typed);
        show();
    }

    function open() {
        strip.hidden = false;
        chooseKeymap();
        show();
        text.focus();
    }

    function close() {
        if (strip.hidden) return;
        typing?.abort(STOPPED);
        // It may have been a password.
        text.value = progress.textContent = "";
        done = 0;
        show();
        strip.hidden = true;
        toConsole();
    }

    text.addEventListener("input", () => {
        done = 0;
        progress.textContent = "";
        show();
    });
    for (const choice of [layouts, systems]) {
        choice.addEventListener("change", () => {
            save(KEYBOARD, `${layouts.value}/${systems.value}`);
            chooseKeymap();
            show();
        });
    }
    mask.addEventListener("change", () => {
        text.classList.toggle("masked", mask.checked);
        show();
    });
    send.addEventListener("click", type);
    cancel.addEventListener("click", () => {
        if (typing) typing.abort(STOPPED);
        else close();
    });
    strip.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) type();
        else if (event.key === "Escape" && !event.isComposing) cancel.click();
        else return;
        event.preventDefault();
    });

    // The screen keeps what the strip leaves.
    const makeRoom = () => document.body.style.setProperty("--strip", `${strip.offsetHeight}px`);
    new ResizeObserver(makeRoom).observe(strip);

    session.addEventListener("change", ({ detail }) => {
        if (detail.state !== "connected") typing?.abort(CUT);
        if (strip.hidden) return;
        chooseKeymap();
        if (!text.value && detail.state === "ended") close();
        else show();
    });
    session.addEventListener("scancodes", () => {
        chooseKeymap();
        if (!strip.hidden) show();
    });
    // Keys that are pressed in between would be mixed into the text.
    session.addEventListener("key", () => typing?.abort(STOPPED));
    words.translate(strip);

    return {
        open,
        type(character) {
            if (typesText()) session.rfb.sendText(character);
            else for (const codes of keymap.chords(character) ?? []) session.rfb?.sendChord(codes);
        },
    };
}

// Its words are those of the catalogue.
function choice(key, id) {
    const option = new Option("", id);
    option.dataset.t = key;
    return option;
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// Characters that do not show are called by their number.
function nameOf(character) {
    if (/[\p{L}\p{N}\p{P}\p{S}]/u.test(character)) return character;
    return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}
