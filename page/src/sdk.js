// VMware's HTML Console SDK in the place of noVNC (`console_client = wmks`), by its documented API
// alone. Nothing of it is shipped: the page finds `WMKS` as the operator has put it beside us.
//
// The SDK opens a WebSocket of its own, with neither our token nor our control channel. So the one
// that it opens is the page's channel, under the standard interface of a WebSocket: it gets the
// bytes of the console in the messages in which the host sent them, and nothing else.

import { characterOf } from "./characters.js";

const KEYBOARD_LAYOUTS = {
    de: "de-DE", "de-ch": "de-CH", es: "es-ES", fr: "fr-FR", "fr-ch": "fr-CH", it: "it-IT",
    ja: "ja-JP_106/109", "pt-pt": "pt-PT",
};
// KeyboardEvent.keyCode, which `sendKeyCodes` takes, by KeyboardEvent.code.
const KEY_CODES = {
    Backspace: 8, Tab: 9, Enter: 13, ShiftLeft: 16, ControlLeft: 17, AltLeft: 18, Pause: 19,
    CapsLock: 20, Escape: 27, Space: 32, PageUp: 33, PageDown: 34, End: 35, Home: 36, ArrowLeft: 37,
    ArrowUp: 38, ArrowRight: 39, ArrowDown: 40, PrintScreen: 44, Insert: 45, Delete: 46, MetaLeft: 91,
    ...Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`F${n + 1}`, 112 + n])),
};

let number = 0;
// The channels that the SDK has been told to connect to, by URL.
const waiting = new Map();

/** The page's channel as the SDK's WebSocket. */
class Socket extends EventTarget {
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;
    binaryType = "blob";
    protocol = "binary";
    extensions = "";
    CONNECTING = 0;
    OPEN = 1;
    CLOSING = 2;
    CLOSED = 3;
    #channel;
    #open = false;
    #held = [];

    constructor(channel, url) {
        super();
        this.#channel = channel;
        this.url = url;
    }

    /** Tell the SDK of its connection, and of what has come since. */
    begin() {
        this.#open = true;
        this.#tell(new Event("open"));
        for (const event of this.#held.splice(0)) this.#tell(event);
    }

    hear(event) {
        const data = this.binaryType === "blob" ? new Blob([event.data]) : event.data;
        this.#later(new MessageEvent("message", { data }));
    }

    end({ code, reason }) {
        this.#later(new CloseEvent("close", { code, reason, wasClean: code !== 1006 }));
    }

    #later(event) {
        if (this.#open) this.#tell(event);
        else this.#held.push(event);
    }

    #tell(event) {
        this.dispatchEvent(event);
        this[`on${event.type}`]?.(event);
    }

    get readyState() {
        return this.#open ? this.#channel.readyState : WebSocket.CONNECTING;
    }

    get bufferedAmount() {
        return this.#channel.bufferedAmount;
    }

    send(data) {
        this.#channel.send(data);
    }

    close() {
        this.#channel.close();
    }
}

window.WebSocket = new Proxy(WebSocket, {
    construct(Native, [url, protocols], target) {
        const begin = waiting.get(String(url));
        waiting.delete(String(url));
        return begin ? begin() : Reflect.construct(Native, [url, protocols], target);
    },
});

/**
 * The console's client, with what the page uses of noVNC's.
 *
 * Events: `connect`; `key` (somebody pressed one); `update` (something came from the host; detail:
 * {pixels}); `character` (a keyboard without keys gave one; detail: {character});
 * `credentialsrequired`; `unusable` (the SDK is not there, or gave up).
 */
export class Host extends EventTarget {
    /** It takes every key that it can be asked for. */
    takesScanCodes = true;
    guestCapsLock = null;
    /** Let go of by the SDK itself. */
    heldKeys = new Map();
    // What the page sets, and the SDK has no part in.
    background = "";
    resizeSession = false;
    showDotCursor = true;
    #wmks = null;
    #box = document.createElement("div");
    #sizes = new ResizeObserver(() => this.#wmks?.updateScreen());
    #modifiers = new Set();
    // Something was pressed with them.
    #used = false;
    #fits = true;

    constructor(stage, channel) {
        super();
        number += 1;
        this.#box.id = `sdk-${number}`;
        this.#box.className = "sdk";
        this.#box.tabIndex = -1;
        this.#box.addEventListener("keydown", ({ code }) => this.#emit("key", { code }), true);
        stage.append(this.#box);
        const url = `${channel.url}#${number}`;
        const early = [];
        let socket = null;
        channel.onmessage = (event) => {
            if (socket) socket.hear(event);
            else early.push(event);
            this.#emit("update", { pixels: true });
        };
        channel.onclose = (event) => {
            waiting.delete(url);
            const wmks = this.#wmks;
            // What the SDK says of its end from here on is nothing new.
            this.#wmks = null;
            socket?.end(event);
            this.#destroy(wmks);
        };
        waiting.set(url, () => {
            socket = new Socket(channel, url);
            for (const event of early.splice(0)) socket.hear(event);
            setTimeout(() => this.#wmks && socket.begin());
            return socket;
        });
        try {
            this.#start(url);
        } catch (error) {
            console.error("console:", error);
            queueMicrotask(() => this.#emit("unusable"));
        }
    }

    #start(url) {
        const { WMKS } = window;
        const { Events, ConnectionState, Position, ErrorType = {} } = WMKS.CONST;
        this.#wmks = WMKS.createWMKS(this.#box.id, {
            rescale: this.#fits,
            changeResolution: false,
            position: Position.CENTER,
            // The page itself comes back, and knows when to.
            retryConnectionInterval: -1,
            keyboardLayoutId: keyboardLayout(navigator.language),
        });
        this.#wmks.register(Events.CONNECTION_STATE_CHANGE, (_, { state }) => {
            if (state === ConnectionState.CONNECTED) this.#emit("connect");
            else if (state === ConnectionState.DISCONNECTED && this.#wmks) this.#emit("unusable");
        });
        this.#wmks.register(Events.ERROR, (_, { errorType }) => {
            const wantsPassword = errorType && errorType === ErrorType.AUTHENTICATION_FAILED;
            if (this.#wmks) this.#emit(wantsPassword ? "credentialsrequired" : "unusable");
        });
        this.#wmks.connect(url);
        this.#sizes.observe(this.#box);
    }

    #destroy(wmks) {
        this.#sizes.disconnect();
        try {
            wmks?.destroy();
        } catch (error) {
            console.warn("console:", error);
        }
        this.#box.remove();
    }

    get viewOnly() {
        return this.#box.inert;
    }

    /** No key and no pointer reaches the SDK; the proxy passes none on either. */
    set viewOnly(on) {
        this.#box.inert = on;
    }

    set scaleViewport(on) {
        this.#fits = on;
        this.#wmks?.setOption("rescale", on);
        this.#wmks?.updateScreen();
    }

    focus(options) {
        const screen = this.#box.querySelector("canvas");
        (screen?.tabIndex >= 0 ? screen : this.#box).focus(options);
    }

    sendCtrlAltDel() {
        if (!this.viewOnly) this.#wmks?.sendCAD();
    }

    /** Press the keys of *codes* in order, release them in reverse. */
    sendChord(codes) {
        const keys = [...this.#modifiers, ...codes].map(keyCode);
        if (!this.viewOnly && keys.every(Boolean)) this.#wmks?.sendKeyCodes(keys);
    }

    /** A key goes down and up with those that were down before: the SDK takes chords. */
    sendKey(keysym, code, down) {
        if (!code) {
            if (down && keysym) this.#emit("character", { character: characterOf(keysym) });
        } else if (/^(Control|Alt|Shift|Meta)Left$/.test(code)) {
            // One that is let go of with nothing pressed meanwhile was pressed alone.
            if (down) this.#modifiers.add(code);
            else if (this.#modifiers.delete(code) && !this.#used) this.sendChord([code]);
            if (down) this.#used = false;
        } else if (down !== false) {
            this.#used = true;
            this.sendChord([code]);
        }
    }

    /** Type *text*, as far as the SDK's own keyboard has it. */
    sendText(text) {
        if (!this.viewOnly) this.#wmks?.sendInputString(text);
    }

    releaseKeys() {
        this.#modifiers.clear();
    }

    /** The SDK tells nothing of what the host has read: taken for an answer at once. */
    ask() {
        queueMicrotask(() => this.#emit("update", { pixels: false }));
    }

    #emit(type, detail = {}) {
        this.dispatchEvent(new CustomEvent(type, { detail }));
    }
}

function keyCode(code) {
    const [, printed] = /^(?:Key|Digit)(.)$/.exec(code) ?? [];
    return KEY_CODES[code] ?? printed?.charCodeAt(0);
}

function keyboardLayout(language) {
    const tag = language.toLowerCase();
    return KEYBOARD_LAYOUTS[tag] ?? KEYBOARD_LAYOUTS[tag.split("-")[0]] ?? "en-US";
}
