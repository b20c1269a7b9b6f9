// Keys that a browser keeps for itself, and what a US keyboard has on each key.

import namedKeys from "../node_modules/@novnc/novnc/core/input/domkeytable.js";
import scanCodes from "../node_modules/@novnc/novnc/core/input/xtscancodes.js";
import sym from "../node_modules/@novnc/novnc/core/input/keysym.js";

// By the names that they have in the catalogue, or that every keyboard has on them.
const KEYS = {
    ctrl: [sym.XK_Control_L, "ControlLeft"],
    alt: [sym.XK_Alt_L, "AltLeft"],
    esc: [sym.XK_Escape, "Escape"],
    tab: [sym.XK_Tab, "Tab"],
    backspace: [sym.XK_BackSpace, "Backspace"],
    windows: [sym.XK_Super_L, "MetaLeft"],
    print: [sym.XK_Print, "PrintScreen"],
    ...Object.fromEntries(
        Array.from({ length: 12 }, (_, n) => [`F${n + 1}`, [sym[`XK_F${n + 1}`], `F${n + 1}`]]),
    ),
};

/**
 * The chords of the menu, those that people use and the rest: names of keys, which go down in
 * order and up in reverse.
 */
export const COMBOS = [
    [
        ["esc"],
        ["tab"],
        ["alt", "tab"],
        ["alt", "F4"],
        ["windows"],
        ["ctrl", "alt", "F1"],
        ["ctrl", "alt", "F2"],
        ["F2"],
        ["F8"],
        ["F12"],
    ],
    [
        ["ctrl", "esc"],
        ["print"],
        ["ctrl", "alt", "backspace"],
        ...[3, 4, 5, 6, 7].map((n) => ["ctrl", "alt", `F${n}`]),
        ["F10"],
        ["F11"],
    ],
];

/** Press the keys that *names* name in order, release them in reverse. */
export function press(rfb, names) {
    const keys = names.map((name) => KEYS[name]);
    for (const [keysym, code] of keys) rfb.sendKey(keysym, code, true);
    for (const [keysym, code] of [...keys].reverse()) rfb.sendKey(keysym, code, false);
}

// What a US keyboard prints: key, plain, and with Shift. Keysyms of ASCII are its code points.
const US = new Map([
    ["Backquote", "`~"], ["Minus", "-_"], ["Equal", "=+"], ["BracketLeft", "[{"],
    ["BracketRight", "]}"], ["Backslash", "\\|"], ["Semicolon", ";:"], ["Quote", "'\""],
    ["Comma", ",<"], ["Period", ".>"], ["Slash", "/?"], ["Space", "  "],
    ...Array.from("1234567890", (digit, i) => [`Digit${digit}`, digit + "!@#$%^&*()"[i]]),
    ...Array.from("abcdefghijklmnopqrstuvwxyz", (letter) => [
        `Key${letter.toUpperCase()}`,
        letter + letter.toUpperCase(),
    ]),
]);
// Keys that are another thing elsewhere: AltGr, and a comma on the keypad. A US keyboard does not
// have the key between Shift and Z; broken bar is the one character that maps have for it alone.
const US_NAMED = {
    AltRight: sym.XK_Alt_R, NumpadDecimal: sym.XK_KP_Decimal, IntlBackslash: sym.XK_brokenbar,
    IntlYen: sym.XK_yen, IntlRo: 0,
    ShiftLeft: sym.XK_Shift_L, ControlLeft: sym.XK_Control_L, Enter: sym.XK_Return,
    Tab: sym.XK_Tab, CapsLock: sym.XK_Caps_Lock,
};

/**
 * The keysym that a US keyboard has on a key; undefined for a key that is the same everywhere.
 *
 * @param {string} code `KeyboardEvent.code`
 * @param {boolean} shift whether Shift is down
 * @param {boolean} capsLock whether Caps Lock is on
 */
export function usKeysym(code, shift, capsLock) {
    const pair = US.get(code);
    if (!pair) return US_NAMED[code];
    const capital = code.startsWith("Key") && capsLock ? !shift : shift;
    return pair.charCodeAt(capital ? 1 : 0);
}

/** Whether there is a key of this `KeyboardEvent.code`. */
export const isKey = (code) => Boolean(scanCodes[code]);

/** The keysym of a key that prints nothing, by its `KeyboardEvent.code`; 0 for one that prints. */
export function keysymOf(code) {
    if (namedKeys[code]) return namedKeys[code][0];
    const [, name, side] = /^(\w+?)(Left|Right)$/.exec(code) ?? [];
    return namedKeys[name]?.[side === "Right" ? 2 : 1] ?? 0;
}
