// <mks-console>: a console in somebody else's page. mks-console.d.ts says what it promises.

import { consoleAt } from "./address.js";
import { WayOut } from "./way-out.js";
import { isKey } from "./keys.js";
import { Keymap, SYSTEMS } from "./keymap.js";
import { layout as layoutOf, layoutFor } from "./layouts.js";
import { Session } from "./session.js";
import { CUT, STOPPED, typeText } from "./typing.js";
import { t, why } from "./words.js";

const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
:host { display: block; position: relative; overflow: hidden; min-height: 240px; background: #000; color: #e7ecf3; }
:host([hidden]) { display: none; }
.stage { position: absolute; inset: 0; display: flex; touch-action: none; }
.stage > * { flex: 1; min-width: 0; }
.still { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; opacity: .35; filter: grayscale(1); }
.status { position: absolute; inset: 0; display: grid; place-content: center; margin: 0; padding: 1em;
  text-align: center; white-space: pre-line; overflow-wrap: anywhere; pointer-events: none; }
.status:empty { display: none; }
`);
// Reasons for which a machine has no console.
const POWER = { "powered-off": "off", suspended: "suspended" };

class MksConsole extends HTMLElement {
    #stage = document.createElement("div");
    #status = document.createElement("p");
    #session = null;
    #state = "idle";
    #name = "";
    #power = "unknown";
    #fit = true;
    #typing = null;
    #layout = layoutFor(navigator.languages).id;
    #system = SYSTEMS[0];

    constructor() {
        super();
        const root = this.attachShadow({ mode: "open" });
        root.adoptedStyleSheets = [STYLE];
        this.#stage.className = "stage";
        this.#status.className = "status";
        this.#status.part = "status";
        this.#status.role = "status";
        root.append(this.#stage, this.#status);
        const wayOut = new WayOut(root);
        root.addEventListener("keydown", (event) => {
            if (!wayOut.isTaken(event)) return;
            event.preventDefault();
            event.stopPropagation();
            this.blur();
            this.#emit("leave");
        }, { capture: true });
    }

    disconnectedCallback() {
        // An element that is moved is back by then.
        queueMicrotask(() => {
            if (!this.isConnected) this.disconnect();
        });
    }

    get state() {
        return this.#state;
    }

    get name() {
        return this.#name;
    }

    get powerState() {
        return this.#power;
    }

    get viewOnly() {
        return Boolean(this.#session?.viewOnly);
    }

    get fit() {
        return this.#fit;
    }

    set fit(on) {
        this.#fit = Boolean(on);
        if (this.#session) this.#session.fit = this.#fit;
    }

    get layout() {
        return this.#layout;
    }

    set layout(id) {
        if (!layoutOf(id)) throw new RangeError(`no keyboard layout ${id}`);
        this.#layout = id;
    }

    get system() {
        return this.#system;
    }

    set system(id) {
        if (!SYSTEMS.includes(id)) throw new RangeError(`no system ${id}`);
        this.#system = id;
    }

    connect(link) {
        const { url, token } = consoleAt(link);
        this.disconnect();
        this.#name = "";
        const session = new Session({ url, token, stage: this.#stage });
        this.#session = session;
        session.fit = this.#fit;
        // What an earlier session still says is of no interest.
        const on = (type, listener) =>
            session.addEventListener(type, ({ detail }) => {
                if (this.#session === session) listener(detail);
            });
        on("change", (detail) => this.#changed(detail));
        on("name", (detail) => this.#rename(this.#name || detail.name));
        on("machine", (detail) => this.#rename(detail));
        on("notice", (detail) => {
            if (detail.notice === "lifetime") this.#emit("lifetime", { seconds: detail.in });
            if (detail.notice === "question") this.#emit("question", { text: String(detail.text) });
        });
        on("beat", (milliseconds) => this.#emit("beat", { milliseconds }));
        on("character", ({ character }) => {
            for (const codes of this.#keymap().chords(character) ?? []) session.rfb?.sendChord(codes);
        });
        session.retry();
    }

    reconnect() {
        this.#session?.retry();
    }

    disconnect() {
        this.#session?.disconnect();
    }

    focus(options) {
        if (this.#session?.rfb) this.#session.rfb.focus(options);
        else super.focus(options);
    }

    blur() {
        this.#session?.rfb?.blur();
    }

    sendKeys(...codes) {
        const host = this.#open();
        const unknown = codes.find((code) => !isKey(code));
        if (unknown !== undefined) throw new RangeError(`no key ${unknown}`);
        host.sendChord(codes);
    }

    async sendText(text, { slow = false, signal } = {}) {
        const host = this.#open();
        if (this.#typing) throw new DOMException("text is being typed", "InvalidStateError");
        const keymap = this.#keymap();
        const characters = Array.from(text.normalize("NFC").replaceAll("\r\n", "\n"));
        const strokes = characters.map((character) => keymap.chords(character));
        const missing = [...new Set(characters.filter((_, at) => !strokes[at]))];
        if (missing.length) {
            throw new RangeError(`not on the keyboard ${this.#layout}: ${missing.join(" ")}`);
        }
        const stop = new AbortController();
        const stopped = () => stop.abort(STOPPED);
        if (signal?.aborted) stopped();
        signal?.addEventListener("abort", stopped);
        this.#typing = stop;
        try {
            const progress = (typed) => this.#emit("typed", { typed, total: strokes.length });
            const done = await typeText(host, strokes, { slow, signal: stop.signal, progress });
            return { typed: done.typed, total: strokes.length, why: done.why };
        } finally {
            signal?.removeEventListener("abort", stopped);
            this.#typing = null;
        }
    }

    screenshot() {
        const screen = this.#stage.querySelector("canvas:not(.still)");
        if (!screen?.width) return Promise.reject(notOpen());
        return new Promise((resolve, reject) => {
            screen.toBlob((picture) => (picture ? resolve(picture) : reject(notOpen())), "image/png");
        });
    }

    #open() {
        if (this.#state !== "connected" || !this.#session.rfb) throw notOpen();
        if (this.viewOnly) throw new DOMException("this console is view-only", "NotAllowedError");
        return this.#session.rfb;
    }

    #keymap() {
        const everyKey = this.#session?.rfb?.takesScanCodes ?? true;
        return new Keymap(layoutOf(this.#layout), this.#system, everyKey);
    }

    #changed({ state, ending = {}, asleep = "", offer = false, byUser = false }) {
        if (state !== "connected") this.#typing?.abort(CUT);
        this.#state = state;
        const isOver = state === "waiting" || state === "ended";
        const reason = byUser || !isOver ? "" : asleep || ending.reason || ending.key || "";
        const message = byUser || !isOver ? "" : why(ending);
        this.#status.textContent = state === "connecting" ? t("connecting") : message;
        const power = state === "connected" ? "on" : POWER[reason];
        if (power && power !== this.#power) {
            this.#power = power;
            this.#emit("power", { powerState: power });
        }
        this.#emit("state", { state, reason, message, canRetry: state === "ended" && offer });
    }

    #rename(name) {
        this.#name = String(name);
        this.#emit("name", { name: this.#name });
    }

    #emit(type, detail = {}) {
        this.dispatchEvent(new CustomEvent(type, { detail }));
    }
}

const notOpen = () => new DOMException("no console is open", "InvalidStateError");

if (!customElements.get("mks-console")) customElements.define("mks-console", MksConsole);

export { MksConsole };
