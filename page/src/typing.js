// Text typed on the machine, no faster than the machine shows that it reads it.

// Milliseconds.
const BETWEEN_CHORDS = 12;
const SLOWLY = 120;
// How long a character may take to show. A machine that does not echo (a prompt for a password) is
// not waited for each time: its host then answers that it has read the key, which is less.
const FIRST_ECHO = 250;
const ECHO = 700;
const NO_ECHO = 70;
const MISSES = 3;
// A host that has not answered for so long has gone.
const SILENCE = 10_000;

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Why typing ended: all is typed; stopped by its user; connection lost; host silent. */
export const DONE = "done";
export const STOPPED = "stopped";
export const CUT = "cut";
export const SILENT = "silent";

/**
 * Type characters, and wait for the host's answer after each.
 *
 * @param {Host} host
 * @param {string[][][]} strokes the chords of each character; for a host that has `sendText` the
 *     character itself in their place
 * @param {{slow: boolean, signal: AbortSignal, progress: (done: number) => void}} options the
 *     signal's reason is STOPPED or CUT
 * @returns {Promise<{typed: number, sent: number, why: string}>} `typed`: characters that the host
 *     has answered; `sent`: with those on their way
 */
export async function typeText(host, strokes, { slow, signal, progress }) {
    let typed = 0;
    const end = (why, sent = typed) => ({ typed, sent, why });
    const answers = new Answers(host, signal);
    try {
        await switchCapsLockOff(host, answers);
        let echo = FIRST_ECHO;
        let misses = 0;
        for (const chords of strokes) {
            if (signal.aborted) return end(signal.reason);
            for (const codes of chords) {
                answers.mark();
                if (host.sendText) host.sendText(codes);
                else host.sendChord(codes);
                await sleep(slow ? SLOWLY : BETWEEN_CHORDS);
            }
            const shown = await answers.pixels(echo);
            misses = shown ? 0 : misses + 1;
            echo = shown ? ECHO : misses >= MISSES ? NO_ECHO : echo;
            if (!shown) {
                host.ask();
                if (!(await answers.any(SILENCE))) {
                    return end(signal.aborted ? signal.reason : SILENT, typed + 1);
                }
            }
            typed += 1;
            progress(typed);
        }
        return end(DONE);
    } finally {
        answers.close();
    }
}

// Letters come out the other way round while the guest has Caps Lock on. Live typing puts it back:
// noVNC presses it where the guest differs from the keyboard in front.
async function switchCapsLockOff(host, answers) {
    if (!host.guestCapsLock) return;
    answers.mark();
    host.sendChord(["CapsLock"]);
    await answers.lights(ECHO);
}

/** What the host has said since the last mark. */
class Answers {
    #host;
    #signal;
    #seen = {};
    #wake = () => undefined;
    #hear = (event) => {
        if (event.type === "lights") this.#seen.lights = true;
        else this.#seen = { ...this.#seen, any: true, pixels: this.#seen.pixels || event.detail.pixels };
        this.#wake();
    };
    #abort = () => this.#wake();

    constructor(host, signal) {
        this.#host = host;
        this.#signal = signal;
        host.addEventListener("update", this.#hear);
        host.addEventListener("lights", this.#hear);
        signal.addEventListener("abort", this.#abort);
    }

    close() {
        this.#host.removeEventListener("update", this.#hear);
        this.#host.removeEventListener("lights", this.#hear);
        this.#signal.removeEventListener("abort", this.#abort);
    }

    mark() {
        this.#seen = {};
    }

    /** Whether the picture changes within so many milliseconds. */
    pixels = (limit) => this.#wait("pixels", limit);
    any = (limit) => this.#wait("any", limit);
    lights = (limit) => this.#wait("lights", limit);

    async #wait(what, limit) {
        const end = performance.now() + limit;
        while (!this.#seen[what] && !this.#signal.aborted) {
            const left = end - performance.now();
            if (left <= 0) return false;
            await new Promise((resolve) => {
                const timer = setTimeout(resolve, left);
                this.#wake = () => {
                    clearTimeout(timer);
                    resolve();
                };
            });
        }
        return Boolean(this.#seen[what]);
    }
}
