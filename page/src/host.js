// noVNC's client, taught VMware's part of RFB. The names of noVNC that its documentation does not
// have stand in this module alone.
//
// A host turns RFB's keysyms into scan codes by a US map, whatever layout its guest has. So a key
// travels as its scan code where the host takes those: in VMware's message (type 127) or in QEMU's
// (255). Where it takes neither, the keysym is the one that a US keyboard has on this key, and the
// host's map makes the right scan code of it.

import RFB from "@novnc/novnc";

import scanCodes from "../node_modules/@novnc/novnc/core/input/xtscancodes.js";
import { characterOf } from "./characters.js";
import { keysymOf, usKeysym } from "./keys.js";
import { Zoom } from "./zoom.js";

// Pseudo-encodings: which of VMware's messages the host takes, and the lights of its keyboard.
const CAPABILITIES = 0x574d567a;
const LIGHTS = 0x574d5668;

const VMWARE = 127;
const HEADER = 4;
const SERVER_CAPABILITIES = 0;
const KEY_EVENT = 0;
const TAKES_KEYS = 2;
const NUM_LOCK = 2;
const CAPS_LOCK = 4;

const clientEncodings = RFB.messages.clientEncodings;
RFB.messages.clientEncodings = (sock, encodings) =>
    clientEncodings(sock, [...encodings, CAPABILITIES, LIGHTS]);

// Set 1, with bit 8 for the prefix E0. Keys that are not as in QEMU's table: Pause (which has
// codes of its own on a real keyboard), Print Screen, F13 and higher, and Korea's two.
const VMWARE_CODES = {
    Pause: 0x100, PrintScreen: 0x137, Lang1: 0xf2, Lang2: 0xf1, F24: 0x76,
    ...Object.fromEntries(Array.from({ length: 11 }, (_, n) => [`F${13 + n}`, 0x64 + n])),
};
function vmwareCode(code) {
    const scan = scanCodes[code];
    return VMWARE_CODES[code] ?? (scan >> 8 === 0xe0 ? 0x100 | (scan & 0xff) : scan);
}

/**
 * Events beside noVNC's own: `update` (the host answered; detail: {pixels}), `key` (somebody
 * pressed a key), `character` (a keyboard without keys gave one; detail: {character}), `lights`,
 * `scancodes` (the host has said that it takes them).
 */
export class Host extends RFB {
    // What the host believes to be down: keysym by `KeyboardEvent.code`.
    #held = new Map();
    #takesKeys = false;
    #capsLock = false;
    #pixels = false;
    #zoom;
    #gesture = null;
    /** Caps Lock as the guest has it; null when the host does not tell. */
    guestCapsLock = null;

    constructor(...options) {
        super(...options);
        // noVNC lets go of all keys when the window loses the focus, but not for a button of ours.
        this._canvas.addEventListener("blur", () => this.releaseKeys());
        this.#zoom = new Zoom(this._canvas);
        // Fingers that pinch find room beside a small picture too.
        this._gestures.attach(this._screen);
        for (const type of ["gesturestart", "gesturemove", "gestureend"]) {
            this._screen.addEventListener(type, (event) => this._handleGesture(event));
        }
    }

    /** Whether the host takes scan codes, and so every key. */
    get takesScanCodes() {
        return this.#takesKeys || this._qemuExtKeyEventSupported;
    }

    /** Keysyms of the keys that are down, by `KeyboardEvent.code`. */
    get heldKeys() {
        return new Map(this.#held);
    }

    /**
     * Let go of every key.
     *
     * @param {Iterable<[string, number]>} more keys that an earlier connection left down
     */
    releaseKeys(more = []) {
        this._keyboard._allKeysUp();
        for (const [code, keysym] of [...this.#held, ...more]) this.sendKey(keysym, code, false);
    }

    /** Press the keys of *codes* in order, release them in reverse. */
    sendChord(codes) {
        for (const code of codes) this.sendKey(keysymOf(code), code, true);
        for (const code of [...codes].reverse()) this.sendKey(keysymOf(code), code, false);
    }

    /** Ask for a pixel: the host answers after all that it was sent before, with an `update`. */
    ask() {
        if (this._rfbConnectionState === "connected") {
            RFB.messages.fbUpdateRequest(this._sock, false, 0, 0, 1, 1);
        }
    }

    sendKey(keysym, code, down) {
        if (this._rfbConnectionState !== "connected" || this.viewOnly) return;
        if (down === undefined) {
            this.sendKey(keysym, code, true);
            this.sendKey(keysym, code, false);
            return;
        }
        const scan = vmwareCode(code);
        if (!scan) {
            this.#sendCharacter(keysym, down);
            return;
        }
        const us = down ? this.#usKeysym(keysym, code) : (this.#held.get(code) ?? keysym);
        if (down) this.#held.set(code, us);
        else this.#held.delete(code);
        if (this.#takesKeys) this.#sendScanCode(scan, down);
        else super.sendKey(this._qemuExtKeyEventSupported ? keysym || us : us, code, down);
    }

    #usKeysym(keysym, code) {
        const shift = this.#held.has("ShiftLeft") || this.#held.has("ShiftRight");
        return usKeysym(code, shift, this.#capsLock) ?? keysym;
    }

    // On-screen keyboards have characters, but no keys.
    #sendCharacter(keysym, down) {
        if (down && keysym) {
            this.dispatchEvent(new CustomEvent("character", { detail: { character: characterOf(keysym) } }));
        }
    }

    #sendScanCode(scan, down) {
        this._sock.sQpush8(VMWARE);
        this._sock.sQpush8(KEY_EVENT);
        this._sock.sQpush16(8);
        this._sock.sQpush16(scan);
        this._sock.sQpush8(down ? 1 : 0);
        this._sock.sQpush8(0);
        this._sock.flush();
    }

    _handleKeyEvent(keysym, code, down, numlock = null, capslock = null) {
        if (capslock !== null) this.#capsLock = capslock;
        if (down) this.dispatchEvent(new CustomEvent("key", { detail: { code } }));
        super._handleKeyEvent(keysym, code, down, numlock, capslock);
    }

    // noVNC turns a pinch into Ctrl and the wheel; here it brings the picture nearer, and two
    // fingers then move it. All else is noVNC's: tap, two-finger tap (right), drag, long press,
    // and two fingers that scroll.
    _handleGesture(event) {
        const { type, clientX, clientY, magnitudeX = 0, magnitudeY = 0 } = event.detail;
        if (event.type === "gesturestart") {
            const kind = type === "twodrag" && this.#zoom.scale > 1 ? "pan" : type;
            const distance = Math.max(1, Math.hypot(magnitudeX, magnitudeY));
            const on = this._canvas.getBoundingClientRect();
            const isInside =
                clientX >= on.left && clientX < on.right && clientY >= on.top && clientY < on.bottom;
            this.#gesture = { kind, distance, scale: this.#zoom.scale, x: 0, y: 0, isInside };
        }
        const gesture = this.#gesture;
        if (gesture.kind === "pinch") {
            const distance = Math.hypot(magnitudeX, magnitudeY);
            this.#zoom.to((gesture.scale * distance) / gesture.distance, clientX, clientY);
        } else if (gesture.kind === "pan") {
            this.#zoom.by(magnitudeX - gesture.x, magnitudeY - gesture.y);
            Object.assign(gesture, { x: magnitudeX, y: magnitudeY });
        } else if (gesture.isInside) {
            super._handleGesture(event);
        }
    }

    _sendMouse(x, y, mask) {
        super._sendMouse(x / this.#zoom.scale, y / this.#zoom.scale, mask);
    }

    _normalMsg() {
        if (this._FBU.rects > 0 || this._sock.rQpeek8() !== VMWARE) return super._normalMsg();
        if (this._sock.rQwait("VMware header", HEADER)) return false;
        const [, kind, high, low] = this._sock.rQpeekBytes(HEADER);
        const length = (high << 8) | low;
        if (length < HEADER) throw new Error(`VMware message ${kind} of ${length} bytes`);
        if (this._sock.rQwait("VMware message", length)) return false;
        this._sock.rQskipBytes(HEADER);
        const body = this._sock.rQshiftBytes(length - HEADER);
        if (kind === SERVER_CAPABILITIES && body.length >= 4) {
            this.#takesKeys = Boolean(body[3] & TAKES_KEYS);
            this.dispatchEvent(new CustomEvent("scancodes"));
        }
        return true;
    }

    _framebufferUpdate() {
        const done = super._framebufferUpdate();
        if (done) {
            const detail = { pixels: this.#pixels };
            this.#pixels = false;
            this.dispatchEvent(new CustomEvent("update", { detail }));
        }
        return done;
    }

    _handleRect() {
        if (this._FBU.encoding !== LIGHTS) {
            const before = this._qemuExtKeyEventSupported;
            const done = super._handleRect();
            if (this._qemuExtKeyEventSupported !== before) {
                this.dispatchEvent(new CustomEvent("scancodes"));
            }
            return done;
        }
        if (this._sock.rQwait("lights", 4)) return false;
        const lights = this._sock.rQshift32();
        this.#setLights(Boolean(lights & NUM_LOCK), Boolean(lights & CAPS_LOCK));
        return true;
    }

    _handleDataRect() {
        // The one pixel of `ask` is an answer, and no change.
        this.#pixels ||= this._FBU.width * this._FBU.height > 1;
        return super._handleDataRect();
    }

    // QEMU's lights.
    _handleLedEvent() {
        const done = super._handleLedEvent();
        if (done) this.#setLights(this._remoteNumLock, this._remoteCapsLock);
        return done;
    }

    #setLights(numLock, capsLock) {
        this._remoteNumLock = numLock;
        this._remoteCapsLock = capsLock;
        this.guestCapsLock = capsLock;
        this.dispatchEvent(new CustomEvent("lights"));
    }
}
