// When a page that waits has a reason not to: the network is back, somebody looks again, or the
// computer has woken.

// Milliseconds.
const TICK = 1_000;
const SLEPT = 5_000;

/** @param {() => void} action called then; more than once at times */
export function onWake(action) {
    window.addEventListener("online", action);
    document.addEventListener("visibilitychange", () => {
        if (document.visibilityState === "visible") action();
    });
    // The clock of performance.now() stands still while some computers sleep, as timers do.
    let seen = Date.now();
    setInterval(() => {
        const now = Date.now();
        if (now - seen > SLEPT) action();
        seen = now;
    }, TICK);
}
