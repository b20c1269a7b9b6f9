// Everything the page says, in the language of who reads it: languages/ has the texts.

import ENGLISH from "./languages/en.js";
// Reasons of `end` frames, as mksfilter/exceptions.py has them; tools/build-page writes the file.
import REASONS from "./reasons.json" with { type: "json" };

// English comes with the page, the others when they are wanted.
const OTHERS = {
    de: () => import("./languages/de.js"),
    es: () => import("./languages/es.js"),
    fr: () => import("./languages/fr.js"),
    ja: () => import("./languages/ja.js"),
};
const ATTRIBUTES = { t: "", tLabel: "aria-label", tTitle: "title" };

let catalogue = ENGLISH;
let locale = "en";
let numbers = new Intl.NumberFormat(locale);
let plurals = new Intl.PluralRules(locale);

/**
 * Speak the first of *languages* that there is a catalogue for, else English.
 *
 * @param {readonly string[]} languages tags (RFC 5646), most wanted first
 * @returns {Promise<void>} settled when the catalogue is there; also when it could not be loaded
 */
export async function speak(languages) {
    const wanted = languages.find((tag) => base(tag) === "en" || Object.hasOwn(OTHERS, base(tag)));
    const load = OTHERS[base(wanted ?? "")];
    if (load) {
        try {
            catalogue = (await load()).default;
            locale = wanted;
        } catch {
            // A page in English is better than none.
        }
    } else if (wanted) {
        locale = wanted;
    }
    numbers = new Intl.NumberFormat(locale);
    plurals = new Intl.PluralRules(locale);
    document.documentElement.lang = base(locale);
    document.documentElement.dir = catalogue.direction;
}

const base = (tag) => tag.toLowerCase().split("-")[0];

/**
 * The text that *key* has in the catalogue.
 *
 * @param {Record<string, string | number>} facts what stands for each {name} in it
 */
export function t(key, facts = {}) {
    let text = catalogue[key] ?? ENGLISH[key] ?? key;
    if (typeof text === "object") text = text[plurals.select(facts[text.by])] ?? text.other;
    return text.replace(/\{(\w+)\}/g, (_, name) => {
        const fact = facts[name] ?? "";
        return typeof fact === "number" ? numbers.format(fact) : String(fact);
    });
}

/**
 * Fill *root* with words: data-t names the text of an element, data-t-label and data-t-title those
 * of its attributes, data-chord the keys that it presses.
 */
export function translate(root) {
    const named = "[data-t], [data-t-label], [data-t-title], [data-chord]";
    for (const element of root.querySelectorAll(named)) fill(element);
}

/** Give *element* other words; they follow when the language changes. */
export function fill(element, names = {}) {
    Object.assign(element.dataset, names);
    if (element.dataset.chord) element.textContent = chord(element.dataset.chord.split(" "));
    for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
        const key = element.dataset[name];
        if (!key) continue;
        if (attribute) element.setAttribute(attribute, t(key));
        else element.textContent = t(key);
    }
}

/** The label that screen readers announce for the machine's screen. */
export const screenLabel = (name, viewOnly) => t(viewOnly ? "screen-view-only" : "screen", { name });

export const endsIn = (seconds) => t("ends-in", { time: clock(seconds) });

/** *milliseconds* of a round trip. */
export const roundTrip = (milliseconds) =>
    t("milliseconds", { number: Math.max(1, Math.round(milliseconds)) });

// Keys by the names that they have in the catalogue; others as they are (F1).
const chord = (keys) =>
    keys.map((key) => (Object.hasOwn(ENGLISH, `key.${key}`) ? t(`key.${key}`) : key)).join("-");

/**
 * Words about characters, that name them or, where they are hidden, count them.
 *
 * @param {"missing"|"untaken"|"windows"} what is special about them
 * @param {string[]} characters empty: they are hidden
 */
export const about = (what, characters, count) =>
    characters.length
        ? t(`${what}-named`, { characters: characters.join(" ") })
        : t(`${what}-counted`, { count });

/** Why typing ended before the end of the text; *why* is one of typing.js. */
export function typingEnded(why, done, total, isUncertain) {
    const key = isUncertain && why !== "stopped" ? `typing-${why}-uncertain` : `typing-${why}`;
    return t(key, { typed: t("typed", { done, total }), number: done + 1 });
}

/**
 * Why a connection ended or did not begin.
 *
 * @param {{key?: string, facts?: object, reason?: string, message?: string, code?: number}} ending
 *     what is known, best first: a text of ours; the reason of an `end` frame, with the English
 *     words that came with it; the close code
 */
export function why({ key, facts, reason, message, code }) {
    if (key) return t(key, facts);
    return (reason && reasonWords(reason, message, facts)) || message || closed(code);
}

// A reason that this page does not know is shown in the proxy's own words, which are English; so
// are all reasons to who reads English.
function reasonWords(reason, message, facts) {
    const detailed = withFacts(`fact.${reason}`, facts);
    if (detailed) return detailed;
    const english = Object.hasOwn(REASONS, reason) ? REASONS[reason].words : undefined;
    // Reasons that have the same words share one translation.
    const alike = Object.keys(REASONS).filter((one) => REASONS[one].words === english);
    const key = [reason, ...alike].map((one) => `reason.${one}`).find(isTranslated);
    return key ? t(key, facts) : message || english;
}

// The text *key* where there is one and all that it tells is known.
function withFacts(key, facts) {
    const text = catalogue[key] ?? ENGLISH[key];
    if (!text || !facts) return "";
    const known = { ...facts, time: Number.isFinite(facts.seconds) ? duration(facts.seconds) : undefined };
    const wanted = (text.other ?? text).matchAll(/\{(\w+)\}/g);
    return [...wanted].every(([, name]) => known[name] !== undefined) ? t(key, known) : "";
}

// In the one unit that tells it best.
function duration(seconds) {
    const [unit, size] = [["hour", 3600], ["minute", 60]].find(([, one]) => seconds >= 2 * one) ?? ["second", 1];
    const value = Math.round(seconds / size);
    return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(value);
}

const isTranslated = (key) => Object.hasOwn(catalogue, key);

// A WebSocket close code that came without an `end` frame (RFC 6455 section 7.4.1).
const CLOSED = {
    1000: "closed-by-console",
    1001: "closed-by-server",
    1002: "protocol-error",
    1008: "closed-by-server",
    1013: "server-busy",
    1014: "closed-by-host",
};
const CLOSED_REASONS = { 1011: "upstream-lost", 1012: "server-draining" };

function closed(code) {
    if (CLOSED_REASONS[code]) return reasonWords(CLOSED_REASONS[code]);
    return t(CLOSED[code] ?? "lost");
}

function clock(seconds) {
    const whole = Math.max(0, Math.ceil(seconds));
    const hours = Math.floor(whole / 3600);
    const minutes = String(Math.floor((whole % 3600) / 60));
    const rest = String(whole % 60).padStart(2, "0");
    return hours ? `${hours}:${minutes.padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
