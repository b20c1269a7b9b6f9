// From characters to key strokes on a machine of a given layout.

import { ROWS } from "./layouts.js";

const DEAD = "◌";
const NONE = "□";
const CELL = /◌?./gsu;

const MODIFIERS = [[], ["ShiftLeft"], ["AltRight"], ["AltRight", "ShiftLeft"]];

// What a dead key's accent gives by itself. With the space bar it is the same on each system, but
// for these two: X.org's compositions make ' and " of them, and take the dead key twice instead.
const SPACING = {
    "\u0300": "`", "\u0302": "^", "\u0303": "~", "\u0304": "¯", "\u0306": "˘", "\u0307": "˙",
    "\u030a": "°", "\u030b": "˝", "\u030c": "ˇ", "\u0327": "¸", "\u0328": "˛",
};
const ACUTE = "\u0301";
const DIAERESIS = "\u0308";
const QUOTES = { [ACUTE]: "'", [DIAERESIS]: '"' };
const TWICE = { [ACUTE]: "´", [DIAERESIS]: "¨" };

// The letters that Windows' layouts compose; Linux composes whatever Unicode has.
const COMPOSED_BY_WINDOWS = {
    "\u0300": "aeiouAEIOU",
    "\u0301": "aeiouyAEIOUY",
    "\u0302": "aeiouAEIOU",
    "\u0303": "anoANO",
    "\u0308": "aeiouyAEIOU",
};

/** Whether a host that reads keysyms by a US map can press the key of *code*. */
export const isOnUSKeyboard = (code) => !code.startsWith("Intl");

/** The systems whose layouts differ in what AltGr and dead keys give. */
export const SYSTEMS = ["linux", "windows"];

/**
 * What a machine's keyboard can type.
 *
 * A chord is a list of `KeyboardEvent.code`s: down in order, up in reverse.
 */
export class Keymap {
    // Chords by character; one chord, or that of a dead key and the one after it.
    #chords = new Map([
        ["\n", [["Enter"]]],
        ["\t", [["Tab"]]],
        [" ", [["Space"]]],
    ]);
    #dead = new Map();
    #composes;

    /**
     * @param {object} layout one of LAYOUTS
     * @param {"linux"|"windows"} system
     * @param {boolean} everyKey whether the host can be asked for each key; else those of a US
     *     keyboard come first where there is a choice
     */
    constructor(layout, system = "linux", everyKey = true) {
        const windows = system === "windows";
        this.#composes = windows ? (mark) => COMPOSED_BY_WINDOWS[mark] ?? "" : null;
        const levels = layout.levels.map(parse);
        if (windows) overrideAltGr(levels, layout);
        const chords = levels.flatMap((keys, level) =>
            Array.from(keys, ([code, cell]) => [cell, [...MODIFIERS[level], code]]),
        );
        const isLate = ([, chord]) => !everyKey && !chord.every(isOnUSKeyboard);
        for (const [cell, chord] of chords.sort((a, b) => isLate(a) - isLate(b))) {
            this.#learn(cell, chord);
        }
        for (const [mark, chord] of this.#dead) {
            const quote = windows && layout.id !== "us-intl" ? null : QUOTES[mark];
            const alone = quote ?? SPACING[mark] ?? TWICE[mark];
            this.#add(alone, [chord, ["Space"]]);
            // Windows prints such an accent twice.
            if (!windows) this.#add(TWICE[mark], [chord, chord]);
        }
    }

    /**
     * The chords that type *character*.
     *
     * @param {string} character one code point
     * @returns {string[][] | null} null when this keyboard has no keys for it
     */
    chords(character) {
        return this.#chords.get(character) ?? this.#composed(character);
    }

    /** Every character that one chord types. */
    characters() {
        return [...this.#chords.keys()];
    }

    #learn(cell, chord) {
        if (cell.startsWith(DEAD)) {
            if (!this.#dead.has(cell.slice(1))) this.#dead.set(cell.slice(1), chord);
        } else {
            this.#add(cell, [chord]);
        }
    }

    #add(character, chords) {
        if (character && !this.#chords.has(character)) this.#chords.set(character, chords);
    }

    #composed(character) {
        const [letter, mark, ...rest] = character.normalize("NFD");
        const dead = this.#dead.get(mark);
        const chords = this.#chords.get(letter);
        if (!dead || rest.length || chords?.length !== 1) return null;
        if (this.#composes && !this.#composes(mark).includes(letter)) return null;
        return [dead, ...chords];
    }
}

/** The cells of one level, by key. */
function parse(level) {
    const keys = new Map();
    for (const [row, text] of level.split(" ").entries()) {
        for (const [at, [cell]] of [...text.matchAll(CELL)].entries()) {
            if (cell !== NONE) keys.set(ROWS[row][at], cell);
        }
    }
    return keys;
}

/** Put Windows' cells in the place of those that differ. */
function overrideAltGr(levels, { windows, windowsPlain = "" }) {
    const [plain, shifted] = levels;
    levels.splice(2, 2, new Map(), new Map());
    for (const pair of windows.split(" ").filter(Boolean)) {
        const [[legend], [cell]] = [...pair.matchAll(CELL)];
        const level = keyOf(plain, legend) ? 0 : 1;
        levels[2 + level].set(keyOf(levels[level], legend), cell);
    }
    for (const pair of windowsPlain.split(" ").filter(Boolean)) {
        const [[legend], [cell]] = [...pair.matchAll(CELL)];
        const level = keyOf(plain, legend) ? plain : shifted;
        const code = keyOf(level, legend);
        if (cell === NONE) level.delete(code);
        else level.set(code, cell);
    }
}

function keyOf(level, legend) {
    for (const [code, cell] of level) if (cell === legend) return code;
    return undefined;
}
