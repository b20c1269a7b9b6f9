// Whether the network still carries: browsers hide pings, and a dead connection looks like a quiet
// machine for minutes. The proxy answers a `beat` on the control channel.

// Milliseconds.
const EVERY = 2_000;
/** Without an answer, and without anything else, for so long: the person is told. */
export const SILENT_AFTER = 10_000;
/** Then the connection is given up. */
const GIVEN_UP_AFTER = 15_000;
/** After a sleep, through which hardly any connection lives. */
const GIVEN_UP_AFTER_SLEEP = 4_000;
// A tab that was asleep, or a machine: what was due meanwhile says nothing.
const SLEPT = 5_000;

/**
 * Events: `beat` (detail: round-trip time in milliseconds), `silent` (detail: seconds without a
 * word), `heard` (after silence), `dead`.
 */
export class Heartbeat extends EventTarget {
    #channel;
    #timer = 0;
    #id = 0;
    #sentAt = 0;
    #dueAt = 0;
    #heardAt = 0;
    #tickedAt = 0;
    // By the clock on the wall: performance.now() stands still while some computers sleep.
    #tickedOn = 0;
    #slept = false;
    #silent = false;

    /** @param {Channel} channel emits `heard` for whatever arrives */
    constructor(channel) {
        super();
        this.#channel = channel;
        channel.addEventListener("heard", () => this.#heard());
        channel.addEventListener("closed", () => this.stop());
    }

    /** Begin; nothing is sent while the page is hidden. */
    start() {
        this.#heardAt = this.#tickedAt = performance.now();
        this.#tickedOn = Date.now();
        this.#timer = setInterval(() => this.#tick(), 1_000);
        document.addEventListener("visibilitychange", this.#look);
        window.addEventListener("online", this.#look);
        this.#beat();
    }

    stop() {
        clearInterval(this.#timer);
        document.removeEventListener("visibilitychange", this.#look);
        window.removeEventListener("online", this.#look);
    }

    /** The proxy has answered beat *id*. */
    answered(id) {
        if (id !== this.#id || !this.#sentAt) return;
        const time = performance.now() - this.#sentAt;
        this.#sentAt = 0;
        this.#emit("beat", time);
    }

    // Somebody looks again: whether the connection is alive is known within seconds.
    #look = () => {
        if (document.visibilityState === "visible") this.#tick();
    };

    #tick() {
        const now = performance.now();
        const today = Date.now();
        const slept = Math.max(now - this.#tickedAt, today - this.#tickedOn) > SLEPT;
        this.#tickedAt = now;
        this.#tickedOn = today;
        if (document.visibilityState !== "visible") return;
        if (slept) {
            this.#slept = true;
            this.#heardAt = now;
            this.#sentAt = 0;
        }
        if (!this.#sentAt) {
            if (slept || now >= this.#dueAt) this.#beat();
            return;
        }
        const quiet = now - Math.max(this.#heardAt, this.#sentAt);
        if (quiet >= (this.#slept ? GIVEN_UP_AFTER_SLEEP : GIVEN_UP_AFTER)) {
            this.stop();
            this.#emit("dead");
        } else if (quiet >= SILENT_AFTER) {
            this.#silent = true;
            this.#emit("silent", Math.round(quiet / 1_000));
        }
    }

    #beat() {
        this.#id += 1;
        this.#sentAt = performance.now();
        this.#dueAt = this.#sentAt + EVERY;
        this.#channel.send(JSON.stringify({ type: "beat", id: this.#id }));
    }

    #heard() {
        this.#heardAt = performance.now();
        this.#slept = false;
        if (this.#silent) {
            this.#silent = false;
            this.#emit("heard");
        }
    }

    #emit(name, detail) {
        this.dispatchEvent(new CustomEvent(name, { detail }));
    }
}
