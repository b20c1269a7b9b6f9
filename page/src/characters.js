// From X11's keysyms to characters.

import keysymOf from "../node_modules/@novnc/novnc/core/input/keysymdef.js";

// X11's keysyms are Latin-1 or Unicode, but for what was there before: Latin 2 to 9 and the like.
const UNICODE = 0x01000000;
const LAST_LEGACY = 0x2600;

/** The character of an X11 keysym. */
export function characterOf(keysym) {
    if (keysym >= UNICODE) return String.fromCodePoint(keysym - UNICODE);
    let point = keysym;
    if (keysym > 0xff) {
        point = 0x100;
        while (point < LAST_LEGACY && keysymOf.lookup(point) !== keysym) point += 1;
    }
    return String.fromCodePoint(point);
}
