// What a device without a keyboard needs: its own on-screen keyboard, and a row of the keys that this
// does not have.

import keysymOfCharacter from "../node_modules/@novnc/novnc/core/input/keysymdef.js";
import { keysymOf } from "./keys.js";

// By `KeyboardEvent.code`, which is also the `key` of those that have no side.
const STICKY = ["ControlLeft", "AltLeft", "ShiftLeft", "MetaLeft"];
const ARROWS = { ArrowLeft: "←", ArrowUp: "↑", ArrowDown: "↓", ArrowRight: "→" };
const FUNCTIONS = Array.from({ length: 12 }, (_, n) => `F${n + 1}`);
const ROW = ["Escape", "Tab", ...STICKY, "more", ...Object.keys(ARROWS), "Delete"];
const MORE = [...FUNCTIONS, "Home", "End", "PageUp", "PageDown"];
// Those that have a name in the catalogue; others are called as they are.
const WORDS = {
    Escape: "key.esc", Tab: "key.tab", ControlLeft: "key.ctrl", AltLeft: "key.alt",
    ShiftLeft: "key.shift", MetaLeft: "key.win", Delete: "key.delete", more: "more-keys",
    ArrowLeft: "key.left", ArrowUp: "key.up", ArrowDown: "key.down", ArrowRight: "key.right",
    Home: "key.home", End: "key.end", PageUp: "key.page-up", PageDown: "key.page-down",
};
// Those of a keyboard that is plugged in, or that an on-screen one has.
const NAMED = new Set([...ROW, ...MORE, "Enter", "Backspace"]);
/** Sticky keys: pressed with the next key, or with each until they are tapped again. */
const ONCE = "once";
const LOCKED = "locked";
// What stands in the field, so that there is something to delete.
const FILL = "_".repeat(16);

/** Whether fingers are what this device is used with. */
export const isTouch = () => window.matchMedia("(pointer: coarse)").matches;

/**
 * @param {{byId: (id: string) => HTMLElement, session: Session}} parts
 * @returns {{close: () => void}}
 */
export function touchKeys({ byId, session }) {
    const section = byId("touch-keys");
    const field = byId("touch-text");
    const more = byId("touch-more");
    const toggle = byId("touch");
    const sticky = new Map();
    let before = FILL;

    function stroke(send) {
        const { rfb } = session;
        if (!rfb) return;
        const names = [...sticky.keys()];
        for (const code of names) rfb.sendKey(keysymOf(code), code, true);
        send(rfb);
        for (const code of names.reverse()) rfb.sendKey(keysymOf(code), code, false);
        for (const [name, how] of [...sticky]) if (how === ONCE) sticky.delete(name);
        show();
    }

    function show() {
        for (const name of STICKY) {
            const button = section.querySelector(`[data-key="${name}"]`);
            button.setAttribute("aria-pressed", String(sticky.has(name)));
            button.dataset.sticks = sticky.get(name) ?? "";
        }
    }

    function tap(name) {
        if (name === "more") {
            more.hidden = !more.hidden;
            section.querySelector('[data-key="more"]').setAttribute("aria-expanded", String(!more.hidden));
        } else if (STICKY.includes(name)) {
            const next = { [ONCE]: LOCKED, [LOCKED]: "" }[sticky.get(name)] ?? ONCE;
            sticky.delete(name);
            if (next) sticky.set(name, next);
            show();
        } else {
            stroke((rfb) => rfb.sendChord([name]));
        }
    }

    function type(character) {
        if (character === "\n") stroke((rfb) => rfb.sendChord(["Enter"]));
        // Without a key: the machine's layout says which one it is (strip.js).
        else stroke((rfb) => rfb.sendKey(keysymOfCharacter.lookup(character.codePointAt(0)), "", true));
    }

    function refill() {
        field.value = before = FILL;
    }

    function open() {
        section.hidden = false;
        toggle.setAttribute("aria-pressed", "true");
        refill();
        field.focus();
    }

    function close() {
        section.hidden = true;
        toggle.setAttribute("aria-pressed", "false");
        sticky.clear();
        show();
        field.blur();
    }

    for (const [names, row] of [[ROW, byId("touch-row")], [MORE, more]]) {
        for (const name of names) {
            const button = document.createElement("button");
            button.type = "button";
            button.dataset.key = name;
            button.textContent = ARROWS[name] ?? name;
            if (name in ARROWS) button.dataset.tLabel = WORDS[name];
            else if (name in WORDS) button.dataset.t = WORDS[name];
            button.addEventListener("click", () => tap(name));
            row.append(button);
        }
    }
    section.querySelector('[data-key="more"]').setAttribute("aria-expanded", "false");
    show();

    // The field keeps the focus, and the device its keyboard.
    section.addEventListener("pointerdown", (event) => event.preventDefault());
    toggle.addEventListener("click", () => (section.hidden ? open() : close()));

    // On-screen keyboards tell what the text has become, and hardly ever which key it was.
    field.addEventListener("input", (event) => {
        const now = field.value;
        let same = 0;
        while (same < before.length && before[same] === now[same]) same += 1;
        for (const _ of before.slice(same)) stroke((rfb) => rfb.sendChord(["Backspace"]));
        for (const character of now.slice(same)) type(character);
        before = now;
        if (!event.isComposing) refill();
    });
    field.addEventListener("compositionend", refill);
    field.addEventListener("keydown", (event) => {
        if (!NAMED.has(event.key) || event.isComposing) return;
        event.preventDefault();
        stroke((rfb) => rfb.sendChord([event.key]));
    });

    session.addEventListener("change", ({ detail }) => {
        if (detail.state !== "connected") sticky.clear();
        show();
    });

    // The screen keeps what the rows leave, and what the device's own keyboard does.
    const root = document.body.style;
    new ResizeObserver(() => root.setProperty("--keys", `${section.offsetHeight}px`)).observe(section);
    const seen = window.visualViewport;
    const makeRoom = () => {
        const hidden = seen.scale > 1 ? 0 : window.innerHeight - seen.height - seen.offsetTop;
        root.setProperty("--soft", `${Math.max(0, Math.round(hidden))}px`);
    };
    seen?.addEventListener("resize", makeRoom);
    seen?.addEventListener("scroll", makeRoom);

    return { close };
}
