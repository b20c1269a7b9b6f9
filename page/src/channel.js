// One WebSocket that carries two things: RFB in binary frames, which noVNC gets, and the
// control channel `mks.v1` in text frames, which noVNC must never see.

const CONTROL_PROTOCOL = "mks.v1";
// RFC 6455 section 4.1: a subprotocol is an HTTP token; anything else makes WebSocket() throw.
const HTTP_TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Whether *token* can be sent as a subprotocol at all; no genuine one fails this. */
export const isSendable = (token) => HTTP_TOKEN.test(token);

/**
 * Looks like a WebSocket to noVNC's RFB (see `attach` in its websock.js).
 *
 * Every connection ends with exactly one `closed` event, at once when it was `close()` that
 * ended it: over a dead network the browser would make us wait for the peer's answer.
 *
 * Events: `heard` (something arrived), `control` (detail: object), `data` (before the first RFB bytes), `broken` (noVNC threw
 * over what it read), `closed` (detail: {code, opened, local}).
 */
export class Channel extends EventTarget {
    binaryType = "arraybuffer";
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;
    #socket;
    #opened = false;
    #finished = false;
    #sawData = false;
    // What arrived while nobody listened yet.
    #held = null;

    /** @param {string[]} offers subprotocols that go with the token */
    constructor(url, token, offers = []) {
        super();
        // The token travels as a subprotocol: URLs are what servers on the way write to logs.
        this.#socket = new WebSocket(url, [
            CONTROL_PROTOCOL,
            "binary",
            `mks.token.${token}`,
            ...offers,
        ]);
        this.#socket.binaryType = "arraybuffer";
        this.#socket.onopen = (event) => {
            this.#opened = true;
            this.onopen?.(event);
        };
        this.#socket.onmessage = (event) => this.#pass(() => this.#receive(event));
        this.#socket.onerror = (event) => this.onerror?.(event);
        this.#socket.onclose = (event) => this.#pass(() => this.#finish(event, false));
    }

    /** Keep what arrives until `release()`. */
    hold() {
        this.#held = [];
        return this;
    }

    /** Hand on what was kept, in order. */
    release() {
        while (this.#held?.length) this.#held.shift()();
        this.#held = null;
    }

    #pass(deliver) {
        if (this.#held) this.#held.push(deliver);
        else deliver();
    }

    get url() {
        return this.#socket.url;
    }

    get readyState() {
        return this.#finished ? WebSocket.CLOSED : this.#socket.readyState;
    }

    get protocol() {
        return this.#socket.protocol;
    }

    get bufferedAmount() {
        return this.#socket.bufferedAmount;
    }

    send(data) {
        this.#socket.send(data);
    }

    close() {
        if (this.#finished) return;
        this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
        this.#held &&= [];
        this.#socket.close(1000);
        queueMicrotask(() => this.#finish({ code: 1000, reason: "" }, true));
    }

    #receive(event) {
        this.#emit("heard");
        if (typeof event.data === "string") {
            if (this.protocol === CONTROL_PROTOCOL) this.#control(event.data);
            return;
        }
        if (!this.#sawData) {
            this.#sawData = true;
            this.#emit("data");
        }
        try {
            this.onmessage?.(event);
        } catch (error) {
            // Bytes that make noVNC throw come from the machine's host; they end this console.
            console.error("console:", error);
            this.#emit("broken");
        }
    }

    #control(text) {
        let message = null;
        try {
            message = JSON.parse(text);
        } catch {
            // Falls through: not a message of ours.
        }
        if (message !== null && typeof message === "object") this.#emit("control", message);
        else console.warn("console: unreadable control message ignored");
    }

    #finish(event, local) {
        if (this.#finished) return;
        this.#finished = true;
        this.#emit("closed", { code: event.code, opened: this.#opened, local });
        this.onclose?.(event);
    }

    #emit(name, detail) {
        this.dispatchEvent(new CustomEvent(name, { detail }));
    }
}
