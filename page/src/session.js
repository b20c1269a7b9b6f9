// One console, over as many connections as it takes.

import { Binding, claimsOf } from "./binding.js";
import { Channel, isSendable } from "./channel.js";
import { AUTOMATIC, FINAL, OFFER, STABLE, WAIT, backOff, policy } from "./endings.js";
import { Host } from "#host";
import { Heartbeat } from "./heartbeat.js";
import { asName } from "./names.js";
import { whyRefused } from "./refusal.js";
import { onWake } from "./wake.js";

// Milliseconds. The proxy asks vCenter and dials the host before it answers, within its own
// deadlines; these only keep a page from waiting for ever.
const SLOW_AFTER = 8_000;
const FIRST_LIMIT = 60_000;
const LATER_LIMIT = 30_000;
// A close frame follows an `end` frame at once; the connection is cut when it does not.
const END_GRACE = 1_000;
// Until a proxy of another release, which names no pause, is asked again about a machine that is off.
const PAUSE = 2_000;
// Attempts after which a machine that allows no further console is somebody else's: until then it
// may be our own connection of before, which its host has not missed yet.
const TAKEN_AFTER = 4;
// Seconds by which the proxy lets the time of a proof be wrong, and a bit less.
const CLOCK_IS_OFF = 60;

/**
 * States: `connecting`, `connected`, `waiting` (until the next attempt), `ended`.
 *
 * Events: `change` (detail: {state, ending, moving, slow, offer, byUser, established, asleep: the
 * reason for which the machine has no console now, at: when the next attempt is due, by
 * performance.now(), elsewhere: its user has it in another place});
 * `name` (detail: the console's own name); `machine` (detail: the machine's name as vCenter has
 * it); `facts` (detail: {session, request, node} of a connection); `whereabouts` (the same of one that
 * was refused); `notice` (detail: the notice of the control channel); `key` (a key was pressed for the
 * machine); `scancodes` (the host takes them); `character` (detail: {character}, without a key).
 */
export class Session extends EventTarget {
    /** The host, by noVNC's client, while a connection has begun to speak RFB, else null. */
    rfb = null;
    viewOnly = false;
    #fit = true;
    #url;
    #token;
    #binding;
    #opening;
    #turn;
    #keeper;
    #resumes;
    // Its key is kept, so that the token that is bound to it is worth keeping.
    #keyIsKept = false;
    /** A reload of the page does not lose the console. */
    isKept = false;
    // Its user wants it here, whoever has it.
    #takes = false;
    #isElsewhere = false;
    #stage;
    #channel = null;
    #heartbeat = null;
    #state = "";
    #ending = null;
    #established = false;
    #attempt = 0;
    // Why the machine has no console, while the page waits for it to start.
    #asleep = "";
    #connectedAt = 0;
    // Keys that were down when a connection was cut: the machine goes on seeing them pressed.
    #stuck = new Map();
    #timers = new Set();

    /**
     * @param {{url: string, token: string, stage: HTMLElement, binding?: Binding,
     *     opening?: Promise<Channel|null>, turn?: Turn, keeper?: {keep, forget},
     *     resumes?: boolean}} options an empty `url` is refused in words; `stage` takes the screen;
     *     `opening`: the first connection, begun before and held; `turn`: settles which tab has the
     *     console; `keeper`: keeps the token through a reload; `resumes`: *token* is one that was
     *     kept to reconnect with
     */
    constructor({
        url, token, stage, binding = new Binding(), opening = null, turn = null, keeper = null,
        resumes = false,
    }) {
        super();
        this.#turn = turn;
        this.#keeper = keeper;
        this.#resumes = this.#established = this.#keyIsKept = resumes;
        turn?.addEventListener("lost", () => this.#leave());
        this.#binding = binding;
        this.#opening = opening;
        this.#url = url;
        this.#token = token;
        this.#stage = stage;
        onWake(() => this.#hurry());
        window.addEventListener("pagehide", () => this.rfb?.releaseKeys());
    }

    get state() {
        return this.#state;
    }

    get fit() {
        return this.#fit;
    }

    set fit(on) {
        this.#fit = on;
        if (this.rfb) this.rfb.scaleViewport = on;
    }

    /** Connect, or connect now instead of later. */
    retry() {
        if (this.#state === "connecting" || this.#state === "connected") return;
        if (this.#state === "ended") {
            this.#attempt = 0;
            this.#asleep = "";
            this.#takes = this.#isElsewhere;
        }
        this.#open();
    }

    // Another tab has been asked for it.
    #leave() {
        const ending = { key: "other-tab", elsewhere: true, outcome: OFFER };
        if (this.#channel) {
            this.#ending = ending;
            this.rfb?.releaseKeys();
            this.#channel.close();
        } else if (this.#state !== "ended") {
            this.#finish(ending);
        }
    }

    // The network is back, somebody looks again, or the computer has woken: no reason to wait.
    #hurry() {
        if (this.#state !== "waiting" || document.visibilityState !== "visible") return;
        this.#attempt = Math.min(this.#attempt, 1);
        this.retry();
    }

    /** End the console because its user wants it. */
    disconnect() {
        if (this.#channel) {
            this.#ending = { byUser: true, outcome: OFFER };
            this.rfb?.releaseKeys();
            this.#channel.close();
        } else if (this.#state === "waiting" || this.#state === "connecting") {
            this.#finish({ byUser: true, outcome: OFFER });
        }
    }

    #open() {
        this.#clearTimers();
        this.#ending = null;
        if (!this.#url) {
            this.#finish({ key: "other-server", outcome: FINAL });
            return;
        }
        if (!isSendable(this.#token)) {
            this.#finish({ key: "not-accepted", outcome: FINAL });
            return;
        }
        this.#isElsewhere = false;
        this.#keep();
        this.#enter("connecting");
        this.#after(SLOW_AFTER, () => this.#enter("connecting", { slow: true }));
        this.#after(this.#established ? LATER_LIMIT : FIRST_LIMIT, () => {
            this.#ending = { key: "timed-out", code: 1006 };
            this.#channel?.close();
        });
        void this.#connect();
    }

    async #connect() {
        const opening = this.#opening;
        this.#opening = null;
        const early = await opening;
        await this.#turn?.take(this.#token);
        const offers = early ? [] : await this.#binding.offers(this.#token, this.#resumes);
        // To one that asks again the proxy tells what it knows; for others it asks vCenter.
        if (this.#asleep) offers.push("mks.wait");
        if (this.#takes) offers.push("mks.take");
        // Whoever pressed the button for leaving meanwhile has left.
        if (this.#state !== "connecting" || this.#channel) {
            early?.close();
            return;
        }
        const channel = early ?? new Channel(this.#url, this.#token, offers);
        this.#channel = channel;
        channel.addEventListener("control", (event) => this.#control(event.detail));
        channel.addEventListener("data", () => this.#showScreen());
        channel.addEventListener("broken", () => this.#breakOff("screen-broken"));
        channel.addEventListener("closed", (event) => this.#closed(event.detail));
        early?.release();
    }

    // Unknown types and fields are left alone: a newer server may send them.
    #control(message) {
        if (typeof message.resume === "string") this.#renew(message.resume);
        if (typeof message.now === "number") this.#binding.synchronise(message.now);
        if (message.type === "resume" && typeof message.token === "string") {
            this.#renew(message.token);
        } else if (message.type === "hello") {
            this.viewOnly = message.mode === "view";
            if (this.rfb) this.rfb.viewOnly = this.viewOnly;
            this.#emit("facts", factsOf(message));
            if (message.name && typeof message.name === "string") {
                this.#emit("machine", message.name);
            }
            this.#showScreen();
            void this.#keepKey();
            // An older proxy takes no text from a page.
            if (message.beat) this.#watch();
        } else if (message.type === "beat") {
            this.#heartbeat?.answered(message.id);
        } else if (message.type === "notice") {
            this.#notice(message);
        } else if (message.type === "end") {
            this.#ending = {
                reason: String(message.reason ?? ""),
                message: String(message.message ?? ""),
                retry: message.retry,
                after: message.after,
                facts: factsOfEnd(message),
            };
            this.#emit("whereabouts", factsOf(message));
            if (message.facts?.machine) this.#emit("machine", String(message.facts.machine));
            this.#after(END_GRACE, () => this.#channel?.close());
        }
    }

    #watch() {
        const heartbeat = new Heartbeat(this.#channel);
        this.#heartbeat = heartbeat;
        heartbeat.addEventListener("beat", (event) => this.#emit("beat", event.detail));
        heartbeat.addEventListener("silent", (event) => this.#emit("silent", event.detail));
        heartbeat.addEventListener("heard", () => this.#emit("heard"));
        heartbeat.addEventListener("dead", () => {
            this.#ending ??= { key: "silent", code: 1006 };
            this.#channel?.close();
        });
        heartbeat.start();
    }

    #renew(token) {
        if (!token) return;
        this.#token = token;
        this.#resumes = true;
        this.#keep();
        void this.#turn?.take(token); // a link of Nova's own does not tell whose console it is
    }

    #keep() {
        if (!this.#keeper) return;
        // A token is nothing without its key, and not every page has one.
        const facts = { token: this.#token, resumes: this.#resumes, ...this.#binding.facts };
        this.isKept = this.#keeper.keep(facts) && this.#resumes && this.#keyIsKept;
    }

    async #keepKey() {
        if (this.#keeper) this.#keyIsKept = await this.#binding.keep();
        this.#keep();
    }

    #notice(message) {
        if (message.notice === "draining") {
            // Not all pages at once, not before load balancers have noticed, and before the node
            // begins to end what is left, which it does in the second half of its time.
            const time = Math.max(0, Number(message.in) || 0) * 1000;
            this.#after(time * (0.1 + 0.4 * Math.random()), () => {
                this.#ending = { reason: "server-draining", moving: true };
                this.rfb?.releaseKeys();
                this.#channel.close();
            });
        }
        this.#emit("notice", message);
    }

    // noVNC gets the channel only when there is something to see: an `end` in place of a console
    // would be an error to it.
    #showScreen() {
        if (this.rfb) return;
        const rfb = new Host(this.#stage, this.#channel, { shared: true });
        this.rfb = rfb;
        rfb.background = "transparent";
        rfb.viewOnly = this.viewOnly;
        rfb.resizeSession = false;
        // Some machines hide their pointer, and some hosts leave drawing it to us.
        rfb.showDotCursor = true;
        rfb.scaleViewport = this.#fit;
        rfb.addEventListener("connect", () => this.#connected());
        rfb.addEventListener("desktopname", (event) => this.#emit("name", event.detail.name));
        rfb.addEventListener("key", () => this.#emit("key"));
        rfb.addEventListener("scancodes", () => this.#emit("scancodes"));
        rfb.addEventListener("character", (event) => this.#emit("character", event.detail));
        rfb.addEventListener("unusable", () => this.#breakOff("no-client"));
        rfb.addEventListener("credentialsrequired", () => this.#breakOff("password-wanted"));
        rfb.addEventListener("securityfailure", (event) => {
            const { reason } = event.detail;
            const key = reason ? "console-refused-because" : "console-refused";
            this.#ending ??= { key, facts: { reason }, outcome: OFFER };
        });
    }

    #connected() {
        this.#clearTimers();
        this.#established = true;
        this.#asleep = "";
        this.#takes = false;
        this.#connectedAt = performance.now();
        this.#releaseStuckKeys();
        this.#stage.querySelector(".still")?.remove();
        this.#enter("connected");
    }

    #releaseStuckKeys() {
        const { rfb } = this;
        if (!this.#stuck.size) return;
        // With its first picture the host has said how it takes keys.
        const release = () => {
            rfb.removeEventListener("update", release);
            rfb.releaseKeys(this.#stuck);
            this.#stuck.clear();
        };
        rfb.addEventListener("update", release);
    }

    #breakOff(key) {
        this.#ending ??= { key, outcome: OFFER };
        this.#channel?.close();
    }

    async #closed({ code, opened, local }) {
        this.#clearTimers();
        const wasConnected = this.#state === "connected";
        for (const [code, keysym] of this.rfb?.heldKeys ?? []) this.#stuck.set(code, keysym);
        this.rfb = null;
        this.#channel = null;
        if (wasConnected && performance.now() - this.#connectedAt > STABLE) this.#attempt = 0;

        // noVNC closes the connection itself when it does not understand what it reads.
        const ending = this.#ending ?? (local ? { key: "screen-broken", outcome: OFFER } : {});
        ending.code ??= code;
        // Who has waited for a machine to start is as far as who has seen it.
        ending.established =
            this.#established || Boolean(this.#asleep) || Boolean(this.#turn?.moved);
        if (wasConnected && this.#outcome(ending) === AUTOMATIC) this.#keepPicture();
        if (!opened && !ending.key && !ending.reason && !ending.byUser) {
            Object.assign(ending, await this.#whyRefused(ending.established));
            if (this.#state !== "connecting") return;
        }
        this.#finish(ending);
    }

    async #whyRefused(established) {
        const why = await whyRefused(this.#url, this.#token);
        const { key, facts } = why;
        const before = this.#binding.now;
        this.#binding.synchronise(why.time);
        // The computer's clock was set meanwhile, and the proof had another time than the proxy.
        const isOff = this.#resumes && Math.abs(this.#binding.now - before) > CLOCK_IS_OFF;
        if (why.isTaken && isOff) return { key: "unreachable", outcome: AUTOMATIC };
        if (why.isFinal) {
            const { max, exp } = claimsOf(this.#token);
            const { now } = this.#binding;
            if (now >= max) return { reason: "lifetime-reached", outcome: FINAL };
            if (now >= exp) return { key: "expired", outcome: FINAL };
            return { key, facts, outcome: FINAL };
        }
        return { key, facts, outcome: established ? AUTOMATIC : OFFER };
    }

    #outcome(ending) {
        return ending.outcome ?? policy(ending);
    }

    #finish(ending) {
        let outcome = this.#outcome(ending);
        let { elsewhere } = ending;
        if (outcome === AUTOMATIC && ending.reason === "connection-limit") {
            elsewhere = this.#attempt >= TAKEN_AFTER;
            if (elsewhere) outcome = OFFER;
        }
        const facts = {
            ending,
            moving: Boolean(ending.moving),
            byUser: Boolean(ending.byUser),
            elsewhere: Boolean(elsewhere),
        };
        if (outcome === AUTOMATIC) {
            this.#asleep = "";
            this.#attempt += 1;
            const pause = backOff(this.#attempt, ending);
            this.#enter("waiting", { ...facts, at: performance.now() + pause });
            this.#after(pause, () => this.#open());
            return;
        }
        if (outcome === WAIT) {
            this.#waitForStart(ending, facts);
            return;
        }
        this.#asleep = "";
        this.#isElsewhere = facts.elsewhere;
        this.#turn?.release();
        if (outcome === FINAL) this.#keeper?.forget();
        this.#clearTimers();
        this.#stage.querySelector(".still")?.remove();
        this.#enter("ended", { ...facts, offer: outcome !== FINAL });
    }

    #waitForStart({ reason, after }, facts) {
        this.#clearTimers();
        this.#attempt = 0;
        const isTold = this.#asleep === reason;
        this.#asleep = reason;
        this.#stage.querySelector(".still")?.remove();
        this.#state = "waiting";
        if (!isTold) this.#enter("waiting", { ...facts, asleep: reason });
        const pause = Number.isFinite(after) ? after * 1_000 : PAUSE;
        // Nobody looks at a page that is hidden; it asks as soon as somebody does.
        this.#after(pause * (0.9 + 0.2 * Math.random()), () => {
            if (document.visibilityState === "visible") this.#open();
        });
    }

    #enter(state, facts = {}) {
        this.#state = state;
        // The questions while a machine is off are nothing that a person has to see.
        if (state === "connecting" && this.#asleep && !facts.slow) return;
        this.#emit("change", { state, attempt: this.#attempt, established: this.#established, ...facts });
    }

    #keepPicture() {
        const screen = this.#stage.querySelector("canvas:not(.still)");
        if (!screen?.width || !screen.height) return;
        const still = document.createElement("canvas");
        still.className = "still";
        still.width = screen.width;
        still.height = screen.height;
        still.getContext("2d").drawImage(screen, 0, 0);
        this.#stage.querySelector(".still")?.remove();
        this.#stage.append(still);
    }

    #after(milliseconds, action) {
        const timer = setTimeout(() => {
            this.#timers.delete(timer);
            action();
        }, milliseconds);
        this.#timers.add(timer);
    }

    #clearTimers() {
        for (const timer of this.#timers) clearTimeout(timer);
        this.#timers.clear();
    }

    #emit(name, detail) {
        this.dispatchEvent(new CustomEvent(name, { detail }));
    }
}

// What an operator asks for; a proxy of another release may not tell all of it.
function factsOf(message) {
    const facts = ["session", "request", "node"].map((name) => [name, message[name]]);
    return Object.fromEntries(facts.filter(([, value]) => typeof value === "string"));
}

// What stands for the facts in the words of an end: numbers, and names as one line.
function factsOfEnd({ facts, node }) {
    const told = { node, ...(typeof facts === "object" ? facts : null) };
    const known = {};
    for (const name of ["limit", "seconds"]) if (told[name] >= 0) known[name] = Number(told[name]);
    if (told.node && typeof told.node === "string") known.node = asName(told.node);
    return known;
}
