// What to do when a connection ends: come back by ourselves, offer to, or leave it.

/** Come back without being asked. */
export const AUTOMATIC = "automatic";
/** Show a button; whoever sits in front decides. */
export const OFFER = "offer";
/** Nothing this page holds can open the console again. */
export const FINAL = "final";

// Reasons of `end` frames (mksfilter/exceptions.py). The machine or the node went away and a new
// ticket on another host or node may find it again: vMotion, a node that is taken out of service.
const COMES_BACK = new Set(["upstream-lost", "server-draining", "draining", "slow-reader"]);

// Worth further attempts once a console was there, but no reason to hammer at a first opening.
const PASSING = new Set([
    "replay-cache-unavailable",
    "token-service-unavailable",
    "node-session-limit",
    "rate-limit",
    "vcenter-unreachable",
    "vcenter-busy",
    "host-disconnected",
    "host-unreachable",
    "host-unresolvable",
    "ticket-refused",
    "upstream-refused",
    // After a drop the old session may still count for a moment.
    "instance-session-limit",
    "user-session-limit",
    "connection-limit",
]);

const OVER = new Set(["denied", "origin-denied", "lifetime-reached", "instance-not-found"]);

// RFC 6455 section 7.4: gone, no close frame at all, internal error, restart, try later, gateway.
const LOST_CODES = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014]);

/**
 * @param {{reason?: string, code?: number, established: boolean}} ending `reason` from an `end`
 *     frame or, without one, the close `code`; `established`: a console was seen before
 * @returns {"automatic"|"offer"|"final"}
 */
export function policy({ reason, code, established }) {
    if (reason) {
        if (COMES_BACK.has(reason)) return AUTOMATIC;
        if (PASSING.has(reason)) return established ? AUTOMATIC : OFFER;
        return OVER.has(reason) || reason.startsWith("token-") ? FINAL : OFFER;
    }
    return established && LOST_CODES.has(code) ? AUTOMATIC : OFFER;
}

/** Attempts to come back before the page gives up: about a minute in all. */
export const ATTEMPTS = 8;
/** Milliseconds that a connection must last before the attempts count from one again. */
export const STABLE = 10_000;

/**
 * Milliseconds to wait before an attempt: doubling, capped, and spread so that the consoles of a
 * node that went down do not all knock at the next one together.
 */
export function backOff(attempt, random = Math.random) {
    const ceiling = Math.min(15_000, 500 * 2 ** (attempt - 1));
    return ceiling * (0.5 + random() / 2);
}
