// Names of machines come from users, links and consoles: one line of text, whatever they contain.

const LENGTH = 255;
// Controls, line separators, and what turns the direction of the text that follows (UAX #9).
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** *text* as a name: one line in the order it was written in, with an ellipsis when it is too long. */
export function asName(text, length = LENGTH) {
    const line = text.slice(0, 8 * length).replace(CONTROLS, "").trim();
    const characters = Array.from(line);
    if (characters.length <= length) return line;
    return characters.slice(0, length - 1).join("") + "…";
}

const NAMED = /^(.+?)\s*\(([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\)$/i;

/** The name and the UUID of `NAME(UUID)`; an empty UUID where there is none. */
export const split = (name) => NAMED.exec(name)?.slice(1) ?? [name, ""];

/** *name* as a part of a file's name, on any system. */
export const asFileName = (name) =>
    name.replace(/[\\/:*?"<>|\s]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 80);
