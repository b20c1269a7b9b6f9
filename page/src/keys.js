// Keys that a browser keeps for itself, and text as the key strokes that produce it.

import keysymOf from "../node_modules/@novnc/novnc/core/input/keysymdef.js";
import sym from "../node_modules/@novnc/novnc/core/input/keysym.js";

const CTRL = [sym.XK_Control_L, "ControlLeft"];
const ALT = [sym.XK_Alt_L, "AltLeft"];
const SHIFT = [sym.XK_Shift_L, "ShiftLeft"];
const SUPER = [sym.XK_Super_L, "MetaLeft"];

const functionKey = (n) => [sym[`XK_F${n}`], `F${n}`];

/** Name and keys of each entry of the menu; keys go down in order and up in reverse. */
export const COMBOS = [
    ["Esc", [[sym.XK_Escape, "Escape"]]],
    ["Tab", [[sym.XK_Tab, "Tab"]]],
    ["Alt-Tab", [ALT, [sym.XK_Tab, "Tab"]]],
    ["Alt-F4", [ALT, functionKey(4)]],
    ["Ctrl-Esc", [CTRL, [sym.XK_Escape, "Escape"]]],
    ["Windows key", [SUPER]],
    ["Print Screen", [[sym.XK_Print, "PrintScreen"]]],
    ["Ctrl-Alt-Backspace", [CTRL, ALT, [sym.XK_BackSpace, "Backspace"]]],
    ...[1, 2, 3, 4, 5, 6, 7].map((n) => [`Ctrl-Alt-F${n}`, [CTRL, ALT, functionKey(n)]]),
    ...[2, 8, 10, 11, 12].map((n) => [`F${n}`, [functionKey(n)]]),
];

/** Press *keys* in order, release them in reverse. */
export function press(rfb, keys) {
    for (const [keysym, code] of keys) rfb.sendKey(keysym, code, true);
    for (const [keysym, code] of [...keys].reverse()) rfb.sendKey(keysym, code, false);
}

// A virtual keyboard turns keysyms into scancodes and looks at no Shift of its own accord, so
// `A` needs Shift as on a real one. Which keys need it depends on the layout; US is the one that
// hypervisors assume unless told otherwise.
const US_ROWS = [
    ["Backquote", "`~"], ["Minus", "-_"], ["Equal", "=+"], ["BracketLeft", "[{"],
    ["BracketRight", "]}"], ["Backslash", "\\|"], ["Semicolon", ";:"], ["Quote", "'\""],
    ["Comma", ",<"], ["Period", ".>"], ["Slash", "/?"], ["Space", " "],
    ...Array.from("1234567890", (digit, i) => [`Digit${digit}`, digit + "!@#$%^&*()"[i]]),
    ...Array.from("abcdefghijklmnopqrstuvwxyz", (letter) => [
        `Key${letter.toUpperCase()}`,
        letter + letter.toUpperCase(),
    ]),
];
const US = new Map(
    US_ROWS.flatMap(([code, [plain, shifted]]) => [
        [plain, { code, shift: false }],
        ...(shifted ? [[shifted, { code, shift: true }]] : []),
    ]),
);

/**
 * The key strokes that type *text*: one `[keysym, code][]` for each character, in order. Lines end
 * with a line feed alone, as they do in the value of a text area.
 */
export function strokes(text) {
    const result = [];
    for (const character of text) {
        const stroke = strokeOf(character);
        if (stroke) result.push(stroke);
    }
    return result;
}

function strokeOf(character) {
    if (character === "\n") return [[sym.XK_Return, "Enter"]];
    if (character === "\t") return [[sym.XK_Tab, "Tab"]];
    const point = character.codePointAt(0);
    // Other control characters are no keys (C0, DEL and C1).
    if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return null;
    const key = US.get(character);
    const keysym = keysymOf.lookup(point);
    if (!key) return [[keysym, null]];
    return key.shift ? [SHIFT, [keysym, key.code]] : [[keysym, key.code]];
}

// A burst loses characters: virtual keyboards hold few, and firmware reads them slowly.
const PACE = 15;
const SLOW_PACE = 120;

/**
 * Type *text* on the console.
 *
 * @param {{slow: boolean, signal: AbortSignal, clear: () => Promise<void>,
 *     progress: (done: number, total: number) => void}} options `clear` resolves when what was
 *     sent so far has left the browser
 */
export async function typeText(rfb, text, { slow, signal, clear, progress }) {
    const all = strokes(text);
    for (const [done, keys] of all.entries()) {
        if (signal.aborted) return;
        press(rfb, keys);
        progress(done + 1, all.length);
        await new Promise((resolve) => setTimeout(resolve, slow ? SLOW_PACE : PACE));
        await clear();
    }
}
