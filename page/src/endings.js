// What to do when a connection ends: come back by ourselves, offer to, or leave it.

// Reasons of `end` frames, as mksfilter/exceptions.py has them; tools/build-page writes the file.
import REASONS from "./reasons.json" with { type: "json" };

/** Come back without being asked. */
export const AUTOMATIC = "automatic";
/** The machine is off: ask again until it runs. */
export const WAIT = "wait";
/** Show a button; whoever sits in front decides. */
export const OFFER = "offer";
/** Nothing this page holds can open the console again. */
export const FINAL = "final";

// RFC 6455 section 7.4: gone, no close frame at all, internal error, restart, try later, gateway.
const LOST_CODES = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014]);

// `reopen`: worth further attempts once a console was there, but no reason to hammer at a first
// opening. After a drop, the old session may still count towards a limit for a moment.
const OUTCOMES = {
    automatic: () => AUTOMATIC,
    reopen: (established) => (established ? AUTOMATIC : OFFER),
    wait: () => WAIT,
    offer: () => OFFER,
    never: () => FINAL,
};

/**
 * @param {{reason?: string, retry?: string, code?: number, established: boolean}} ending `reason`
 *     from an `end` frame or, without one, the close `code`; `established`: a console was seen
 *     before
 * @returns {"automatic"|"wait"|"offer"|"final"}
 */
export function policy({ reason, retry, code, established }) {
    // A newer server may have reasons that this page does not know, and says what to do then.
    if (reason) return OUTCOMES[REASONS[reason]?.retry ?? retry]?.(established) ?? OFFER;
    return established && LOST_CODES.has(code) ? AUTOMATIC : OFFER;
}

/** Milliseconds that a connection must last before the attempts count from one again. */
export const STABLE = 10_000;

// Milliseconds between two attempts.
const LONGEST = 30_000;
// The same where too many consoles are being opened: a server that gives no appointments has a few
// seconds' work and no more, and whoever doubles his pause stays away when it is done.
const BUSY = 2_000, BUSIEST = 5_000;
// Until an attempt whose time the proxy has named.
const SOONEST_TOLD = 1_000, LONGEST_TOLD = 60_000;

/**
 * Milliseconds to wait before an attempt: doubling, capped, and spread so that the consoles of a
 * node that went down do not all knock at the next one together.
 *
 * @param {{reason?: string, facts?: {seconds?: number}}} [ending] why it is not the first.
 */
export function backOff(attempt, { reason = "", facts } = {}, random = Math.random) {
    const told = (facts?.seconds ?? 0) * 1_000;
    if (reason === "opening-limit") {
        if (!told) return BUSY + (BUSIEST - BUSY) * random();
        // An appointment, in whole seconds: those of one second do not come together.
        return Math.min(Math.max(told - 1_000 * random(), SOONEST_TOLD), LONGEST_TOLD);
    }
    const ceiling = Math.min(LONGEST, 500 * 2 ** (attempt - 1));
    const pause = ceiling * (0.5 + random() / 2);
    // Before that it would be refused again.
    return reason === "rate-limit" ? Math.max(pause, Math.min(told, LONGEST_TOLD)) : pause;
}
