// Keys that a browser keeps for itself, and what a US keyboard has on each key.

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

/** Whether a host that reads keysyms by a US map can press the key of *code*. */
export const isOnUSKeyboard = (code) => US.has(code) || !code.startsWith("Intl");
